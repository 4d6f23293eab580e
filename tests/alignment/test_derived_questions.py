"""Questions that documents ask themselves."""

from __future__ import annotations

from alignment.derived_questions import derive_questions, question_id
from tests.alignment.company import make_document

TABLE = "Grade: junior; Days: 25; Notice period: 4 weeks"


def test_a_heading_is_asked_about_in_several_ways_under_one_key() -> None:
    """And its own line is not part of the answer."""
    document = make_document("Leave", [("Sick leave", "Call your manager before nine. Rest.")])
    derived = derive_questions([document], phrasings=3, seed=1)

    assert 3 == len({item.question for item in derived})
    assert 1 == len({item.key for item in derived})
    assert {"Call your manager before nine. Rest."} == {item.answer for item in derived}


def test_an_edit_above_a_section_changes_neither_its_key_nor_how_it_is_asked_for() -> None:
    """Else each edit would carry questions from what is learned to what is measured on, and back."""
    last = ("Sick leave", "Call your manager before nine. Rest.")
    before, after = (
        {
            (item.key, item.question)
            for item in derive_questions([make_document("Leave", [first, last])], phrasings=3, seed=1)
            if "Call your" in item.answer
        }
        for first in (
            ("Parental leave", "Six months for all."),
            ("Parental leave", "Six months for everybody, paid in full."),
        )
    )

    assert before
    assert before == after


def test_sections_of_one_heading_have_keys_of_their_own() -> None:
    """They are two stretches, and each may be asked for in words of its own."""
    twice = [
        ("Sick leave", "Call your manager before nine."),
        ("Sick leave", "Bring a note on the fourth day."),
    ]
    derived = derive_questions([make_document("Leave", twice)], phrasings=6, seed=1)

    assert {(1, item.answer) for item in derived} == {
        (len({other.key for other in derived if other.answer == item.answer}), item.answer)
        for item in derived
    }
    assert len({item.answer for item in derived}) == len({item.key for item in derived})


def test_headings_that_differ_in_signs_alone_have_keys_of_their_own() -> None:
    """C++ is not C#."""
    sections = [
        ("Style of C++ code", "Use two spaces, always."),
        ("Style of C# code", "Use four spaces, always."),
    ]
    derived = derive_questions([make_document("Code", sections)], phrasings=6, seed=1)

    assert len({item.answer for item in derived}) == len({item.key for item in derived}) == 2


def test_a_faq_line_is_a_question_and_the_lines_up_to_the_next_its_answer() -> None:
    """With and without the marks."""
    body = "Q: May I work from abroad?\nA: For ten days a year, yes.\nWho pays for my internet?\nThe company does, up to 30 euros."
    derived = derive_questions([make_document("Remote", [("FAQ", body)])], phrasings=1, seed=1)
    found = {item.question: item.answer for item in derived if item.kind == "faq"}

    assert {
        "May I work from abroad?": "For ten days a year, yes.",
        "Who pays for my internet?": "The company does, up to 30 euros.",
    } == found


def test_each_cell_of_a_table_row_is_asked_for_under_one_key() -> None:
    """The whole row answers."""
    derived = [
        i
        for i in derive_questions([make_document("Grades", [("Grades", TABLE)])], phrasings=2, seed=1)
        if i.kind == "table"
    ]

    assert {"What are the days for junior?", "junior: notice period?"} == {item.question for item in derived}
    assert {TABLE} == {item.answer for item in derived}
    assert 1 == len({item.key for item in derived})


def test_a_question_answered_in_its_own_line_is_a_faq_too() -> None:
    """As bold questions come out of loaders."""
    body = "May I keep a list of birthdays? Yes, day and month, if each agreed."
    derived = derive_questions([make_document("Data", [("FAQ", body)])], phrasings=1, seed=1)

    assert [("May I keep a list of birthdays?", "Yes, day and month, if each agreed.")] == [
        (item.question, item.answer) for item in derived if item.kind == "faq"
    ]


def test_columns_that_name_no_property_are_not_asked_for() -> None:
    """Nobody asks for the remarks, and "approved by" is no noun."""
    row = "Value: above 50; Remarks: rare; Approved by: the board"
    derived = derive_questions([make_document("Buying", [("Buying", row)])], phrasings=2, seed=1)

    assert ["above 50: approved by?"] == [item.question for item in derived if item.kind == "table"]


def test_a_question_that_two_documents_answer_is_given_up() -> None:
    """Either answer alone would be wrong."""
    twins = [
        make_document(title, [("FAQ", "Q: Where do I park?\nA: " + answer)])
        for title, answer in (("Rome", "Behind the old station."), ("Lyon", "Under the office tower."))
    ]
    derived = derive_questions(twins, phrasings=1, seed=1)

    assert question_id("Where do I park?") not in {question_id(item.question) for item in derived}


def test_a_section_without_text_asks_nothing() -> None:
    """A heading alone."""
    assert [] == derive_questions([make_document("Leave", [("Sick leave", "")])], phrasings=2, seed=1)
