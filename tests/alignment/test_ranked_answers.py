"""Reader examples that are answered from the top of their evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignment.ranked_answers import RankedAnswerSettings, in_evidence_order
from tests.alignment.test_trap_examples import EXAMPLE, REFUSED, TEXTS

ALL = RankedAnswerSettings(share=1.0, words=(12, 12, 12), most_sentences=2)


def test_an_answer_quotes_the_first_sentences_that_fit() -> None:
    """In order, each with its number."""
    (made,) = in_evidence_order([EXAMPLE], ALL)

    assert made.completion == f"{TEXTS[0]} [1] {TEXTS[1]} [2]"
    assert made.cited == (1, 2)


def test_the_first_sentence_is_quoted_however_long() -> None:
    """And what does not fit after it is passed over."""
    (made,) = in_evidence_order([EXAMPLE], replace(ALL, words=(1, 1, 1)))

    assert made.cited == (1,)


def test_an_answer_that_would_be_wrong_stays_as_it_was() -> None:
    """The right sentence is the last; so does a refusal."""
    last = replace(EXAMPLE, right=(3,), cited=(3,), completion=f"{TEXTS[2]} [3]")

    assert in_evidence_order([last, REFUSED], ALL) == [last, REFUSED]


def test_only_a_share_is_changed() -> None:
    """Else all samples of a reader would be the same."""
    made = in_evidence_order([EXAMPLE] * 400, replace(ALL, share=0.5))

    assert 150 < sum(example == EXAMPLE for example in made) < 250


@pytest.mark.parametrize(("name", "value"), [("share", 1.5), ("words", (3, 1, 2)), ("most_sentences", 0)])
def test_bad_settings_are_refused_by_name(name: str, value: object) -> None:
    """Before training begins."""
    with pytest.raises(ValueError, match=name):
        RankedAnswerSettings(**{name: value})  # type: ignore[arg-type]
