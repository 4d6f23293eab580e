"""Grounding keeps what the evidence supports, drops what it does not, and every citation shown is real."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatbot.grounding import check, citation_support, supports
from chatbot.prompt import REFUSAL
from chatbot.records import EvidenceSentence
from chatbot.settings import GroundingSettings
from tests.chatbot.turn_fakes import make_passage

LEAVE = "You get 25 days of annual leave each year."
WEEKS = "You do not need to take all 12 weeks of parental leave at once."
SICK = "Sick leave is paid at 80% for up to 10 weeks."
RECEIPTS = "Send receipts to Jane Miller within 30 days, or ask in #travel."


def _evidence(*texts: str) -> list[EvidenceSentence]:
    found = []
    for number, text in enumerate(texts, start=1):
        passage = make_passage(f"Intro. {text} Outro.", number)
        start = passage.start + passage.text.index(text)
        found.append(
            EvidenceSentence(
                number=number,
                text=text,
                heading="Leave > Annual leave",
                similarity=0.9 - number / 10,
                start=start,
                end=start + len(text),
                passage=passage,
            )
        )
    return found


ALL = _evidence(LEAVE, WEEKS, SICK, RECEIPTS)


@pytest.mark.parametrize(
    "sentence",
    [
        "In Leave > Annual leave it says: [1]",
        "Annual leave: [1]",
        "According to Leave > Annual leave: In Leave > Annual leave it says: [1]",
        "Leave > Annual leave it says",
    ],
)
def test_where_something_stands_is_no_answer(sentence: str) -> None:
    """A heading supports the sentence below it, but said alone it states nothing, so the evidence is quoted instead."""
    text, _, report = check(sentence, ALL[1:2])

    assert (f"{WEEKS} [1]", 0, True) == (text, report.n_supported, report.fell_back)


def test_a_heading_s_words_are_an_answer_where_the_text_says_them() -> None:
    """The same words stand below the heading too."""
    text, _, report = check("Annual leave. [1]", _evidence("Annual leave."))

    assert ("Annual leave. [1]", 1) == (text, report.n_supported)


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (WEEKS, "You do not need to take all 12 weeks of parental leave at once."),
        (WEEKS, "You don't need to take all twelve weeks at once."),
        (WEEKS, "There is no need to take all 12 weeks at once."),
        (LEAVE, "Yes, you get twenty-five days of annual leave.".replace("twenty-five", "25")),
        (SICK, "Sick leave is paid at 80 percent."),
        (RECEIPTS, "Receipts are sent to Jane Miller within 30 days."),
        ("If you are not a citizen, you can apply for the visa.", "You can apply for the visa."),
        ("You can work not only from home but also from a café.", "You can work from home."),
        ("There is no limit on sick leave, and sick leave is paid at 80%.", "Sick leave is paid at 80%."),
        ("You may not travel unless your manager approves.", "You may not travel."),
        ("Meals cost at most $1,000.00 a year.", "Meals cost at most $1000 a year."),
    ],
)
def test_true_statements_are_supported(evidence: str, sentence: str) -> None:
    """Copies and close rephrasings hold."""
    assert supports(evidence, sentence)


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (WEEKS, "You need to take all 12 weeks of parental leave at once."),
        ("You need to take all 12 weeks at once.", "You do not need to take all 12 weeks at once."),
        ("You must not, under any circumstances, share the password.", "You must share the password."),
        ("You can't work from a café.", "You can work from a café."),
        ("Never open attachments from strangers.", "Open attachments from strangers."),
        ("No approval is needed for trips.", "Approval is needed for trips."),
        ("Only managers can approve expenses.", "Managers can approve expenses."),
        ("Managers can approve expenses.", "Only managers can approve expenses."),
        ("You may not travel without approval.", "You may travel without approval."),
        (LEAVE, "You get 28 days of annual leave each year."),
        (SICK, "Sick leave is paid at 80% for up to 10 days."),
        ("Meals cost at most $50.", "Meals cost at least $50."),
        (RECEIPTS, "Send receipts to Peter Miller within 30 days."),
        (RECEIPTS, "Send receipts within 30 days, or ask in #finance."),
        ("Write to travel@example.org.", "Write to leave@example.org."),
        (LEAVE, "Bananas are rich in potassium."),
    ],
)
def test_false_statements_are_not(evidence: str, sentence: str) -> None:
    """A lost or added negation, a wrong number, unit, direction, name or address, or other words fail."""
    assert not supports(evidence, sentence)


def test_a_supported_sentence_keeps_its_citation() -> None:
    """The cited evidence becomes citation 1, with its place in the document."""
    text, citations, report = check(f"{SICK} [3]", ALL)

    assert text == f"{SICK} [1]"
    assert [(c.number, c.text, c.document, c.start) for c in citations] == [
        (1, SICK, "leave/document-3.md", ALL[2].start)
    ]
    assert (report.n_sentences, report.n_supported, report.fell_back) == (1, 1, False)


@pytest.mark.parametrize("mark", [" [1].", ". [1]", ".[1]", "[1]."])
def test_marks_before_and_after_the_full_stop_are_the_same(mark: str) -> None:
    """However the model places its marks, they belong to the sentence before."""
    text, _, _ = check(f"{LEAVE[:-1]}{mark} Sick leave is paid at 80% [3].", ALL)

    assert text == f"{LEAVE} [1] Sick leave is paid at 80%. [2]"


def test_an_unsupported_sentence_is_dropped() -> None:
    """What the evidence contradicts disappears; the rest stays and the report tells."""
    text, citations, report = check(f"{LEAVE} [1] You need to take all 12 weeks at once [2].", ALL)

    assert text == f"{LEAVE} [1]"
    assert len(citations) == 1
    assert report.dropped == ("You need to take all 12 weeks at once.",)
    assert (report.n_sentences, report.n_supported) == (2, 1)


@pytest.mark.parametrize("wrong", ["[2]", "[9]", ""])
def test_a_wrong_or_missing_number_is_repaired(wrong: str) -> None:
    """When another shown sentence supports the statement, that one is cited."""
    text, citations, report = check(f"{LEAVE} {wrong}", ALL)

    assert text == f"{LEAVE} [1]"
    assert citations[0].text == LEAVE
    assert not report.fell_back


def test_numbers_count_from_one_by_first_appearance() -> None:
    """Citing 3, 1, 3 is shown as 1, 2, 1."""
    text, citations, _ = check(f"{SICK} [3] {LEAVE} [1] Sick leave is paid. [3]", ALL)

    assert text == f"{SICK} [1] {LEAVE} [2] Sick leave is paid. [1]"
    assert [c.text for c in citations] == [SICK, LEAVE]


def test_evidence_of_two_sentences_is_marked_once_at_its_end() -> None:
    """A question with its answer is one quotation."""
    both = replace(ALL[0], text="Do I lose the days? No, they are given back to you.")
    text, citations, _ = check(f"{both.text} [1]", [both])

    assert f"{both.text} [1]" == text
    assert 1 == len(citations)


def test_a_sentence_said_twice_is_kept_once_and_counts_against_the_answer() -> None:
    """A small model may loop; the reader shall not see it, and training shall."""
    text, _, report = check(f"{LEAVE} [1] {LEAVE} [1] {LEAVE} [1]", ALL)

    assert f"{LEAVE} [1]" == text
    assert (1, 3) == (report.n_supported, report.n_sentences)


def test_a_sentence_may_rest_on_two_together() -> None:
    """Facts from two cited sentences are checked against both at once, and both stay cited."""
    text, citations, _ = check(
        "You get 25 days of annual leave, and sick leave is paid at 80% for up to 10 weeks [1][3].", ALL
    )

    assert text.endswith("[1][2]")
    assert {c.text for c in citations} == {LEAVE, SICK}


def test_nothing_supported_falls_back_to_the_best_evidence() -> None:
    """A completion without one supported sentence is replaced by a quotation."""
    text, citations, report = check(
        "Bananas are rich in potassium [1].", ALL, GroundingSettings(max_quoted=1)
    )

    assert text == f"{LEAVE} [1]"
    assert [c.text for c in citations] == [LEAVE]
    assert report.fell_back
    assert (report.n_sentences, report.n_supported) == (1, 0)


def test_courtesies_and_lead_ins_are_neutral() -> None:
    """A "Yes." and a closing line are neither checked nor counted; naming the heading is no claim."""
    text, _, report = check(
        f"Yes. According to Leave > Annual leave, {LEAVE[0].lower()}{LEAVE[1:]} [1] Hope this helps!", ALL
    )

    assert text.startswith("Yes. According to Leave > Annual leave, you get 25 days")
    assert text.endswith("[1] Hope this helps!")
    assert (report.n_sentences, report.n_supported) == (1, 1)


def test_a_refusal_stays_one() -> None:
    """A refusal has no citations, even when the model added one."""
    text, citations, report = check("I don't know [1].", ALL)

    assert text == REFUSAL
    assert not citations
    assert report.n_sentences == 0


def test_line_breaks_of_a_list_survive() -> None:
    """A list stays a list."""
    text, _, _ = check(f"{LEAVE} [1]\n{SICK} [3]", ALL)

    assert text == f"{LEAVE} [1]\n{SICK} [2]"


def test_bracketed_numbers_of_a_document_are_no_citations() -> None:
    """A quoted sentence with its own [7] does not become a citation that leads nowhere."""
    evidence = _evidence("The handbook[7] names 25 days [12].")

    text, citations, _ = check("Nonsense about bananas.", evidence)

    assert text == "The handbook names 25 days. [1]"
    assert len(citations) == 1


_SENTENCES = st.sampled_from(
    [LEAVE, WEEKS, SICK, RECEIPTS, "You need to take all 12 weeks at once.", "Yes.", "Hm", "☕ [", "]."]
)
_MARKS = st.lists(st.integers(0, 120), max_size=3).map(lambda ns: "".join(f"[{n}]" for n in ns))
_COMPLETIONS = st.lists(st.tuples(_SENTENCES | st.text(max_size=30), _MARKS), max_size=5).map(
    lambda parts: " ".join(f"{sentence}{marks}" for sentence, marks in parts)
)


@given(
    completion=_COMPLETIONS,
    texts=st.lists(st.sampled_from([LEAVE, WEEKS, SICK, "See [4]."]), min_size=1, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_every_number_shown_is_a_citation_of_its_passage(completion: str, texts: list[str]) -> None:
    """Whatever a model writes: numbers shown = citations, counted from 1, each text found in its own passage."""
    evidence = _evidence(*texts)

    text, citations, report = check(completion, evidence)

    shown = list(dict.fromkeys(int(n) for n in re.findall(r"\[(\d{1,2})\]", text)))
    assert shown == [c.number for c in citations] == list(range(1, len(citations) + 1))
    passages = {item.passage.chunk_id: item.passage for item in evidence}
    for citation in citations:
        passage = passages[citation.chunk_id]
        assert " ".join(citation.text.split()) in " ".join(passage.text.split())
        assert passage.text[citation.start - passage.start : citation.end - passage.start] == citation.text
    assert 0 <= report.n_supported <= report.n_sentences


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        (f"{LEAVE} [1]", (1, 1)),
        (f"{LEAVE} [2]", (0, 1)),
        (f"{LEAVE} [1][2]", (1, 2)),
        (f"{LEAVE} [9]", (0, 1)),
        (f"{LEAVE} [1] You get 30 days of annual leave. [1]", (1, 2)),
        ("You get 25 days of annual leave, and sick leave is paid at 80%. [1][3]", (2, 2)),
        ("You get 25 days of annual leave each year.", (0, 0)),
        ("I hope that helps.", (0, 0)),
    ],
)
def test_citation_support_counts_what_supports_the_sentence_that_cites_it(
    completion: str, found: tuple[int, int]
) -> None:
    """Alone, or together where none does alone; what was never shown supports nothing."""
    assert found == citation_support(completion, ALL)


def test_table_rows_without_stops_are_statements_of_their_own() -> None:
    """A citation ends what it supports, so three rows quoted in a line are not one sentence that nothing supports."""
    rows = ("Christmas Eve: December 24", "Christmas Day: December 25", "We host events at night.")
    completion = f"{rows[0]} [1] {rows[1]} [2] {rows[2]} [3]"
    text, citations, report = check(completion, _evidence(*rows))

    assert (3, 3) == (report.n_sentences, report.n_supported)
    assert completion == text
    assert 3 == len(citations)


def test_a_sentence_of_the_evidence_holds_whatever_its_heading_negates() -> None:
    """The heading says "Email is not private", and the sentence itself says what "Private" does not mean."""
    said = "You should not expect privacy for messages that you label “Private.”"
    (item,) = _evidence(said)
    headed = replace(item, heading="Privacy > Email Is Not Private")
    _, _, report = check(f"{said} [1]", [headed])

    assert 1 == report.n_supported
    assert (1, 1) == citation_support(f"{said} [1]", [headed])
