"""Pages are cut into sections whose sentences and table rows make sense alone."""

from __future__ import annotations

import pytest

from alignment.corpus import CorpusDocument
from alignment.page_sections import is_usable_row, read_sections

PAGE = """# Leave

Everyone has paid leave, whatever the contract says.

| Office | Paid days |
| Bristol | 26, and 8 bank holidays |
| Porto | 25 |
The office is the one in your contract, not the one you visit.

## Long service

| Years | Extra days |
| 3 years or more | 1 extra day |

| Who | Approves |
| Line manager | up to three weeks |
"""


def _read(text: str) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    document = CorpusDocument(source="hb", path="leave.md", text=text)
    return [(section.path, section.sentences, section.rows) for section in read_sections(document)]


def test_table_rows_carry_their_columns_names_and_stand_apart_from_sentences() -> None:
    """Under the heading they stand below, as the loaders write them in serving."""
    assert [
        (
            "Leave",
            (
                "Everyone has paid leave, whatever the contract says.",
                "The office is the one in your contract, not the one you visit.",
            ),
            ("Office: Bristol; Paid days: 26, and 8 bank holidays", "Office: Porto; Paid days: 25"),
        ),
        (
            "Leave > Long service",
            (),
            (
                "Years: 3 years or more; Extra days: 1 extra day",
                "Who: Line manager; Approves: up to three weeks",
            ),
        ),
    ] == _read(PAGE)


def test_a_table_of_a_header_alone_has_no_rows() -> None:
    """There is nothing to say."""
    assert [] == _read("# Leave\n\n| Office | Paid days |\n")


@pytest.mark.parametrize("row", ["A: 1", "Check: ✅; Cross: ❌; Dash: — — — — — —", "Long: " + "word " * 80])
def test_rows_that_say_nothing_or_too_much_are_left_out(row: str) -> None:
    """Too short, mostly signs, longer than a sentence may be."""
    assert not is_usable_row(row)
