"""Examples of written questions show the evidence that an encoder would choose, in its order, and copy what answers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from alignment.asked_examples import AskedExampleSettings, fold, make_asked_examples
from alignment.encoder_pairs import as_evidence
from alignment.reader_sources import SourceQuestion, SourceSentence
from chatbot.prompt import REFUSAL
from tests.fakes import FakeEmbedder

PLAIN = AskedExampleSettings(
    sentences=(4,), other_pages=(2,), bare_share=1.0, styled_share=0.0, unanswered_share=1.0, missed_share=0.0, bare_heading_share=0.0
)  # fmt: skip
TOPICS = ("leave", "travel", "laptop", "badge", "invoice", "parking")


def _page(topic: str) -> list[SourceSentence]:
    return [
        SourceSentence(heading=f"{topic} > {part}", text=f"The {topic} {part} is number {n}.")
        for n, part in enumerate(("form", "office", "limit", "deadline", "owner"), start=1)
    ]


def _question(topic: str, part: str, *, answered: bool = True, **changes: Any) -> SourceQuestion:
    page = _page(topic)
    right = tuple(s for s in page if answered and part in s.text)
    asked = SourceQuestion(
        document=topic,
        kind="asked",
        question=f"{topic} {part}?",
        right=right,
        near=tuple(s for s in page if s not in right),
    )
    return replace(asked, **changes)


QUESTIONS = [_question(topic, part) for topic in TOPICS for part in ("form", "limit", "owner")]


def test_evidence_stands_in_the_encoders_order() -> None:
    """Best first, of the page and of others, and nothing is moved."""
    embedder = FakeEmbedder()

    examples = make_asked_examples(QUESTIONS, embedder, PLAIN)

    assert examples
    for example in examples:
        asked = embedder.encode([example.question])[0]
        shown = embedder.encode([f"{e.heading}: {e.text}" for e in example.evidence]) @ asked
        assert list(shown) == sorted(shown, reverse=True)
        assert [1, 2, 3, 4] == [e.number for e in example.evidence]


def test_what_answers_is_copied_with_the_number_it_has() -> None:
    """Word for word."""
    for example in make_asked_examples(QUESTIONS, FakeEmbedder(), PLAIN):
        (number,) = example.cited
        assert example.completion == f"{example.evidence[number - 1].text} [{number}]"
        assert example.right == example.cited
        assert example.question.split()[1].rstrip("?") in example.completion


def test_a_question_whose_answer_is_not_shown_makes_no_example_or_a_refusal() -> None:
    """Never one whose answer was put in."""
    hidden = [
        _question(topic, "form", question="zebra", right=(SourceSentence(heading="", text="Quite other."),), near=tuple(_page(topic)))
        for topic in TOPICS
    ]  # fmt: skip
    settings = replace(PLAIN, sentences=(1,), own_page=1, other_pages=(0,))
    unseen = [q for q in hidden if q.right[0].text not in _first_texts(hidden, settings)]

    none = make_asked_examples(unseen, FakeEmbedder(), settings)
    refused = make_asked_examples(unseen, FakeEmbedder(), replace(settings, missed_share=1.0))

    assert [] == [e for e in none if e.completion != REFUSAL and "Quite other." not in e.completion]
    assert all(e.completion == REFUSAL or "Quite other." in e.completion for e in refused)
    assert len(refused) >= len(none)


def _first_texts(questions: list[SourceQuestion], settings: AskedExampleSettings) -> set[str]:
    made = make_asked_examples(questions, FakeEmbedder(), replace(settings, missed_share=1.0))
    return {e.evidence[0].text for e in made if e.right}


def test_a_question_that_nothing_answers_is_refused() -> None:
    """At the share asked for; its evidence is the page all the same."""
    unanswered = [_question(topic, "colour", answered=False) for topic in TOPICS]

    examples = make_asked_examples(unanswered, FakeEmbedder(), PLAIN)

    assert [REFUSAL] * len(TOPICS) == [e.completion for e in examples]
    assert all(e.style == "refusal" and len(e.evidence) == 4 and not e.cited for e in examples)
    assert [] == make_asked_examples(unanswered, FakeEmbedder(), replace(PLAIN, unanswered_share=0.0))


def test_short_answers_are_followed_by_right_and_then_by_best_ranked_sentences() -> None:
    """Up to the words drawn and never beyond the longest answer."""
    settings = replace(PLAIN, bare_share=0.0, answer_words=(14, 14, 14), longest_answer=20)

    for example in make_asked_examples(QUESTIONS, FakeEmbedder(), settings):
        words = re.sub(r"\s*\[\d\]", "", example.completion).split()
        assert 14 <= len(words) <= 20
        assert example.cited[0] in example.right
        assert len(set(example.cited)) == len(example.cited)


def test_styles_are_drawn_and_keep_the_copy() -> None:
    """A lead-in or a closing around the same sentence."""
    examples = make_asked_examples(QUESTIONS, FakeEmbedder(), replace(PLAIN, styled_share=1.0))

    assert {"lead_in", "polite"} == set(Counter(e.style for e in examples))
    for example in examples:
        assert f"{example.evidence[example.cited[0] - 1].text} [{example.cited[0]}]" in example.completion


def test_the_same_settings_make_the_same_examples() -> None:
    """And another seed makes others."""
    settings = replace(PLAIN, bare_share=0.3, styled_share=0.5)

    assert make_asked_examples(QUESTIONS, FakeEmbedder(), settings) == make_asked_examples(
        QUESTIONS, FakeEmbedder(), settings
    )
    assert make_asked_examples(QUESTIONS, FakeEmbedder(), settings) != make_asked_examples(
        QUESTIONS, FakeEmbedder(), replace(settings, seed=21)
    )


def test_long_evidence_loses_its_last_sentences() -> None:
    """Until it fits."""
    settings = replace(PLAIN, max_evidence_characters=120)

    for example in make_asked_examples(QUESTIONS, FakeEmbedder(), settings):
        assert sum(len(e.heading) + len(e.text) + 8 for e in example.evidence) <= 120


def test_both_folds_hold_pages() -> None:
    """About half of them each, by name alone."""
    counts = Counter(fold(f"page {n}") for n in range(400))

    assert {0, 1} == set(counts)
    assert 150 < counts[0] < 250


@pytest.mark.parametrize(
    ("name", "value"),
    [("sentences", ()), ("sentences", (0,)), ("answer_words", (5, 3, 4)), ("missed_share", 1.5)],
)
def test_settings_that_cannot_work_are_named(name: str, value: object) -> None:
    """Before anything is embedded."""
    with pytest.raises(ValueError, match=name):
        AskedExampleSettings(**{name: value})  # type: ignore[arg-type]  # that is what is tested


def test_nothing_asked_makes_nothing() -> None:
    """Nor does it embed."""
    assert [] == make_asked_examples([], FakeEmbedder(), PLAIN)
    assert as_evidence(_page("leave")[0]).startswith("leave > form: ")
