"""Preference functions, written by anyone: loaded, checked, and not fooled by positions."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.preferences import check_ranking, load_preferences, random_ranking, rank
from chatbot.records import Answer
from knowledge_base.errors import UsageError
from tests.alignment.answers import make_answer

ANSWERS = [make_answer("Why?", text) for text in ("a", "bbb", "cc")]


def _shortest(_question: str, answers: Sequence[Answer]) -> list[list[int]]:
    return [[i] for i in sorted(range(len(answers)), key=lambda i: len(answers[i].text))]


def _first(_question: str, answers: Sequence[Answer]) -> list[list[int]]:
    return [[i] for i in range(len(answers))]


@given(st.integers(0, 1000))
def test_a_ranking_is_in_the_order_that_was_given(seed: int) -> None:
    """However the answers were shuffled for the function."""
    assert ((0,), (2,), (1,)) == rank(_shortest, "Why?", ANSWERS, random.Random(seed))


def test_a_function_that_takes_the_first_gains_nothing_by_it() -> None:
    """Each answer comes first now and then."""
    firsts = {rank(_first, "Why?", ANSWERS, random.Random(seed))[0] for seed in range(30)}

    assert {(0,), (1,), (2,)} == firsts


@pytest.mark.parametrize(
    "verdict", [[[0]], [[0], [0, 1, 2]], [[0, 1, 3]], [[0, 1, 2], ["x"]], None, 3, [0, 1, 2]]
)
def test_what_is_no_ranking_is_refused(verdict: object) -> None:
    """The line shows what was returned."""
    with pytest.raises(UsageError, match="preference function returned"):
        check_ranking(verdict, 3)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_a_random_ranking_is_one(n: int, seed: int) -> None:
    """Each index once, no empty group."""
    ranking = random_ranking(n, random.Random(seed))

    assert ranking == check_ranking(ranking, n)


@pytest.mark.parametrize("reference", ["", "x.py", ":prefer", "x.py:", "none.py:prefer"])
def test_a_reference_that_leads_nowhere_says_how_to_write_one(reference: str) -> None:
    """FILE.py:FUNCTION."""
    with pytest.raises(UsageError, match=r"FILE\.py:FUNCTION"):
        load_preferences(reference)


def test_a_function_is_loaded_from_its_file(tmp_path: Path) -> None:
    """A path may hold a colon of its own."""
    (tmp_path / "a:b.py").write_text("def prefer(question, answers): return [[0]]")

    assert [[0]] == load_preferences(f"{tmp_path / 'a:b.py'}:prefer")("Why?", ANSWERS[:1])


def test_a_function_may_use_what_lies_beside_its_file(tmp_path: Path) -> None:
    """As for a script; afterwards the path is as it was."""
    (tmp_path / "shared_taste_of_this_test.py").write_text("BEST = 1\n", "utf-8")
    (tmp_path / "mine.py").write_text(
        "from shared_taste_of_this_test import BEST\n\ndef prefer(question, answers):\n    return [[BEST], [0]]\n",
        "utf-8",
    )
    before = list(sys.path)
    prefer = load_preferences(f"{tmp_path / 'mine.py'}:prefer")

    assert prefer("Why?", ANSWERS[:2]) == [[1], [0]]
    assert before == sys.path
