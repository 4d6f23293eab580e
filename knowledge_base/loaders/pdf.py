"""Loads PDFs that hold text: pages kept, wrapped lines joined, headings told by their size. No OCR.

Running headers, footers and page numbers are dropped where they repeat on most pages: they would end up in the
middle of sentences that run over a page end. Text is in the order in which PDFium reads the page.
"""

from __future__ import annotations

from typing import Any

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.assembly import DocumentBuilder, one_line
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.pdf_characters import page_lines
from knowledge_base.loaders.pdf_lines import PageText, add_page, drop_running_lines, heading_sizes
from knowledge_base.loaders.pdf_tables import Line
from knowledge_base.loaders.text import title_from_name
from knowledge_base.records import ParsedDocument

MEDIA_TYPE = "application/pdf"
_PASSWORD_NEEDED = 4
"""PDFium's FPDF_ERR_PASSWORD."""


def load_pdf(data: bytes, name: str, limits: LoadLimits) -> ParsedDocument:
    """Parse PDF bytes; every section has its page.

    Raises:
        DocumentError: the PDF is encrypted, damaged, without text, or beyond a limit.
    """
    document = _open(data, name)
    try:
        n_pages = len(document)
        if n_pages > limits.max_pages:
            raise DocumentError(
                f"{name} has {n_pages:,} pages, the limit is {limits.max_pages:,}: split it, or raise max_pages"
            )
        pages = drop_running_lines([_read_page(document, index) for index in range(n_pages)])
        properties = _properties(document)
    finally:
        document.close()
    if not any(page.lines for page in pages):
        raise DocumentError(f"{name} has no text (scanned?): run it through OCR first and ingest the result")
    return _assemble(pages, name, limits, properties)


def _open(data: bytes, name: str) -> Any:
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_NEEDED:
            raise DocumentError(
                f"{name} is encrypted: save it without a password and ingest again"
            ) from error
        raise DocumentError(f"{name} is a damaged PDF: open it, save it again, and ingest that") from error


def _read_page(document: Any, index: int) -> PageText:
    import pypdfium2

    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        # One damaged page is skipped; a document of damaged pages only ends as "has no text".
        return PageText(number=index + 1, lines=())
    try:
        text_page = page.get_textpage()
        try:
            return PageText(number=index + 1, lines=tuple(page_lines(text_page)))
        finally:
            text_page.close()
    finally:
        page.close()


def _properties(document: Any) -> dict[str, str]:
    found: dict[str, str] = document.get_metadata_dict(skip_empty=True)
    return {key.lower(): one_line(value) for key, value in found.items() if one_line(value)}


def _assemble(
    pages: list[PageText], name: str, limits: LoadLimits, properties: dict[str, str]
) -> ParsedDocument:
    builder = DocumentBuilder(name, limits)
    sizes = heading_sizes(pages)
    words = {word for page in pages for line in page.lines for word in line.text.casefold().split()}
    for page in pages:
        if page.lines:
            builder.start_page(page.number)
            add_page(page, builder, sizes, words)
    title = _title(properties, pages[0].lines) or builder.first_top_heading or title_from_name(name)
    return builder.finish(title=title, media_type=MEDIA_TYPE, metadata={**properties, "pages": len(pages)})


def _title(properties: dict[str, str], first_lines: tuple[Line, ...]) -> str:
    """The title property, unless a program filled it with a file's name."""
    title = properties.get("title", "")
    looks_made = title.lower().startswith(
        ("microsoft word", "word document", "untitled")
    ) or title.lower().endswith((".doc", ".docx", ".pdf", ".indd", ".pptx", ".xlsx"))
    return "" if looks_made or not first_lines else title
