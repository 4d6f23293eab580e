"""Build the PDF and DOCX documents of the sample company from their source texts.

Sources are `tools/sample_documents/<collection>/<topic>/<name>.pdf.md` (or `.docx.md`): YAML front matter and a small
part of Markdown (headings, paragraphs, lists, tables, `<!-- page -->`). Each becomes the document of the same path below
`ui/sample_company`. Dates inside the files are fixed, so building twice with the same libraries gives the same bytes.

    python tools/build_sample_documents.py            # write the documents
    python tools/build_sample_documents.py --check    # exit 1 when a committed document differs from its source
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

SOURCES = Path(__file__).parent / "sample_documents"
TARGETS = Path(__file__).parent.parent / "ui" / "sample_company"
COMPANY = "Tidewright Instruments"
BUILT_AT = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
NAVY = (20, 58, 92)
GREY = (100, 110, 120)

Kind = Literal["heading", "subheading", "paragraph", "bullets", "numbers", "table", "page"]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a source text; `rows` holds a table's rows, the items of a list, or one row with the text."""

    kind: Kind
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def text(self) -> str:
        """Text of a heading or paragraph."""
        return self.rows[0][0]


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed source text: the facts of its front matter and its blocks in order."""

    title: str
    subtitle: str
    owner: str
    version: str
    blocks: tuple[Block, ...]


def parse(text: str) -> Source:
    """Read one source text; raises ValueError when the front matter is missing."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        raise ValueError("the source text has no front matter between two lines of ---")
    facts = yaml.safe_load(match.group(1))
    return Source(
        title=facts["title"],
        subtitle=facts["subtitle"],
        owner=facts["owner"],
        version=facts["version"],
        blocks=tuple(parse_blocks(text[match.end() :])),
    )


def parse_blocks(body: str) -> Iterator[Block]:
    """Blocks of the body; blank lines part them."""
    for part in re.split(r"\n\s*\n", body.strip()):
        lines = [line.strip() for line in part.splitlines()]
        first = lines[0]
        if first == "<!-- page -->":
            yield Block("page")
        elif first.startswith("#"):
            kind: Kind = "subheading" if first.startswith("##") else "heading"
            yield Block(kind, ((first.lstrip("# "),),))
        elif first.startswith("|"):
            cells = (tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines)
            yield Block("table", tuple(row for row in cells if not set("".join(row)) <= {"-"}))
        elif first.startswith("- "):
            yield Block("bullets", tuple((line[2:],) for line in lines))
        elif re.match(r"\d+\. ", first):
            yield Block("numbers", tuple((line.split(". ", 1)[1],) for line in lines))
        else:
            yield Block("paragraph", ((" ".join(lines),),))


def column_weights(rows: tuple[tuple[str, ...], ...]) -> tuple[int, ...]:
    """Relative column widths, from each column's longest cell, so that no column starves."""
    return tuple(min(40, max(10, *(len(row[i]) for row in rows))) for i in range(len(rows[0])))


def new_pdf(source: Source) -> Any:
    """An empty PDF whose pages carry the company's name above and the page number below."""
    from fpdf import FPDF

    class Paper(FPDF):
        """A4 pages with running header and footer."""

        def header(self) -> None:
            """Company and title above each page."""
            self.set_font("helvetica", size=8)
            self.set_text_color(*GREY)
            self.cell(0, 5, f"{COMPANY} | {source.title}", new_x="LMARGIN", new_y="NEXT")
            self.ln(4)

        def footer(self) -> None:
            """Page number below each page."""
            self.set_y(-14)
            self.set_font("helvetica", size=8)
            self.set_text_color(*GREY)
            self.cell(0, 5, f"Page {self.page_no()} of {{nb}}", align="C")

    pdf = Paper(format="A4")
    pdf.core_fonts_encoding = "cp1252"  # Latin-1 lacks the euro sign
    pdf.creation_date = BUILT_AT
    pdf.set_title(source.title)
    pdf.set_author(source.owner)
    pdf.set_lang("en")
    pdf.set_margins(22, 16, 22)
    pdf.set_auto_page_break(auto=True, margin=20)
    return pdf


def build_pdf(source: Source) -> bytes:
    """The PDF of a source text, with real text in the standard Helvetica font."""
    pdf = new_pdf(source)
    pdf.add_page()
    pdf.set_text_color(*NAVY)
    pdf.set_font("helvetica", "B", 22)
    pdf.multi_cell(0, 10, source.title, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=12)
    pdf.set_text_color(*GREY)
    for line in (source.subtitle, f"Owner: {source.owner}", source.version):
        pdf.multi_cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(4)
    for block in source.blocks:
        draw_block(pdf, block)
    return bytes(pdf.output())


def draw_block(pdf: Any, block: Block) -> None:
    """Put one block on the page."""
    pdf.set_text_color(0)
    if block.kind == "page":
        pdf.add_page()
    elif block.kind in {"heading", "subheading"}:
        draw_heading(pdf, block)
    elif block.kind == "table":
        draw_table(pdf, block)
    else:
        pdf.set_font("helvetica", size=10.5)
        for number, (item,) in enumerate(block.rows, start=1):
            mark = {"bullets": "•", "numbers": f"{number}."}.get(block.kind)
            if mark:
                pdf.cell(7, 5.4, mark, align="R")
                pdf.set_x(pdf.get_x() + 2)
            pdf.multi_cell(0, 5.4, item, align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.ln(2.5)


def draw_heading(pdf: Any, block: Block) -> None:
    """A heading that never stands alone at the foot of a page."""
    if pdf.will_page_break(30):
        pdf.add_page()
    pdf.ln(1.5)
    pdf.set_text_color(*NAVY)
    pdf.set_font("helvetica", "B", 14 if block.kind == "heading" else 11.5)
    pdf.multi_cell(0, 7, block.text, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(0.8)


def draw_table(pdf: Any, block: Block) -> None:
    """A table whose first row is its heading."""
    pdf.set_font("helvetica", size=9.5)
    pdf.set_draw_color(190)
    with pdf.table(
        col_widths=column_weights(block.rows), text_align="LEFT", line_height=5.2, padding=0.8
    ) as table:
        for cells in block.rows:
            row = table.row()
            for cell in cells:
                row.cell(cell)
    pdf.ln(4)


def build_docx(source: Source) -> bytes:
    """The DOCX of a source text, in Word's own heading, list and table styles."""
    import docx

    document: Any = docx.Document()
    facts = document.core_properties
    facts.title, facts.author, facts.last_modified_by = source.title, source.owner, source.owner
    facts.created = facts.modified = BUILT_AT.replace(tzinfo=None)
    document.add_heading(source.title, level=0)
    document.add_paragraph(source.subtitle, style="Subtitle")
    document.add_paragraph(f"Owner: {source.owner}. {source.version}.")
    for block in source.blocks:
        add_block(document, block)
    document.sections[0].footer.paragraphs[0].text = f"{COMPANY}, for internal use"
    buffer = io.BytesIO()
    document.save(buffer)
    return with_fixed_dates(buffer.getvalue())


def add_block(document: Any, block: Block) -> None:
    """Append one block to a Word document."""
    styles = {"bullets": "List Bullet", "numbers": "List Number"}
    if block.kind == "page":
        document.add_page_break()
    elif block.kind in {"heading", "subheading"}:
        document.add_heading(block.text, level=1 if block.kind == "heading" else 2)
    elif block.kind == "table":
        table = document.add_table(rows=0, cols=len(block.rows[0]), style="Light Grid Accent 1")
        for cells in block.rows:
            for cell, text in zip(table.add_row().cells, cells, strict=True):
                cell.text = text
        document.add_paragraph()
    else:
        for (item,) in block.rows:
            document.add_paragraph(item, style=styles.get(block.kind))


def with_fixed_dates(packed: bytes) -> bytes:
    """The same ZIP archive with the date of every member set to BUILT_AT."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            info = zipfile.ZipInfo(member.filename, BUILT_AT.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, old.read(member))
    return out.getvalue()


def built() -> Iterator[tuple[Path, bytes]]:
    """Target path and content of every document that has a source text."""
    builders = {".pdf": build_pdf, ".docx": build_docx}
    for path in sorted(SOURCES.rglob("*.md")):
        target = TARGETS / path.relative_to(SOURCES).with_suffix("")
        yield target, builders[target.suffix](parse(path.read_text(encoding="utf-8")))


def main() -> int:
    """Write the documents, or compare them with what is committed."""
    parser = argparse.ArgumentParser(description="Build the sample company's PDF and DOCX documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a document differs")
    check = parser.parse_args().check
    stale = 0
    for target, content in built():
        name = target.relative_to(TARGETS)
        if not check:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            print(f"{name}: {len(content) / 1024:.1f} KiB")
        elif not target.exists() or target.read_bytes() != content:
            stale += 1
            print(f"{name}: differs from its source; run this script without --check", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
