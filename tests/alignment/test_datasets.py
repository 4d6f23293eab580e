"""What a cycle learns from: permitted, split without leaks, named by its content."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment.datasets import (
    DatasetSettings,
    LoadedSnapshot,
    build_snapshot,
    is_held_out,
    load_snapshot,
    question_id,
)
from alignment.errors import RunCancelled, TrainingError
from alignment.rater_records import KnownRaters
from alignment.records import StageProgress
from alignment.snapshot import SnapshotRows
from chatbot.prompt import REFUSAL, cited_numbers, strip_citations
from chatbot.records import Judgement
from knowledge_base.errors import StorageError, UsageError
from knowledge_base.records import DocumentText
from tests.alignment.company import (
    START,
    WordRetrieval,
    allow,
    make_company,
    make_document,
    make_judgement,
    render,
)

COMPANY = make_company()
ASKED = "Who arranges parking permits for visitors?"


def _build(
    out_dir: Path,
    judgements: list[Judgement] | None = None,
    documents: list[DocumentText] | None = None,
    seed: int = 1,
    **changes: Any,
) -> LoadedSnapshot:
    documents = COMPANY if documents is None else documents
    arguments: dict[str, Any] = {
        "prepare": WordRetrieval(documents),
        "render": render,
        "permissions": allow(documents),
        "settings": DatasetSettings(held_out_share=0.4),
    }
    snapshot = build_snapshot(
        judgements or [], documents, out_dir=out_dir, seed=seed, **(arguments | changes)
    )
    return load_snapshot(snapshot.path)


def _only_judged(out_dir: Path, *judgements: Judgement, **changes: Any) -> LoadedSnapshot:
    nothing_held_out = DatasetSettings(held_out_share=0, max_derived=0)
    return _build(out_dir, list(judgements), settings=nothing_held_out, **changes)


def _keys(rows: SnapshotRows) -> set[str]:
    return (
        {r.question_id for r in rows.pairs}
        | {r.question_id for r in rows.judgements}
        | {r.id for r in rows.rollouts}
    )


def _questions(rows: SnapshotRows) -> set[str]:
    return {question_id(prompt.question) for prompt in rows.rollouts}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), picks=st.lists(st.integers(0, 200), max_size=12))
def test_no_question_is_on_both_sides(
    seed: int, picks: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither by id, nor by its words, nor by its prompt, also when people ask what documents ask."""
    every = _build(tmp_path_factory.mktemp("all"), seed=seed, settings=DatasetSettings(held_out_share=0))
    derived = sorted({prompt.question for prompt in every.train.rollouts})
    asked = [derived[pick % len(derived)].upper() if pick % 2 else f"{ASKED} {pick}" for pick in picks]
    judgements = [make_judgement(question, n=n) for n, question in enumerate(asked)]
    loaded = _build(tmp_path_factory.mktemp("split"), judgements, seed=seed)

    assert not _keys(loaded.train) & _keys(loaded.held_out)
    assert not _questions(loaded.train) & _questions(loaded.held_out)
    assert not {row.prompt for row in loaded.train.pairs} & {row.prompt for row in loaded.held_out.pairs}


def test_all_phrasings_of_a_section_stay_together(tmp_path: Path) -> None:
    """They have one id, so they have one side."""
    loaded = _build(tmp_path, settings=DatasetSettings(phrasings=3, unanswerable_share=0))
    for rows, others in ((loaded.train, loaded.held_out), (loaded.held_out, loaded.train)):
        documents = {prompt.prepared.evidence[0].passage.document_id for prompt in rows.rollouts}
        elsewhere = {prompt.prepared.evidence[0].passage.document_id for prompt in others.rollouts}

        assert not documents & elsewhere


def test_targets_quote_the_evidence_with_its_number(tmp_path: Path) -> None:
    """Every derived target is made of shown sentences of the section's document."""
    loaded = _build(tmp_path, settings=DatasetSettings(held_out_share=0, unanswerable_share=0))

    assert loaded.train.rollouts
    for prompt in loaded.train.rollouts:
        shown = {item.number: item.text for item in prompt.prepared.evidence}
        expected = " ".join(f"{shown[n]} [{n}]" for n in cited_numbers(prompt.reference or ""))
        assert expected == prompt.reference


def test_prompts_are_those_of_serving(tmp_path: Path) -> None:
    """Rendered from the very messages that the turn was prepared with."""
    loaded = _build(tmp_path)
    for prompt in (*loaded.train.rollouts, *loaded.held_out.rollouts):
        assert render(prompt.prepared.messages) == prompt.prompt


def test_unanswerable_prompts_do_not_show_the_answer(tmp_path: Path) -> None:
    """Their target is the refusal, their evidence from other documents, renumbered from 1."""
    loaded = _build(tmp_path, settings=DatasetSettings(held_out_share=0, unanswerable_share=0.4))
    right = {
        p.question: p.prepared.evidence[0].passage.document_id for p in loaded.train.rollouts if p.answerable
    }
    refusing = [prompt for prompt in loaded.train.rollouts if prompt.answerable is False]

    assert refusing
    assert {REFUSAL} == {row.completion for row in loaded.train.pairs if row.origin == "unanswerable"}
    for prompt in refusing:
        assert [*range(1, len(prompt.prepared.evidence) + 1)] == [
            item.number for item in prompt.prepared.evidence
        ]
        assert right[prompt.question] not in {item.passage.document_id for item in prompt.prepared.evidence}


def test_a_section_that_retrieval_does_not_bring_is_left_out(tmp_path: Path) -> None:
    """Counted, and not turned into an unanswerable question."""
    blind = WordRetrieval(COMPANY[:1])
    loaded = _build(tmp_path, prepare=blind, settings=DatasetSettings(held_out_share=0))

    assert loaded.snapshot.left_out["derived: not retrieved"] > 0
    assert {COMPANY[0].document.id} == {
        p.prepared.evidence[0].passage.document_id for p in loaded.train.rollouts
    }


def test_restricted_evidence_is_never_trained_on(tmp_path: Path) -> None:
    """Even when the caller's reader sees too much."""
    loaded = _build(
        tmp_path, [make_judgement(ASKED, prompt="")], prepare=WordRetrieval(COMPANY, is_open=False)
    )

    assert not (
        *loaded.train.pairs,
        *loaded.held_out.pairs,
        *loaded.train.rollouts,
        *loaded.held_out.rollouts,
    )
    assert loaded.snapshot.left_out["derived: restricted"] > 0
    assert 1 == loaded.snapshot.left_out["no prompt"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"all_open": False}, "restricted"),
        ({"document_ids": ("secret.md",)}, "restricted"),
        ({"document_ids": ("gone.md",)}, "document deleted"),
        ({"user_id": "carl"}, "user disabled"),
        ({"withdrawn": True}, "withdrawn"),
        ({"extra": {"prompts": ["a", "b"]}}, "different prompts"),
    ],
)
def test_judgements_that_may_not_be_used_are_counted_by_reason(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """What they rest on decides, as it is today."""
    known = replace(allow(COMPANY), known_document_ids={d.document.id for d in COMPANY} | {"secret.md"})
    loaded = _only_judged(
        tmp_path, make_judgement(ASKED), make_judgement(ASKED, n=2, **changes), permissions=known
    )

    assert {reason: 1} == loaded.snapshot.left_out
    assert (1, 1) == (loaded.snapshot.n_judgements, len(loaded.train.judgements))


def test_somebody_left_out_by_a_reviewer_teaches_nothing(tmp_path: Path) -> None:
    """Neither by ratings nor by demonstrations; the snapshot says why."""
    bo = [
        make_judgement(ASKED, n=2, user_id="bo"),
        make_judgement(ASKED, "demonstration", "Parking permits is arranged by office 2.", n=3, user_id="bo"),
    ]
    loaded = _only_judged(tmp_path, make_judgement(ASKED), *bo, known=KnownRaters(excluded=["bo"]))

    assert {"rater in quarantine": 2} == loaded.snapshot.left_out
    assert {"ana"} == {row.labeler_id for row in loaded.train.judgements}
    assert [] == list(loaded.train.pairs)
    assert ["left out by a reviewer"] == [rater.reason for rater in loaded.raters if rater.labeler_id == "bo"]


def test_somebody_left_out_who_only_demonstrated_teaches_nothing_either(tmp_path: Path) -> None:
    """There is no estimate of such a person, and the reviewer's word holds all the same."""
    shown = make_judgement(ASKED, "demonstration", "Parking permits is arranged by office 2.", user_id="bo")
    loaded = _only_judged(tmp_path, shown, known=KnownRaters(excluded=["bo"]))

    assert {"rater in quarantine": 1} == loaded.snapshot.left_out
    assert [] == list(loaded.train.pairs)


def test_who_judges_most_does_not_decide_for_all(tmp_path: Path) -> None:
    """Twenty judgements of one person and one each of three others."""
    rows = [make_judgement(f"{ASKED} {n}", n=n) for n in range(20)]
    others = [make_judgement(f"{ASKED} {n}", n=n, user_id=f"u{n}") for n in range(20, 23)]
    everybody = allow(COMPANY, users=["ana", "u20", "u21", "u22"])
    train = _only_judged(tmp_path, *rows, *others, permissions=everybody).train.judgements

    of_ana = sum(row.weight for row in train if row.labeler_id == "ana")
    assert of_ana == pytest.approx(sum(row.weight for row in train) / 2, rel=0.01)


def test_who_judges_only_what_is_held_out_does_not_decide_at_the_gates(tmp_path: Path) -> None:
    """The judge learns from held-out questions alone, and which these are anybody could work out."""
    questions = [f"{ASKED} {n}" for n in range(300)]
    apart = {
        held: [q for q in questions if is_held_out(question_id(q), share=0.3, seed=0) == held]
        for held in (True, False)
    }
    pusher = [make_judgement(q, n=n, user_id="eve") for n, q in enumerate(apart[True][:60])]
    honest = [
        make_judgement(q, n=100 + 10 * k + n, user_id=f"u{k}")
        for k in range(7)
        for n, q in enumerate([*apart[False][k : k + 4], apart[True][60 + k]])
    ]
    held_out = _build(
        tmp_path,
        [*pusher, *honest],
        settings=DatasetSettings(held_out_share=0.3, max_derived=0, max_derived_held_out=0),
        permissions=allow(COMPANY, users=["eve", *(f"u{k}" for k in range(7))]),
        seed=0,
    ).held_out.judgements

    assert {"eve"} < {row.labeler_id for row in held_out}
    of_eve = sum(row.weight for row in held_out if row.labeler_id == "eve")
    assert of_eve <= 0.2501 * sum(row.weight for row in held_out)


def test_both_bad_is_a_tie_and_two_thumbs_down_of_one_weight(tmp_path: Path) -> None:
    """One click is one judgement."""
    bad = make_judgement(ASKED, "comparison", "a", "b", ranking=((0, 1),), both_bad=True)
    rows = _only_judged(tmp_path, bad).train.judgements

    assert [(("a", "b"), ((0, 1),), None), (("a",), (), False), (("b",), (), False)] == [
        (row.completions, row.ranking, row.label) for row in rows
    ]
    assert sum(row.weight for row in rows) == pytest.approx(1.0)


def test_both_bad_of_equal_answers_is_a_thumb_down(tmp_path: Path) -> None:
    """There is nothing to compare, but it was said that they are bad."""
    bad = make_judgement(ASKED, "comparison", "a", "a", ranking=((0, 1),), both_bad=True)
    rows = _only_judged(tmp_path, bad).train.judgements

    assert [(("a",), (), False, 1.0)] == [(r.completions, r.ranking, r.label, r.weight) for r in rows]


def test_equal_answers_say_nothing(tmp_path: Path) -> None:
    """Two equal ones are left out; in a ranking they are merged at their best place."""
    same = make_judgement(ASKED, "comparison", "a", "a", ranking=((0,), (1,)))
    ranked = make_judgement(ASKED, "ranking", "a", "b", "a", "c", ranking=((3,), (2,), (0, 1)), n=2)
    loaded = _only_judged(tmp_path, same, ranked)

    assert {"identical answers": 1} == loaded.snapshot.left_out
    assert [(("a", "b", "c"), ((2,), (0,), (1,)))] == [
        (r.completions, r.ranking) for r in loaded.train.judgements
    ]


def test_an_answer_that_a_demonstration_teaches_is_not_measured_on(tmp_path: Path) -> None:
    """Another question, the same answer: then the gates would measure memory."""
    without = _build(tmp_path / "without")
    known = next(row for row in without.held_out.pairs if row.completion != REFUSAL)
    sentence = strip_citations(known.completion).split(". ")[0] + "."
    asked = next(q for q in (f"{sentence} {n}" for n in range(99)) if _is_learned(q))
    loaded = _build(tmp_path / "with", [make_judgement(asked, "demonstration", sentence)])

    assert [sentence] == [
        strip_citations(row.completion) for row in loaded.train.pairs if row.origin == "demonstration"
    ]
    assert known.completion not in {row.completion for row in loaded.held_out.pairs}
    assert known.completion not in {prompt.reference for prompt in loaded.held_out.rollouts}
    assert loaded.snapshot.left_out["derived: held out, but taught elsewhere"] > 0


def test_a_held_out_demonstration_that_training_teaches_is_no_reference(tmp_path: Path) -> None:
    """Its question is still asked at the gates; what the right answer is, is not asked there."""
    taught = next(row for row in _build(tmp_path / "without").train.pairs if row.completion != REFUSAL)
    sentence = strip_citations(taught.completion).split(". ")[0] + "."
    asked = next(q for q in (f"{sentence} {n}" for n in range(99)) if not _is_learned(q))
    held_out = _build(tmp_path / "with", [make_judgement(asked, "demonstration", sentence)]).held_out

    assert [None] == [prompt.reference for prompt in held_out.rollouts if prompt.question == asked]
    assert not [row for row in held_out.pairs if row.origin == "demonstration"]


def _is_learned(question: str) -> bool:
    return not is_held_out(question_id(question), share=0.4, seed=1)


def test_a_demonstration_is_cited_anew(tmp_path: Path) -> None:
    """The number a person wrote counts an answer's citations; the prompt's own is put instead."""
    shown = WordRetrieval(COMPANY)(ASKED).evidence
    number = next(item.number for item in shown if "arranged by office 2" in item.text)
    said = make_judgement(ASKED, "demonstration", "Parking permits are arranged by office 2 [9].")
    loaded = _only_judged(tmp_path, said)

    assert [f"Parking permits are arranged by office 2. [{number}]"] == [
        row.completion for row in loaded.train.pairs
    ]
    assert "Parking permits are arranged by office 2 [9]." == loaded.train.rollouts[0].reference


def test_a_demonstration_that_the_evidence_does_not_hold_is_not_imitated(tmp_path: Path) -> None:
    """It stays the reference to measure against."""
    loaded = _only_judged(tmp_path, make_judgement(ASKED, "demonstration", "Bicycles cost 40 euros in Lyon."))

    assert {"demonstration not in the evidence": 1} == loaded.snapshot.left_out
    assert () == tuple(loaded.train.pairs)
    assert "Bicycles cost 40 euros in Lyon." == loaded.train.rollouts[0].reference


def test_a_demonstrated_refusal_teaches_to_refuse(tmp_path: Path) -> None:
    """And marks the question as unanswerable."""
    loaded = _only_judged(tmp_path, make_judgement(ASKED, "demonstration", "I don't know."))

    assert [REFUSAL] == [row.completion for row in loaded.train.pairs]
    assert loaded.train.rollouts[0].answerable is False


def test_an_imported_judgement_gets_a_fresh_prompt(tmp_path: Path) -> None:
    """It came without one."""
    loaded = _only_judged(tmp_path, make_judgement(ASKED, prompt=""))

    assert [render(WordRetrieval(COMPANY)(ASKED).messages)] == [row.prompt for row in loaded.train.judgements]


def test_a_question_that_retrieval_refuses_is_left_out(tmp_path: Path) -> None:
    """A question too long, say."""

    def refuse(question: str) -> Any:
        raise UsageError("too long")

    loaded = _only_judged(tmp_path, make_judgement(ASKED, prompt=""), prepare=refuse)

    assert {"no prompt": 1} == loaded.snapshot.left_out


def test_the_hash_names_the_content_whatever_the_order(tmp_path: Path) -> None:
    """Shuffled input, same snapshot; another judgement, another one."""
    judgements = [make_judgement(f"{ASKED} {n}", n=n) for n in range(6)]
    shuffled = random.Random(3).sample(judgements, 6)
    first = _build(tmp_path / "a", judgements)
    second = _build(tmp_path / "b", shuffled, documents=COMPANY[::-1], prepare=WordRetrieval(COMPANY))
    third = _build(tmp_path / "c", judgements[:5])

    assert first.snapshot.hash == second.snapshot.hash != third.snapshot.hash
    assert first.snapshot.path.name == first.snapshot.hash[:16]


def test_a_snapshot_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Twice built is once stored, and nothing is lost on the way."""
    judgements = [
        make_judgement(ASKED, n=1),
        make_judgement(ASKED, "ranking", "a", "b", "c", ranking=((2,), (0, 1)), n=2),
    ]
    once, twice = _only_judged(tmp_path, *judgements), _only_judged(tmp_path, *judgements)

    assert once == twice
    assert START.replace(minute=2) == once.snapshot.until
    assert WordRetrieval(COMPANY)(ASKED) == once.train.rollouts[0].prepared
    assert [once.snapshot.path] == list(tmp_path.iterdir())


def test_files_have_trls_columns_and_cannot_be_written(tmp_path: Path) -> None:
    """Anything that reads TRL's formats reads these."""
    path = _only_judged(
        tmp_path, make_judgement(ASKED, "demonstration", "I don't know."), make_judgement(ASKED, n=2)
    ).snapshot.path
    pair = json.loads((path / "prompt_completion.train.jsonl").read_text().splitlines()[0])
    rating = json.loads((path / "unpaired.train.jsonl").read_text().splitlines()[0])

    assert {"prompt", "completion"} <= pair.keys()
    assert {"prompt", "completion", "label"} <= rating.keys()
    assert all(not file.stat().st_mode & 0o222 for file in path.iterdir())


def test_a_changed_snapshot_is_refused(tmp_path: Path) -> None:
    """One byte."""
    path = _only_judged(tmp_path, make_judgement(ASKED)).snapshot.path
    file = path / "unpaired.train.jsonl"
    file.chmod(0o644)
    file.write_text(file.read_text().replace("true", "false"))

    with pytest.raises(TrainingError, match="changed after it was written"):
        load_snapshot(path)


def test_no_snapshot_is_said_so(tmp_path: Path) -> None:
    """One line."""
    with pytest.raises(TrainingError, match="no readable dataset snapshot"):
        load_snapshot(tmp_path)


def test_a_cancelled_build_leaves_nothing(tmp_path: Path) -> None:
    """The folder appears whole or not at all."""

    def cancel(_: StageProgress) -> None:
        raise RunCancelled("stop")

    with pytest.raises(RunCancelled):
        _build(tmp_path, [make_judgement(ASKED)], progress=cancel)

    assert [] == list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "taken").write_text("")

    with pytest.raises(StorageError, match="cannot be written"):
        _build(tmp_path / "taken")


@given(st.integers(0, 2**31), st.floats(0.05, 0.5))
def test_about_the_wanted_share_is_held_out(seed: int, share: float) -> None:
    """By hash, so never exactly."""
    held = sum(is_held_out(str(key), share=share, seed=seed) for key in range(2000)) / 2000

    assert abs(held - share) < 0.06


def test_a_document_of_its_own_makes_no_difference_to_the_others_split(tmp_path: Path) -> None:
    """Held-out questions stay held out when documents are added."""
    more = [*COMPANY, make_document("Cantina", [("Cantina", "The cantina opens at noon. It serves soup.")])]
    before = _build(tmp_path / "a", prepare=WordRetrieval(more), permissions=allow(more))
    after = _build(tmp_path / "b", documents=more)

    assert _keys(before.held_out) <= _keys(after.held_out)


@pytest.mark.parametrize(("most", "most_held_out"), [(3, 0), (0, 2), (3, 2)])
def test_each_side_has_a_limit_of_its_own(most: int, most_held_out: int, tmp_path: Path) -> None:
    """Fewer questions to learn from leave as many to measure on, and the other way round."""
    settings = DatasetSettings(
        held_out_share=0.4, max_derived=most, max_derived_held_out=most_held_out, unanswerable_share=0
    )

    snapshot = _build(tmp_path, settings=settings)

    assert (most, most_held_out) == (len(snapshot.train.rollouts), len(snapshot.held_out.rollouts))


@pytest.mark.parametrize(
    ("name", "value"),
    [("held_out_share", 1.0), ("phrasings", 0), ("max_derived", -1), ("max_derived_held_out", -1)],
)
def test_bad_settings_are_refused_by_name(name: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=name):
        DatasetSettings(**{name: value})  # type: ignore[arg-type]  # the point of the test
