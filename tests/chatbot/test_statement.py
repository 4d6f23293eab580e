"""What is read out of a sentence: content, numbers with units, names, negations with their scope."""

from __future__ import annotations

import doctest

import pytest

import chatbot.abstention
import chatbot.follow_up
import chatbot.grounding
import chatbot.statement
from chatbot.statement import Negation, take_apart


@pytest.mark.parametrize(
    "module", [chatbot.abstention, chatbot.follow_up, chatbot.grounding, chatbot.statement]
)
def test_examples_in_docstrings_hold(module: object) -> None:
    """The examples print what they say."""
    failed, attempted = doctest.testmod(module)  # type: ignore[arg-type]  # a list of modules is typed as objects

    assert (failed, attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25 working days", {("25", "day")}),
        ("$1,000.00 a trip", {("1000", "$")}),
        ("eighty percent", {("80", "%")}),
        ("12 weeks, 3 days", {("12", "week"), ("3", "day")}),
        ("room 12, day 3", set()),
    ],
)
def test_quantities_are_numbers_with_their_unit(text: str, expected: set[tuple[str, str]]) -> None:
    """Units are found beside the number, not across a comma."""
    assert take_apart(text).quantities == expected


def test_names_are_capitalised_inside_a_sentence_or_special() -> None:
    """The first word is no name by its capital; capitals, channels and addresses are."""
    parts = take_apart("Ask Jane Miller at GSA in #travel. Receipts go to pay@example.org.")

    assert parts.names == {"jane", "miller", "gsa", "#travel", "pay@example.org"}


def test_negations_know_what_they_govern() -> None:
    """The scope is the next few content words of the clause; an aside between commas is skipped."""
    assert take_apart("You must not, under any circumstances, share it.").negations == (
        Negation(kind="not", scope=("shar",)),
    )
    assert take_apart("Only managers can approve.").negations == (
        Negation(kind="only", scope=("manager", "approv")),
    )


@pytest.mark.parametrize(
    "text", ["Not only managers approve.", "No, managers approve.", "Yes, managers approve."]
)
def test_idioms_and_answering_particles_deny_nothing(text: str) -> None:
    """Neither "not only" nor an answer's first word is a negation."""
    assert take_apart(text).negations == ()


def test_a_list_mark_is_no_number() -> None:
    """The mark in "1. Submit the form" states no number."""
    assert take_apart("1. Submit the form").numbers == frozenset()


def test_inflections_meet() -> None:
    """Endings of one word lead to one stem."""
    assert take_apart("approved taking receipts").content == take_apart("approve take receipt").content
