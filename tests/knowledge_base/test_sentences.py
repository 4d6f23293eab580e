"""Sentences that can be quoted alone."""

from __future__ import annotations

import pytest
from hypothesis import given

from knowledge_base.sentences import split_sentences
from tests import strategies


def texts(source: str) -> list[str]:
    """The sentences' texts."""
    return [span.text for span in split_sentences(source)]


@pytest.mark.parametrize(
    "sentence",
    [
        "Ask Dr. Lee or Mrs. Chan, e.g. by mail, before you book.",
        "U.S. employees file form No. 12 at gsa.gov/forms.html and wait 2.5 days.",
        "Call between 9 a.m. and 5 p.m. Eastern on any day.",
        "See Sec. 4.2 and Fig. 3 of the policy, vol. 2, pp. 10 ff.",
        "J. Smith and A. B. Jones approve it.",
        "It costs $3.50 (approx. 4 EUR) at Acme Inc. in Berlin.",
        "Write to people.ops@example.com or https://example.com/a.b?c=d for help.",
        "“Is it urgent?” he asked.",
        "Use node.js v1.2.3 for it.",
    ],
)
def test_a_full_stop_within_a_sentence_does_not_end_it(sentence: str) -> None:
    """Abbreviations, numbers, initials, addresses and quotations stay whole."""
    assert [sentence] == texts(sentence)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Go home. Rest!  Why? Because.", ["Go home.", "Rest!", "Why?", "Because."]),
        ("Work ends at 5 p.m. The office then closes.", ["Work ends at 5 p.m.", "The office then closes."]),
        ("They said no. You may ask again.", ["They said no.", "You may ask again."]),
        ("He said “Stop.” She left.", ["He said “Stop.”", "She left."]),
        ("You have 30 days. 10 are paid.", ["You have 30 days.", "10 are paid."]),
        ("Wait... Then go on.", ["Wait...", "Then go on."]),
        ("It is so (see above). Next one.", ["It is so (see above).", "Next one."]),
        ("今日は休みです。明日は仕事です。", ["今日は休みです。", "明日は仕事です。"]),
        ("Click it. (Image: the button) Then wait.", ["Click it.", "(Image: the button)", "Then wait."]),
        ("That was in the U.S. We left then.", ["That was in the U.S.", "We left then."]),
    ],
)
def test_sentences_end_where_a_reader_would_say(source: str, expected: list[str]) -> None:
    """A stop before a capital, number or bracket ends a sentence."""
    assert expected == texts(source)


def test_headings_items_and_rows_are_sentences_of_their_own() -> None:
    """Each line can be quoted apart, the introduction of a list too."""
    source = "Sick leave\n\nYou may:\n\n- rest\n  - at home. Really.\n1. Call us\n\nYears: 1; Days: 20\nYears: 2; Days: 25"

    assert [
        "Sick leave",
        "You may:",
        "- rest",
        "- at home.",
        "Really.",
        "1. Call us",
        "Years: 1; Days: 20",
        "Years: 2; Days: 25",
    ] == texts(source)


@given(strategies.any_text | strategies.prose)
def test_spans_are_in_order_and_cover_all_that_is_not_white_space(source: str) -> None:
    """Nothing is lost, nothing is said twice."""
    position = 0
    for span in split_sentences(source):
        assert span.text == source[span.start : span.end] == span.text.strip() != ""
        assert not source[position : span.start].strip()
        assert span.start >= position
        position = span.end
    assert not source[position:].strip()
