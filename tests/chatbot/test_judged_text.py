"""What a judgement is about: the text that a person saw, as a completion of the prompt."""

from __future__ import annotations

from chatbot.judgements import judged_text
from chatbot.records import Citation, GroundingReport

NUMBERS = {(7, 0, 20): 3, (7, 30, 50): 5}


def cite(number: int, start: int, end: int) -> Citation:
    """A citation of chunk 7."""
    return Citation(
        number=number, document_id="d", document="leave.md", title="Leave", heading="", page=None, text="t",
        start=start, end=end, chunk_id=7,
    )  # fmt: skip


def judged(completion: str, text: str, report: GroundingReport | None) -> str:
    """With two citations, of evidence 3 and 5."""
    return judged_text(
        completion, text, citations=[cite(1, 0, 20), cite(2, 30, 50)], numbers=NUMBERS, report=report
    )


def test_a_completion_that_was_shown_whole_is_judged_as_written() -> None:
    """In the prompt's numbering."""
    report = GroundingReport(n_sentences=1, n_supported=1)

    assert "25 days. [3]" == judged("25 days. [3]", "25 days. [1]", report)


def test_what_was_dropped_is_not_judged() -> None:
    """The rest is, with the prompt's numbers."""
    report = GroundingReport(n_sentences=3, n_supported=2, dropped=("Bananas.",))

    assert "25 days. [3] Ask HR. [5]" == judged(
        "25 days. [3] Bananas. Ask HR. [5]", "25 days. [1] Ask HR. [2]", report
    )


def test_nonsense_is_not_judged_by_the_quotation_shown_in_its_place() -> None:
    """Else it would be praised for it."""
    report = GroundingReport(n_sentences=1, n_supported=0, dropped=("Bananas",), fell_back=True)

    assert "25 days. [3] Ask HR. [5]" == judged("Bananas", "25 days. [1] Ask HR. [2]", report)


def test_an_answer_without_a_completion_is_judged_as_shown() -> None:
    """The refusal of a turn in which no model was asked."""
    assert "I don't know." == judged("", "I don't know.", None)
