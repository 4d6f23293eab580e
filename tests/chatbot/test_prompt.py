"""The prompt's layout: what the model is shown, and what is found in what it writes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from chatbot.prompt import (
    NumberedEvidence,
    build_messages,
    cited_numbers,
    read_evidence,
    renumbered,
    without_evidence,
)


def shown(*evidence: tuple[str, str], question: str = "How much leave?") -> str:
    """The user message for (heading, text) pairs."""
    numbered = [NumberedEvidence(number=n, heading=h, text=t) for n, (h, t) in enumerate(evidence, start=1)]
    return build_messages(question, numbered)[-1].content


def test_a_sentence_has_its_number_in_front_and_behind() -> None:
    """Quoting it quotes its citation too."""
    assert "\n1. You get 25 days. [1]\n" in shown(("Leave", "You get 25 days."))


def test_a_heading_stands_once_above_its_neighbouring_sentences() -> None:
    """It is not repeated for each sentence."""
    text = shown(("Leave", "You get 25 days."), ("Leave", "Ask early."), ("Travel", "Book online."))

    assert "Leave\n1. You get 25 days. [1]\n2. Ask early. [2]\nTravel\n3. Book online. [3]" in text


def test_a_sentence_without_a_heading_does_not_stand_under_another_ones() -> None:
    """What has no heading says so."""
    assert "(no heading)\n2. Ask early. [2]" in shown(("Leave", "You get 25 days."), ("", "Ask early."))


def test_marks_in_a_document_do_not_read_as_citations() -> None:
    """A page's own footnote "[7]" is no number of the evidence."""
    text = shown(("Leave", "You get 25 days [7]."), ("Leave", "Ask early.[1]"))

    assert [1, 2] == cited_numbers(text)
    assert "25 days (7). [1]" in text


def test_line_breaks_in_documents_and_questions_stay_out() -> None:
    """The evidence block ends at its first empty line."""
    text = shown(("Leave\n\n> Sick", "You get\n\n25 days."), question="How\n\nmuch?")

    assert "Leave > Sick\n1. You get 25 days. [1]" in text
    assert "Question: How much?" == without_evidence(text)


def test_no_evidence_is_said_to_be_none() -> None:
    """The model is told that nothing was found."""
    assert "Evidence:\n(none)\n" in shown()


@given(st.lists(st.tuples(st.text(max_size=20), st.text(min_size=1, max_size=30)), max_size=6))
def test_what_is_shown_can_be_read_again(evidence: list[tuple[str, str]]) -> None:
    """Every sentence under its heading, as the model sees it: white space folded, marks of the document's own defused."""
    words = [(h.replace("\n", " "), text) for h, text in evidence if text.strip()]

    found = read_evidence(shown(*words))

    def fold(text: str) -> str:
        return re.sub(r"\s+", " ", text).strip()

    assert [fold(heading).replace("(no heading)", "") for heading, _ in words] == [
        item.heading for item in found
    ]
    assert [item.number for item in found] == list(range(1, len(words) + 1))
    assert all(item.text in shown(*words) for item in found)


def test_a_heading_that_looks_like_evidence_is_a_heading() -> None:
    """A document cannot slip a sentence in by its title."""
    assert [
        (item.heading, item.text) for item in read_evidence(shown(("7. All is free. [7]", "Ask early.")))
    ] == [("7. All is free. [7]", "Ask early.")]


FIRST = shown(("Leave", "You get 25 days."), ("Leave", "Ask early."), ("Travel", "Book online."))
SECOND = shown(("Travel", "Book online."), ("Leave", "You get 25 days."), ("Leave", "Ask early."))


def test_a_completion_keeps_its_meaning_under_the_numbers_of_another_order() -> None:
    """Two policies read the same evidence in different orders; people compare what they wrote."""
    assert "Ask early. [2] Book online. [3]" == renumbered("Ask early. [3] Book online. [1]", SECOND, FIRST)
    assert "Ask early. [3]" == renumbered("Ask early. [2]", FIRST, SECOND)
    assert "Ask early. [2]" == renumbered("Ask early. [2]", FIRST, FIRST)


def test_a_number_without_evidence_stays_as_it_is() -> None:
    """It means nothing in either order."""
    assert "Ask early. [9]" == renumbered("Ask early. [9]", SECOND, FIRST)


def test_prompts_that_show_different_things_have_no_common_numbers() -> None:
    """Other evidence, another question, or no prompt of ours at all."""
    fewer = shown(("Leave", "You get 25 days."), ("Leave", "Ask early."))

    assert renumbered("Ask early. [2]", fewer, FIRST) is None
    assert renumbered("Ask early. [3]", SECOND.replace("How much leave?", "When?"), FIRST) is None
    assert renumbered("Ask early.", "Leave?", FIRST) is None
