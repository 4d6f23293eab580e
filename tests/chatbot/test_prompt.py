"""The prompt's layout: what the model is shown, and what is found in what it writes."""

from __future__ import annotations

from chatbot.prompt import NumberedEvidence, build_messages, cited_numbers, without_evidence


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
