"""Traits: what can be seen of an answer, in numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.answer_traits import TRAITS, describe
from chatbot.prompt import REFUSAL, NumberedEvidence, build_messages, read_prompt

EVIDENCE = [
    NumberedEvidence(number=1, heading="Leave", text="You get 25 days of leave a year."),
    NumberedEvidence(number=2, heading="Leave", text="Ask your manager before you book."),
]
PROMPT = f"<u>{build_messages('How many days of leave do I get?', EVIDENCE)[-1].content}<a>"


def traits(completion: str, prompt: str = PROMPT) -> dict[str, float]:
    """By name."""
    return dict(zip(TRAITS, describe(prompt, completion), strict=True))


def test_a_prompt_is_read_back_as_it_was_made() -> None:
    """The question once, each sentence under its number, headings left out."""
    read = read_prompt(PROMPT)

    assert read is not None
    assert read.question == "How many days of leave do I get?"
    assert dict(read.evidence) == {item.number: item.text for item in EVIDENCE}


def test_the_last_turn_of_a_conversation_is_read() -> None:
    """Earlier turns carry no evidence as a rule, but nothing keeps a model's template from it."""
    second = build_messages("Whom do I ask?", EVIDENCE)[-1].content

    read = read_prompt(f"{PROMPT}25 days.<u>{second}<a>")

    assert read is not None
    assert read.question == "Whom do I ask?"


def test_a_quoted_sentence_has_no_words_of_its_own_and_takes_up_the_question() -> None:
    """Days and leave are what was asked for; "get" says nothing here."""
    found = traits("You get 25 days of leave a year. [1]")

    assert found["own_words"] == 0
    assert found["takes_up_question"] == pytest.approx(1.0, abs=0.5)
    assert found["words"] == pytest.approx(0.08)
    assert found["log_words"] == pytest.approx(math.log(9))
    assert (found["cites_nothing"], found["citations"], found["first_citation_rank"]) == (0, 1, 0)
    assert (found["ends_whole"], found["starts_whole"], found["has_number"]) == (1, 1, 1)


def test_the_rank_of_the_first_citation_counts_down_the_evidence() -> None:
    """1 for the last sentence shown."""
    assert traits("Ask your manager before you book. [2]")["first_citation_rank"] == 1


@pytest.mark.parametrize("number", [0, 37, 95])
def test_a_number_that_leads_nowhere_has_no_rank(number: int) -> None:
    """People never see it; one of them among sixty judgements would decide what a rank is worth."""
    assert traits(f"Ask your manager before you book. [{number}]")["first_citation_rank"] == 0
    assert traits(f"Ask your manager before you book. [{number}] [2]")["first_citation_rank"] == 1


def test_padding_is_words_of_its_own() -> None:
    """Neither the documents nor the question said it."""
    assert traits("Wonderful splendid greetings, colleague! 25 days. [1]")["own_words"] > 0.5


def test_a_loop_repeats() -> None:
    """The same run of words again and again."""
    assert traits("ask your manager " * 5)["repeats"] > 0.7


def test_a_refusal_is_nothing_but_a_refusal() -> None:
    """Its length and form are fixed, so they say nothing."""
    assert describe(PROMPT, REFUSAL) == (1.0, *[0.0] * (len(TRAITS) - 1))


@given(st.text(), st.text())
def test_any_text_has_finite_traits(prompt: str, completion: str) -> None:
    """Imported judgements hold anything."""
    found = describe(prompt, completion)

    assert len(found) == len(TRAITS)
    assert all(math.isfinite(value) for value in found)
