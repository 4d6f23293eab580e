"""Loads Word documents (.docx): headings by style, lists and tables where they stand in the text.

A DOCX is a ZIP archive, so it is checked for ZIP bombs before anything is unpacked. Text marked as deleted is left out,
text marked as inserted is in: that is how the document reads once its changes are accepted.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.archives import check_docx_archive
from knowledge_base.loaders.assembly import DocumentBuilder, one_line
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.tables import table_lines
from knowledge_base.loaders.text import title_from_name
from knowledge_base.records import ParsedDocument

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PICTURE = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}docPr"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TEXT_BOX = f"{_W}txbxContent"
_LEFT_OUT = frozenset({f"{_W}del", f"{_W}moveFrom", _FALLBACK, f"{_W}pPr", f"{_W}rPr", f"{_W}instrText"})
_SPACES = {f"{_W}tab": " ", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_HEADING_STYLE = re.compile(r"heading (\d)$", re.IGNORECASE)
_MAX_SPAN = 100


def load_docx(data: bytes, name: str, limits: LoadLimits) -> ParsedDocument:
    """Parse DOCX bytes.

    Raises:
        DocumentError: it is no Word document, a ZIP bomb, without text, or beyond a limit.
    """
    check_docx_archive(data, name, limits)
    import docx

    document = docx.Document(io.BytesIO(data))
    reader = _BodyReader(document, DocumentBuilder(name, limits))
    reader.read(document.element.body)
    builder = reader.finish()
    properties = _properties(document)
    title = reader.title or properties.get("title") or builder.first_top_heading or title_from_name(name)
    parsed = builder.finish(title=title, media_type=MEDIA_TYPE, metadata=properties)
    if not parsed.text:
        raise DocumentError(f"{name} has no text (pictures only?): add text, or leave it out")
    return parsed


class _BodyReader:
    """Walks the body in document order and keeps the list in progress together."""

    def __init__(self, document: Any, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._styles = {style.style_id: style for style in document.styles}
        self._formats = _number_formats(document)
        self._counters: Counter[tuple[str, int]] = Counter()
        self._list: list[str] = []
        self.title = ""

    def read(self, container: Any) -> None:
        """Read paragraphs, tables and content controls below `container`."""
        for element in container:
            if element.tag == f"{_W}p":
                self._paragraph(element)
            elif element.tag == f"{_W}tbl":
                self._end_list()
                self._table(element)
            elif element.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"}:
                self.read(element)

    def finish(self) -> DocumentBuilder:
        """End the last list and give the builder back."""
        self._end_list()
        return self._builder

    def _paragraph(self, element: Any) -> None:
        text = _text(element)
        level, is_title = self._heading(element)
        if text.strip() and level is not None:
            self._end_list()
            self._builder.add_heading(level, text)
            if is_title and not self.title:
                self.title = one_line(text)
        elif text.strip():
            mark = self._list_mark(element)
            if mark is None:
                self._end_list()
                self._builder.add_block("\n".join(one_line(line) for line in text.split("\n")))
            else:
                self._list.append(f"{mark}{one_line(text)}")
        for box in element.iter(_TEXT_BOX):
            if not any(above.tag == _FALLBACK for above in box.iterancestors()):
                self._end_list()
                self.read(box)

    def _end_list(self) -> None:
        self._builder.add_block("\n".join(self._list))
        self._list.clear()

    def _heading(self, element: Any) -> tuple[int | None, bool]:
        """The heading level (None for body text) and whether it is the title."""
        style = self._style(element)
        while style is not None:
            if style.name == "Title":
                return 1, True
            if match := _HEADING_STYLE.match(style.name or ""):
                return int(match[1]), False
            style = style.base_style
        outline = element.find(f"{_W}pPr/{_W}outlineLvl")
        value = _number(outline)
        return (value + 1 if value is not None and value < 9 else None), False

    def _style(self, element: Any) -> Any:
        found = element.find(f"{_W}pPr/{_W}pStyle")
        return self._styles.get(found.get(f"{_W}val")) if found is not None else None

    def _list_mark(self, element: Any) -> str | None:
        """`- `, `2. ` or None for a paragraph that is no list item; two spaces a level before it."""
        style = self._style(element)
        properties = element.find(f"{_W}pPr/{_W}numPr")
        if properties is None and style is not None:
            properties = style.element.find(f"{_W}pPr/{_W}numPr")
        name = (style.name or "") if style is not None else ""
        if (
            properties is None or properties.find(f"{_W}numId") is None
        ):  # Word's Subtitle has a level but no list
            return "- " if name.startswith("List ") and name != "List Paragraph" else None
        level = _number(properties.find(f"{_W}ilvl")) or 0
        key = str(properties.find(f"{_W}numId").get(f"{_W}val"))
        if key == "0":
            return None  # numbering taken away again
        indent = "  " * level
        if self._formats.get((key, level), "bullet") in {"bullet", "none"}:
            return f"{indent}- "
        self._counters[key, level] += 1
        for deeper in range(level + 1, 9):
            self._counters.pop((key, deeper), None)
        return f"{indent}{self._counters[key, level]}. "

    def _table(self, element: Any) -> None:
        rows = [_cells(row) for row in element.iter(f"{_W}tr") if _own_table(row) is element]
        if not rows:
            return
        if max(len(row) for row in rows) == 1:
            for cell in element.iter(f"{_W}tc"):  # a frame around text, no table
                if _own_table(cell) is element:
                    self.read(cell)
            self._end_list()
            return
        self._builder.add_block("\n".join(table_lines(rows, has_header=_has_header(element, rows))))


def _text(element: Any) -> str:
    """Visible text of a paragraph, changes accepted, text boxes aside."""
    return "".join(_pieces(element))


def _pieces(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag in _LEFT_OUT or child.tag == _TEXT_BOX:
            continue
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _SPACES:
            yield _SPACES[child.tag]
        elif child.tag == _PICTURE and child.get("descr"):
            yield f" (Image: {one_line(child.get('descr'))}) "
        else:
            yield from _pieces(child)


def _cells(row: Any) -> list[str]:
    """Cell texts of a row on one line each, a cell across several columns repeated."""
    texts: list[str] = []
    for cell in row.iter(f"{_W}tc"):
        if next(cell.iterancestors(f"{_W}tr")) is not row:
            continue
        lines = [one_line(_text(paragraph)) for paragraph in cell.iter(f"{_W}p")]
        text = ""
        for line in filter(None, lines):
            text += ("" if not text else " " if text[-1] in ".,:;!?" else ", ") + line
        span = _number(cell.find(f"{_W}tcPr/{_W}gridSpan")) or 1
        texts.extend([text] * min(span, _MAX_SPAN))
    return texts


def _own_table(part: Any) -> Any:
    return next(part.iterancestors(f"{_W}tbl"))


def _has_header(table: Any, rows: list[list[str]]) -> bool:
    """Word marks repeated header rows, and a table style's first row; without either a full first row counts."""
    if table.find(f"{_W}tr/{_W}trPr/{_W}tblHeader") is not None:
        return True
    look = table.find(f"{_W}tblPr/{_W}tblLook")
    if look is not None and look.get(f"{_W}firstRow") == "0":
        return False
    return len(rows) > 1 and len(rows[0]) > 1 and all(rows[0]) and all(len(cell) <= 60 for cell in rows[0])


def _number(element: Any) -> int | None:
    value = element.get(f"{_W}val") if element is not None else None
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def _number_formats(document: Any) -> dict[tuple[str, int], str]:
    """Number format by numbering id and level, such as `decimal` or `bullet`."""
    try:
        numbering = document.part.numbering_part.element
    except (KeyError, NotImplementedError):
        return {}  # a document without lists has no numbering part
    abstract: dict[str, dict[int, str]] = {}
    for definition in numbering.iter(f"{_W}abstractNum"):
        levels = {
            _number_at(level, "ilvl"): str(level.find(f"{_W}numFmt").get(f"{_W}val"))
            for level in definition.iter(f"{_W}lvl")
            if level.find(f"{_W}numFmt") is not None
        }
        abstract[str(definition.get(f"{_W}abstractNumId"))] = levels
    formats: dict[tuple[str, int], str] = {}
    for number in numbering.iter(f"{_W}num"):
        link = number.find(f"{_W}abstractNumId")
        if link is not None:
            for level, name in abstract.get(str(link.get(f"{_W}val")), {}).items():
                formats[str(number.get(f"{_W}numId")), level] = name
    return formats


def _number_at(element: Any, attribute: str) -> int:
    value = str(element.get(f"{_W}{attribute}") or "0")
    return int(value) if value.isascii() and value.isdigit() else 0


def _properties(document: Any) -> dict[str, str]:
    if not any(part.partname == "/docProps/core.xml" for part in document.part.package.iter_parts()):
        return {}  # python-docx would make some up, with the present time
    core = document.core_properties
    values = {"title": core.title, "author": core.author, "subject": core.subject, "keywords": core.keywords}
    properties = {name: one_line(value) for name, value in values.items() if value and one_line(value)}
    if properties.get("title", "").casefold() in {"word document", "document", "untitled"}:
        del properties["title"]
    if core.modified is not None:
        properties["modified"] = core.modified.isoformat()
    return properties
