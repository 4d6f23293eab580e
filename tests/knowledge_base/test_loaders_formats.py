"""Text, HTML, PDF and DOCX documents; the files are made here."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from docx import Document as WordDocument
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from fpdf import FPDF

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.docx import load_docx
from knowledge_base.loaders.html import load_html
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.pdf import load_pdf
from knowledge_base.loaders.pdf_lines import join_lines
from knowledge_base.loaders.pdf_tables import CELL_MARK, Line, merge_rows, say_rows
from knowledge_base.loaders.text import load_text
from knowledge_base.records import ParsedDocument

LIMITS = LoadLimits()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_is_read_in_its_encoding(encoding: str) -> None:
    """UTF-8 or not, the words are the same."""
    assert (
        "Café für größere Räume" == load_text("Café für größere Räume".encode(encoding), "a.txt", LIMITS).text
    )


def test_longer_text_in_a_rarer_encoding_is_guessed() -> None:
    """Cyrillic in its old Windows encoding is still Cyrillic."""
    source = (
        "Сотрудник имеет право на ежегодный оплачиваемый отпуск продолжительностью двадцать восемь дней. " * 5
    )

    assert source.strip() == load_text(source.encode("cp1251"), "a.txt", LIMITS).text


def test_wrapped_lines_of_text_are_joined_and_items_are_not() -> None:
    """A line is a whole paragraph or list item."""
    source = "Every employee may take a paid day off when they\nmove house. It is paid.\n\n- ask early enough so that everybody can plan\n- tell us\n"

    assert (
        "Every employee may take a paid day off when they move house. It is paid.\n\n"
        "- ask early enough so that everybody can plan\n- tell us"
    ) == load_text(source.replace("when they\n", "when they\r\n").encode(), "a.txt", LIMITS).text


PAGE = """<html lang="en"><head><title>Leave | Acme</title><script>var x = "not text"</script></head><body>
<nav><a href="/">Home</a></nav><div class="cookie-banner">We use cookies</div>
<main><h1>Leave</h1><p>You get 20 days of leave a year. Ask early, and in writing.</p>
<h2>How to ask</h2><ul><li>Open the form<ul><li>on paper</li></ul></li><li>Send it</li></ul>
<table><tr><th>Years</th><th>Days</th></tr><tr><td>1</td><td>20</td></tr></table>
<dl><dt>Carry over</dt><dd>until March</dd></dl><p hidden>secret</p></main>
<footer>Copyright Acme</footer></body></html>"""


def test_a_page_keeps_its_content_and_structure() -> None:
    """Headings, nested lists, tables and definitions stay; menus, scripts and footers go."""
    parsed = load_html(PAGE.encode(), "leave.html", LIMITS)

    assert (
        "Leave\n\nYou get 20 days of leave a year. Ask early, and in writing.\n\nHow to ask\n\n- Open the form\n"
        "  - on paper\n- Send it\n\nYears: 1; Days: 20\n\nCarry over: until March"
    ) == parsed.text
    assert ("Leave", {"language": "en"}) == (parsed.title, parsed.metadata)
    assert [(), ("How to ask",)] == [section.heading_path for section in parsed.sections]


def test_a_menu_without_marks_is_told_by_its_links() -> None:
    """A list of nothing but links beside prose is no content."""
    menu = "".join(f"<li><a href='/{n}'>Menu entry {n}</a></li>" for n in range(9))
    prose = "<p>Parking is free for all employees after six in the evening on any day of the week.</p>"

    assert "Menu" not in load_html(f"<ul>{menu}</ul><h1>Parking</h1>{prose}".encode(), "p.html", LIMITS).text


def test_a_page_in_its_declared_encoding_is_read() -> None:
    """A meta tag decides when the bytes are not UTF-8."""
    source = "<html><head><meta charset='iso-8859-2'></head><body><p>Zażółć gęślą jaźń</p></body></html>"

    assert "Zażółć gęślą jaźń" == load_html(source.encode("iso-8859-2"), "p.html", LIMITS).text


def test_a_page_without_text_says_so() -> None:
    """An application's shell is no document."""
    with pytest.raises(DocumentError, match="shows no text"):
        load_html(b"<html><body><div id=app></div><script>go()</script></body></html>", "app.html", LIMITS)


class Handbook(FPDF):
    """A PDF with a running header and page numbers."""

    def header(self) -> None:
        """Print the running header."""
        self.set_font("Helvetica", "", 8)
        self.cell(0, 8, "Acme handbook", new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        """Print the page number."""
        self.set_y(-20)
        self.cell(0, 8, f"Page {self.page_no()} of 3")


def handbook_pdf() -> FPDF:
    """Three pages, each with a heading, a paragraph, a list and a table."""
    pdf = Handbook()
    for number in range(1, 4):
        pdf.add_page()
        pdf.set_font("Helvetica", "B", 18)
        pdf.cell(0, 12, f"Chapter {number}", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", "", 11)
        text = (
            f"Rule {number}: every employee may take twenty-five days of paid leave in a year, which the man-\nager "
            "has to agree to beforehand. Days left over can be taken until March."
        )
        pdf.multi_cell(0, 6, text, new_x="LMARGIN", new_y="NEXT")
        for item in ("open the form", "send it"):
            pdf.multi_cell(0, 6, f"\x95 {item}", new_x="LMARGIN", new_y="NEXT")
        with pdf.table() as table:
            for cells in (("Years", "Days"), ("1", "20"), ("5", "25")):
                row = table.row()
                for cell in cells:
                    row.cell(cell)
    return pdf


def read_pdf(pdf: FPDF, limits: LoadLimits = LIMITS) -> ParsedDocument:
    """Parse what a PDF prints."""
    return load_pdf(bytes(pdf.output()), "handbook.pdf", limits)


def test_a_pdf_keeps_pages_headings_lists_and_tables() -> None:
    """Lines are joined, hyphens at line ends go, running lines go."""
    parsed = read_pdf(handbook_pdf())

    first = parsed.text[: parsed.sections[0].end].strip()
    assert (
        "Chapter 1\n\nRule 1: every employee may take twenty-five days of paid leave in a year, which the manager has to agree "
        "to beforehand. Days left over can be taken until March.\n\n- open the form\n- send it\n"
        "Years: 1; Days: 20\nYears: 5; Days: 25"
    ) == first
    assert [1, 2, 3] == [section.page for section in parsed.sections]
    assert ("Chapter 2",) == parsed.sections[1].heading_path
    assert "Acme handbook" not in parsed.text
    assert "of 3" not in parsed.text


def row(*cells: tuple[float, str], bottom: float, is_bold: bool = False) -> Line:
    """A line on a page with cells at these places."""
    text, lefts = CELL_MARK.join(cell for _, cell in cells), tuple(left for left, _ in cells)
    return Line(
        text=text, left=lefts[0], right=lefts[-1] + 50, bottom=bottom, size=10, is_bold=is_bold, lefts=lefts
    )


def test_cells_on_lines_of_their_own_go_back_into_their_row() -> None:
    """Cells that wrap or stand higher than their neighbours are told by their columns."""
    lines = [
        row((110, "Bristol"), (170, "Porto"), bottom=700, is_bold=True),
        row((50, "You pay"), (110, "5%"), (170, "nothing"), bottom=680),
        row((50, "You join"), bottom=655),
        row((110, "after 3 months,"), bottom=660),
        row((110, "or earlier"), bottom=648),
        row((170, "on day one"), bottom=655),
        row((50, "Company"), (110, "8%"), (170, "4%"), bottom=630),
        row((50, "Ordinary words that follow the table"), bottom=580),
    ]

    merged = merge_rows(lines)

    expected = [
        "You pay; Bristol: 5%; Porto: nothing",
        "You join; Bristol: after 3 months, or earlier; Porto: on day one",
        "Company; Bristol: 8%; Porto: 4%",
        "Ordinary words that follow the table",
    ]
    assert expected == list(say_rows(merged, [line.text for line in merged]))


def test_a_pdf_is_titled_by_its_property() -> None:
    """The title property wins over headings."""
    pdf = handbook_pdf()
    pdf.set_title("Leave handbook")

    assert "Leave handbook" == read_pdf(pdf).title


def test_an_encrypted_pdf_says_what_to_do() -> None:
    """One line for the person who can open it."""
    pdf = handbook_pdf()
    pdf.set_encryption(owner_password="owner", user_password="user")

    with pytest.raises(
        DocumentError, match=r"handbook.pdf is encrypted: save it without a password and ingest again"
    ):
        read_pdf(pdf)


def test_a_scanned_pdf_says_what_to_do() -> None:
    """Pages without text need OCR."""
    pdf = FPDF()
    pdf.add_page()
    pdf.rect(10, 10, 50, 50)

    with pytest.raises(DocumentError, match=r"has no text \(scanned\?\): run it through OCR first"):
        read_pdf(pdf)


def test_a_pdf_with_too_many_pages_is_refused() -> None:
    """The limit is named."""
    with pytest.raises(DocumentError, match="has 3 pages, the limit is 2: split it, or raise max_pages"):
        read_pdf(handbook_pdf(), LoadLimits(max_pages=2))


def test_a_damaged_pdf_is_refused() -> None:
    """A torn download is told apart from an encrypted file."""
    with pytest.raises(DocumentError, match="damaged PDF"):
        load_pdf(b"%PDF-1.7\nnothing else", "torn.pdf", LIMITS)


@pytest.mark.parametrize(
    ("lines", "words", "expected"),
    [
        (["a well-", "known rule"], {"wellknown"}, "a well-known rule"),
        (["reason-", "able"], set(), "reasonable"),
        (["Anglo-", "American"], set(), "Anglo-American"),
        (["pages 3-", "4"], set(), "pages 3- 4"),
    ],
)
def test_hyphens_at_line_ends(lines: list[str], words: set[str], expected: str) -> None:
    """A hyphen stays where the document or the capital speaks for it."""
    seen = {"well-known"} if "wellknown" in words else set()
    assert expected == join_lines(lines, seen)


def word_bytes(document: object) -> bytes:
    """A Word document as a file."""
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]  # python-docx has no types
    return buffer.getvalue()


def test_a_word_document_keeps_its_order_and_structure() -> None:
    """Title, headings, lists and tables stand where they stood."""
    word = WordDocument()
    word.add_heading("Travel", 0)
    word.add_paragraph("For everyone", style="Subtitle")
    word.add_heading("Booking", 1)
    word.add_paragraph("Book early.")
    word.add_paragraph("Ask", style="List Number")
    word.add_paragraph("Book", style="List Number")
    table = word.add_table(rows=2, cols=2)
    for cell, text in zip(
        [c for row in table.rows for c in row.cells], ["City", "Limit", "Berlin", "120"], strict=True
    ):
        cell.text = text
    word.add_paragraph("Keep receipts.", style="List Bullet")

    parsed = load_docx(word_bytes(word), "travel.docx", LIMITS)

    assert (
        "Travel\n\nFor everyone\n\nBooking\n\nBook early.\n\n1. Ask\n2. Book\n\nCity: Berlin; Limit: 120\n\n- Keep receipts."
        == parsed.text
    )
    assert "Travel" == parsed.title
    assert ("Booking",) == parsed.sections[-1].heading_path


def test_changes_in_a_word_document_count_as_accepted() -> None:
    """Deleted text is gone, inserted text is there."""
    word = WordDocument()
    paragraph = word.add_paragraph("Take 10 ")
    for tag, text_tag, text in (("w:del", "w:delText", "old "), ("w:ins", "w:t", "new days")):
        change, run, content = OxmlElement(tag), OxmlElement("w:r"), OxmlElement(text_tag)
        content.text = text
        content.set(qn("xml:space"), "preserve")
        run.append(content)
        change.append(run)
        paragraph._p.append(change)

    assert "Take 10 new days" == load_docx(word_bytes(word), "a.docx", LIMITS).text


def test_the_text_limit_holds_for_every_format(tmp_path: Path) -> None:
    """The limit and the setting to raise are named."""
    with pytest.raises(
        DocumentError, match=r"more than 100 characters of text: split it .* raise max_text_characters"
    ):
        load_text(b"word " * 100, "long.txt", LoadLimits(max_text_characters=100))
