"""Whether a snapshot may still be learned from, and what goes out of it when something is deleted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignment.datasets import DatasetSettings, LoadedSnapshot, build_snapshot, load_snapshot
from alignment.records import PromptCompletion
from alignment.row_origin import SaidBy, is_demonstrated_in, is_said_in
from alignment.snapshot import MANIFEST, hash_rows, manifest_text
from alignment.snapshot_check import what_is_gone
from alignment.snapshot_scrub import Deleted, scrub_snapshot
from chatbot.prompt import REFUSAL
from chatbot.records import Judgement
from tests.alignment.company import WordRetrieval, allow, make_company, make_judgement, render

COMPANY = make_company()
PARKING, BADGES = "Who arranges  parking permits?", "Who arranges badge loss?"
QUOTE = "Parking permits is arranged by office 2. Write to desk 2 about parking permits early."
AT = datetime(2026, 3, 1, tzinfo=UTC)
SAID: dict[str, Judgement] = {
    "rating": make_judgement(PARKING, "rating", "Office 2 [1].", n=1),
    "comparison": make_judgement(PARKING, "comparison", "Office 2 [1].", "Office 3 [1].", n=2),
    "both bad": make_judgement(
        BADGES, "comparison", "Ask Ana.", "Ask Bo.", n=3, both_bad=True, ranking=((0, 1),)
    ),
    "imported": make_judgement(BADGES, "rating", "Office 7 [1].", n=4, prompt=""),
    "demonstration": make_judgement(PARKING, "demonstration", QUOTE, n=5),
    "refusal": make_judgement(BADGES, "demonstration", REFUSAL, n=6),
    "other refusal": make_judgement("Who arranges <|im_end|> fire drills?", "demonstration", REFUSAL, n=7),
    "bo's": make_judgement(PARKING, "rating", "Office 2 [1].", n=8, user_id="bo"),
}


def _build(folder: Path, **changes: Any) -> LoadedSnapshot:
    arguments: dict[str, Any] = {"settings": DatasetSettings(held_out_share=0.4, unanswerable_share=0.3)}
    judgements = changes.pop("judgements", list(SAID.values()))
    snapshot = build_snapshot(
        judgements, COMPANY, prepare=WordRetrieval(COMPANY), render=render, permissions=allow(COMPANY),
        out_dir=folder, seed=1, **(arguments | changes),
    )  # fmt: skip
    return load_snapshot(snapshot.path)


@pytest.fixture
def data(tmp_path: Path) -> LoadedSnapshot:
    """Of two people who said things of every kind, and eight documents."""
    return _build(tmp_path)


def _rows(data: LoadedSnapshot) -> list[Any]:
    return [
        row for side in (data.train, data.held_out) for row in (*side.pairs, *side.judgements, *side.rollouts)
    ]


def test_nothing_is_gone_when_nothing_was_taken_back(data: LoadedSnapshot) -> None:
    """Whatever the kind of judgement: a false alarm would stop every cycle."""
    assert [] == what_is_gone(data, SAID.values(), allow(COMPANY))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rating", "1 judgement"),
        ("comparison", "1 judgement"),
        ("both bad", "3 judgements"),
        ("imported", "1 judgement"),
        ("demonstration", "1 demonstration"),
        ("refusal", "1 demonstration"),
        ("bo's", "1 judgement"),
    ],
)
def test_each_kind_of_judgement_is_missed_when_it_is_taken_back(
    name: str, said: str, data: LoadedSnapshot
) -> None:
    """Also where the same person, or another one, said the same words of something else."""
    left = [judgement for key, judgement in SAID.items() if key != name]
    withdrawn = replace(SAID[name], withdrawn=True)

    assert [said] == what_is_gone(data, [*left, withdrawn], allow(COMPANY))


def test_both_bad_of_an_answer_is_not_the_thumb_up_that_it_got(tmp_path: Path) -> None:
    """The same person may have said both: each row goes with what it was made of."""
    up = make_judgement(BADGES, "rating", "Ask Ana.", n=9)
    data = _build(tmp_path, judgements=[up, SAID["both bad"]])

    assert ["1 judgement"] == what_is_gone(data, [SAID["both bad"]], allow(COMPANY))
    assert ["3 judgements"] == what_is_gone(data, [up], allow(COMPANY))


def test_an_edited_document_that_keeps_its_id_is_noticed(data: LoadedSnapshot) -> None:
    """The snapshot quotes what it used to say."""
    edited = {COMPANY[1].document.id}

    assert ["1 edited document"] == what_is_gone(
        data, SAID.values(), allow(COMPANY), edited_document_ids=edited
    )


@pytest.mark.parametrize("name", [name for name in SAID if name != "other refusal"])
def test_scrubbing_takes_out_just_what_would_be_missed(name: str, data: LoadedSnapshot) -> None:
    """Afterwards nothing is gone that is still in it, and of what others said nothing is missing."""
    gone = SAID[name]
    left = [judgement for judgement in SAID.values() if judgement is not gone]

    n_rows = scrub_snapshot(data.snapshot.path, Deleted(judgements=[gone]), at=AT)

    after = load_snapshot(data.snapshot.path)
    assert [] == what_is_gone(after, left, allow(COMPANY))
    assert n_rows == len(_rows(data)) - len(_rows(after)) > 0
    assert (AT, n_rows, data.snapshot.hash) == (
        after.snapshot.scrubs[0].at, after.snapshot.scrubs[0].n_rows, after.snapshot.scrubs[0].hash_before,
    )  # fmt: skip


def test_scrubbing_a_person_takes_their_rows_estimate_and_questions(data: LoadedSnapshot) -> None:
    """Bo's stay, and what documents were made into."""
    hers = [judgement for judgement in SAID.values() if judgement.user_id == "ana"]

    scrub_snapshot(data.snapshot.path, Deleted(user_id="ana", judgements=hers, questions={BADGES}), at=AT)

    left = load_snapshot(data.snapshot.path)
    assert {"bo", ""} == {row.labeler_id for row in _rows(left) if hasattr(row, "labeler_id")}
    assert "ana" not in {rater.labeler_id for rater in left.raters}
    assert BADGES not in {row.question for row in _rows(left) if hasattr(row, "question")}


def test_scrubbing_a_document_takes_all_that_shows_or_asks_it(data: LoadedSnapshot) -> None:
    """Unanswerable pairs too, that ask for it and show others; not judgements that came with other words."""
    assert "arking permits is arranged" in _text(data.snapshot.path)

    scrub_snapshot(data.snapshot.path, Deleted(document_id=COMPANY[1].document.id), at=AT)

    left = load_snapshot(data.snapshot.path)
    learned = [row.prompt for side in (left.train, left.held_out) for row in (*side.pairs, *side.rollouts)]
    assert "arking permits is arranged" not in _text(data.snapshot.path)
    assert [] == [prompt for prompt in learned if "arking permit" in prompt]
    assert learned
    assert "Office 3 [1]." in _text(data.snapshot.path)


def test_rows_of_an_older_snapshot_go_when_nobody_can_tell_what_they_show(data: LoadedSnapshot) -> None:
    """It did not write down its documents: better too few rows than a trace."""
    path = data.snapshot.path
    for file in path.glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        kept = [{k: v for k, v in line.items() if k not in ("document_ids", "made_of")} for line in lines]
        file.chmod(0o644)
        file.write_text("".join(json.dumps(line) + "\n" for line in kept))
    (path / MANIFEST).chmod(0o644)
    (path / MANIFEST).write_text(manifest_text(replace(data.snapshot, hash=hash_rows(path))))
    assert len(_rows(data)) == len(_rows(load_snapshot(path)))

    scrub_snapshot(path, Deleted(document_id=COMPANY[1].document.id), at=AT)

    left = load_snapshot(path)
    assert [] == [*left.train.pairs, *left.held_out.pairs, *left.train.judgements, *left.held_out.judgements]


def _text(path: Path) -> str:
    return "".join(file.read_text() for file in path.glob("*.jsonl"))


def test_a_scrub_that_was_killed_is_finished_by_the_next(data: LoadedSnapshot) -> None:
    """Rows were taken out and the manifest does not say so yet."""
    deleted = Deleted(judgements=[SAID["rating"]])
    manifest = data.snapshot.path / "snapshot.json"
    before = manifest.read_text()
    scrub_snapshot(data.snapshot.path, deleted, at=AT)
    manifest.chmod(0o644)
    manifest.write_text(before)

    scrub_snapshot(data.snapshot.path, deleted, at=AT)

    assert data.snapshot.hash == load_snapshot(data.snapshot.path).snapshot.scrubs[0].hash_before


def test_what_one_person_said_is_found_as_among_everything_said(data: LoadedSnapshot) -> None:
    """The index says of every row what comparing it with each judgement says."""
    said = [judgement for judgement in SAID.values() if judgement.user_id == "ana"]
    index = SaidBy(said)
    sides = (data.train, data.held_out)

    for row in (row for side in sides for row in side.judgements):
        theirs = row.labeler_id == "ana"
        assert (index.has_said(row) and theirs) == any(is_said_in(j, row) for j in said)
    for pair in (pair for side in sides for pair in side.pairs if pair.origin == "demonstration"):
        assert index.has_demonstrated(pair) == any(is_demonstrated_in(j, pair) for j in said)


def test_a_mark_inside_a_mark_is_no_reason_to_miss_a_demonstration() -> None:
    """It is stripped twice where it is cited anew."""
    ideal = make_judgement(PARKING, "demonstration", "Parking permits is arranged by office 2 [[1]2].")
    row = PromptCompletion(
        prompt="p", completion="Parking permits is arranged by office 2. [1]", question_id="q",
        origin="demonstration", labeler_id="ana",
    )  # fmt: skip

    assert SaidBy([ideal]).has_demonstrated(row)
