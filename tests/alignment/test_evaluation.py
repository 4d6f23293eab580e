"""Figures for answers, against small cases computed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.answer_metrics import citation_supports, has_key_fact, overlap, percentile, rouge_l, token_f1
from alignment.evaluation import (
    ReferenceQuestion,
    evaluate_answers,
    judge_answer,
    judge_answers,
    summarise,
)
from alignment.policy_metrics import policy_metrics
from chatbot.prompt import REFUSAL
from knowledge_base.errors import StorageError
from tests.alignment.answers import make_answer

SICK = ReferenceQuestion(
    id="1",
    question="How many sick days?",
    answerable=True,
    answer="You get ten sick days.",
    document="leave.md",
    evidence="Everyone gets **10 sick days** a year.",
    key_facts=("10|ten",),
)
PARKING = ReferenceQuestion(id="2", question="Is there parking on Mars?", answerable=False)
EVIDENCE = "Everyone gets 10 sick days a year."


def test_a_right_answer_counts_everywhere() -> None:
    """Key facts, citation and cause."""
    result = judge_answer(SICK, make_answer(SICK.question, "You get 10 sick days [1].", cited=[EVIDENCE]))

    assert (True, 1, 1, "right") == (
        result.has_key_facts,
        result.n_citations,
        result.n_right_citations,
        result.cause,
    )


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (make_answer(SICK.question, "Ask HR [1].", cited=["Ask HR about it."]), "not retrieved"),
        (
            make_answer(SICK.question, "Ask HR [1].", cited=["Ask HR about it."], passages=[EVIDENCE]),
            "wrong evidence chosen",
        ),
        (
            make_answer(SICK.question, "Some days [1].", cited=[EVIDENCE]),
            "wrong answer from the right evidence",
        ),
        (make_answer(SICK.question, REFUSAL, passages=[EVIDENCE]), "needless abstention"),
    ],
)
def test_each_failure_has_its_cause(answer: object, cause: str) -> None:
    """The earliest thing that went wrong."""
    assert cause == judge_answer(SICK, answer).cause  # type: ignore[arg-type]  # parametrize loses the type


def test_an_answer_to_an_unanswerable_question_is_a_missing_abstention() -> None:
    """And refusing is right."""
    assert "missing abstention" == judge_answer(PARKING, make_answer(PARKING.question, "Yes.")).cause
    assert "right" == judge_answer(PARKING, make_answer(PARKING.question)).cause


def test_the_summary_has_exactly_the_keys_of_the_contract() -> None:
    """What `tacit evaluate` prints, without retrieval."""
    answers = {
        SICK.question: make_answer(
            SICK.question, "10 days [1].", cited=[EVIDENCE], grounding=(2, 1), seconds=1.0
        ),
        PARKING.question: make_answer(PARKING.question, seconds=3.0),
    }
    seen: list[tuple[int, int]] = []
    summary = evaluate_answers([SICK, PARKING], answers.__getitem__, lambda done, n: seen.append((done, n)))

    assert {
        "answers": {
            "key_fact_recall": 1.0,
            "token_f1": pytest.approx(2 / 7),  # one of 2 + 5 tokens in common
            "rouge_l": pytest.approx(2 / 7),
            "citation_precision": 1.0,
            "citation_support": 1.0,
            "groundedness": 0.5,
        },
        "abstention": {"precision": 1.0, "recall": 1.0, "f1": 1.0},
        "seconds": {"p50": 2.0, "p95": pytest.approx(2.9)},
        "n": 2,
    } == summary
    assert [(1, 2), (2, 2)] == seen


def test_abstention_counts_are_those_of_the_positive_class_abstained() -> None:
    """Three unanswerable, two refused; one needless refusal: precision 2/3, recall 2/3."""
    unanswerable = [ReferenceQuestion(id=f"u{i}", question=f"u{i}?", answerable=False) for i in range(3)]
    results = [
        judge_answer(SICK, make_answer(SICK.question)),
        judge_answer(unanswerable[0], make_answer("u0?")),
        judge_answer(unanswerable[1], make_answer("u1?")),
        judge_answer(unanswerable[2], make_answer("u2?", "Yes.")),
    ]
    figures = summarise(results)["abstention"]

    assert [2 / 3] * 3 == pytest.approx([figures["precision"], figures["recall"], figures["f1"]])


def test_an_abstained_answer_has_no_overlap() -> None:
    """Words of the refusal do not count as an answer."""
    refused = judge_answer(SICK, make_answer(SICK.question))

    assert (0.0, 0.0, 0.0) == (refused.token_f1, refused.rouge_l, refused.overlap)


def test_a_short_answer_out_of_a_long_reference_is_not_a_wrong_one_for_the_gates() -> None:
    """Their overlap is blind to length, in either direction; a wrong word counts."""
    short, long = "Take ten days.", "Take ten days, and ask Ana before you go away."

    assert (1.0, 1.0) == (overlap(short, long), overlap(long, short))
    assert overlap("Take nine days.", long) == pytest.approx(2 / 3)


def test_nothing_to_measure_is_none_for_the_gates() -> None:
    """No key facts, no unanswerable questions, no reference."""
    question = ReferenceQuestion(id="1", question="Why?")
    metrics = policy_metrics(
        judge_answers([question], lambda q: make_answer(q, "So it is [1].", cited=["So."]))
    )

    assert (None, None, None) == (metrics.key_fact_recall, metrics.overlap, metrics.abstention_f1)
    assert 3.0 == metrics.mean_words


def test_no_questions_give_zeros() -> None:
    """An empty file divides by nothing."""
    assert 0 == summarise([])["n"]


@pytest.mark.parametrize(
    ("cited", "supports"),
    [
        ("Everyone gets 10 sick days a year.", True),  # the evidence
        ("gets 10 sick days", True),  # half of its words in a row
        ("Take ten days.", True),  # a key fact
        ("Everyone likes sick jokes.", False),
        ("a year", False),  # too little to prove anything
    ],
)
def test_what_a_supporting_citation_is(cited: str, supports: bool) -> None:
    """Evidence, half of it, part of it, or a key fact."""
    assert supports == citation_supports(cited, SICK.evidence, SICK.key_facts)


def test_key_facts_ignore_case_and_white_space() -> None:
    """Any alternative will do."""
    assert has_key_fact("within TEN\n days", "10 days|ten days")
    assert not has_key_fact("within nine days", "10 days|ten days")


@given(st.text(max_size=60), st.text(max_size=60))
def test_overlaps_are_symmetric_shares(a: str, b: str) -> None:
    """Between 0 and 1, and the same either way round where no citation marks interfere."""
    a, b = a.replace("[", ""), b.replace("[", "")

    for measure in (token_f1, rouge_l, overlap):
        assert 0 <= measure(a, b) <= 1
        assert measure(a, b) == measure(b, a)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0, 1))
def test_percentiles_agree_with_numpy(values: list[float], share: float) -> None:
    """Linear interpolation."""
    import numpy as np

    assert percentile(values, share) == pytest.approx(float(np.quantile(values, share)), abs=1e-6)


def test_the_report_lists_every_question_and_escapes_it(tmp_path: Path) -> None:
    """HTML, Markdown and rows."""
    question = ReferenceQuestion(id="x", question="<script>alert(1)</script>?", answerable=False)
    evaluate_answers(
        [SICK, question], lambda q: make_answer(q, "Yes.", cited=[EVIDENCE]), report_dir=tmp_path / "new"
    )
    page = (tmp_path / "new" / "report.html").read_text()
    rows = [json.loads(line) for line in (tmp_path / "new" / "results.jsonl").read_text().splitlines()]

    assert "<script>" not in page
    assert "missing abstention" in page
    assert "missing abstention" in (tmp_path / "new" / "report.md").read_text()
    assert "<svg" in page
    assert "expected calibration error" in (tmp_path / "new" / "report.md").read_text()
    assert ["1", "x"] == [row["id"] for row in rows]


def test_a_report_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file where the directory should be."""
    (tmp_path / "taken").write_text("")

    with pytest.raises(StorageError, match="choose another directory"):
        evaluate_answers([PARKING], make_answer, report_dir=tmp_path / "taken")
