"""Follow-up questions are recognised and joined with what they follow; others stay as typed."""

from __future__ import annotations

import pytest

from chatbot.follow_up import is_follow_up, make_search_text, tidy_history
from chatbot.prompt import REFUSAL, Message


def _history(*texts: str) -> list[Message]:
    return [
        Message(role="assistant" if place % 2 else "user", content=text) for place, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    "question",
    [
        "And for contractors?",
        "How long is it?",
        "What about part-time?",
        "Why?",
        "Who approves that?",
        "Really?",
    ],
)
def test_questions_that_point_back_are_follow_ups(question: str) -> None:
    """Pronouns, continuations and bare question words lean on what was asked before."""
    assert is_follow_up(question, 12)


@pytest.mark.parametrize(
    "question",
    [
        "How many days of sick leave do I get?",
        "expense report deadline",
        "Who is my benefits contact at headquarters?",
    ],
)
def test_questions_that_stand_alone_are_not(question: str) -> None:
    """Enough words of their own and nothing pointing back."""
    assert not is_follow_up(question, 12)


def test_long_questions_stand_alone() -> None:
    """Above the word limit a pronoun points into the question itself."""
    assert not is_follow_up(
        "If my manager rejects the request, can I ask why it was rejected and who decides?", 12
    )


def test_a_chain_of_follow_ups_reaches_the_first_question() -> None:
    """Each follow-up takes along the one it leans on, newest first, up to three in all."""
    history = _history("Do I get sick leave?", "Yes [1].", "How long is it?", "10 days [1].")

    assert (
        make_search_text("And for contractors?", history, 12)
        == "And for contractors? How long is it? Do I get sick leave?"
    )


def test_without_history_a_follow_up_is_searched_as_typed() -> None:
    """There is nothing to join."""
    assert make_search_text("And for contractors?", [], 12) == "And for contractors?"


def test_history_loses_marks_and_the_refusals_tail() -> None:
    """Old citation numbers belong to other evidence; nearest documents of a refusal are no answer."""
    history = _history("A?", "Yes [1].", "B?", f"{REFUSAL} The nearest documents: Leave.")

    assert [m.content for m in tidy_history(history, 2)] == ["A?", "Yes.", "B?", REFUSAL]
    assert [m.content for m in tidy_history(history, 1)] == ["B?", REFUSAL]
    assert tidy_history(history, 0) == []
