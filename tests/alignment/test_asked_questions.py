"""Questions written for training find the sentences they name, and are left out where the page has changed."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from alignment.asked_questions import HANDBOOK_QUESTIONS, asked_questions, sentence_name

PAGE = """# Leave

## Sick leave

You are paid in full for six weeks. After that the insurance pays.

## Parental leave

Both parents get sixteen weeks, also after an adoption.
"""
SIX_WEEKS = "You are paid in full for six weeks."
INSURANCE = "After that the insurance pays."
SIXTEEN = "Both parents get sixteen weeks, also after an adoption."


def _write(folder: Path, rows: list[dict[str, Any]]) -> tuple[Path, Path]:
    corpus, questions = folder / "hb.jsonl.xz", folder / "questions.jsonl.gz"
    with lzma.open(corpus, "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"source": "hb", "path": "leave.md", "text": PAGE}) + "\n")
    with gzip.open(questions, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return corpus, questions


def test_a_question_gets_its_sentences_and_the_rest_of_its_page(tmp_path: Path) -> None:
    """What answers as well comes after what is needed, and is not among the rest."""
    row = {
        "page": "leave.md",
        "question": "how long am i paid when ill?",
        "right": [sentence_name(SIX_WEEKS)],
        "also": [sentence_name(INSURANCE)],
    }

    (question,) = asked_questions(*_write(tmp_path, [row]))

    assert [SIX_WEEKS, INSURANCE] == [sentence.text for sentence in question.right]
    assert [SIXTEEN] == [sentence.text for sentence in question.near]
    assert "Leave > Sick leave" == question.right[0].heading
    assert ("asked", "how long am i paid when ill?") == (question.kind, question.question)


def test_a_question_the_page_does_not_answer_has_nothing_right(tmp_path: Path) -> None:
    """All of the page is near."""
    row = {"page": "leave.md", "question": "Is my dog covered?", "right": []}

    (question,) = asked_questions(*_write(tmp_path, [row]))

    assert () == question.right
    assert [SIX_WEEKS, INSURANCE, SIXTEEN] == [sentence.text for sentence in question.near]


@pytest.mark.parametrize(
    "row",
    [
        {"page": "leave.md", "question": "Why?", "right": [sentence_name("It was rewritten.")]},
        {"page": "gone.md", "question": "Why?", "right": [sentence_name(SIX_WEEKS)]},
    ],
)
def test_a_question_of_another_state_of_the_page_is_left_out(tmp_path: Path, row: dict[str, Any]) -> None:
    """Its sentences are not there any more, or the page is not."""
    assert [] == list(asked_questions(*_write(tmp_path, [row])))


def test_the_file_holds_what_its_description_says() -> None:
    """Number of questions, pages and unanswered ones; no sentence of the handbook."""
    with gzip.open(HANDBOOK_QUESTIONS, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]

    assert (46_209, 2_411) == (len(rows), len({row["page"] for row in rows}))
    assert 10_220 == sum(not row["right"] for row in rows)
    assert {"page", "question", "right", "also"} >= {key for row in rows for key in row}
