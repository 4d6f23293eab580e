from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.question_phrasing import content_words, question_from_heading, question_from_statement, vary


def phrasings(heading: str, title: str = "Staff guide") -> set[str]:
    """What a hundred people would ask."""
    made = (question_from_heading(heading, title, random.Random(seed)) for seed in range(100))
    return {question for question in made if question}


def test_an_imperative_heading_becomes_a_how_to_question() -> None:
    """The heading "Request time off" asks how."""
    assert any("How do I request time off?" in question for question in phrasings("Request time off"))


def test_a_question_heading_stays_a_question() -> None:
    """Its words are kept, whatever the mood."""
    assert all(
        "when are salaries paid" in question.lower() for question in phrasings("When are salaries paid?")
    )


def test_a_heading_that_says_nothing_asks_about_the_page() -> None:
    """The heading "Overview" means the title."""
    assert all("parental leave" in question.lower() for question in phrasings("Overview", "Parental leave"))


def test_one_heading_is_asked_in_many_ways() -> None:
    """Formal and informal, with and without capitals."""
    made = phrasings("Sick leave")

    assert len(made) > 20
    assert any(question == question.lower() for question in made)


def test_a_rule_is_asked_in_the_first_person() -> None:
    """A rule for "you" is asked about by "I"."""
    sentence = "You must sign your travel form before the trip starts."
    made = {question_from_statement(sentence, random.Random(seed)) for seed in range(60)}

    assert any(question and "sign my travel form" in question.lower() for question in made)


@given(text=st.text(max_size=120), seed=st.integers(0, 50))
def test_any_text_gives_a_question_or_none(text: str, seed: int) -> None:
    """Odd headings and sentences never break the builder."""
    rng = random.Random(seed)
    for question in (question_from_heading(text, "", rng), question_from_statement(text, rng)):
        assert question is None or question.strip()


@pytest.mark.parametrize("seed", range(30))
def test_moods_keep_the_words_that_carry_meaning(seed: int) -> None:
    """Variation adds politeness or drops punctuation, nothing else."""
    question = "How many days of leave do I get?"

    assert set(content_words(question)) <= set(content_words(vary(question, random.Random(seed))))
