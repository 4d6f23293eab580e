"""Turns an HTML tree into blocks of clean text; Markdown and HTML documents both pass through here.

Lists stay lists (`- item`, `1. item`, nested ones indented by two spaces), tables become rows that make sense alone,
links their text, images `(Image: alternative text)`. Struck-out text is dropped: it is withdrawn, and an answer
that quotes it would be wrong. Knows nothing of files, nor of which part of a page is the content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import lxml.html
from lxml.html import HtmlElement

from knowledge_base.loaders.assembly import BlockSink, one_line
from knowledge_base.loaders.tables import table_lines

_BREAK = "\ue000"
"""Stands for a line break while white space is folded; a private character, removed from the input first."""
_MAX_SPAN = 100
"""Columns or rows that one cell may cover; a larger claim is a mistake or an attack."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SKIPPED = frozenset(
    "script style noscript template iframe object embed svg canvas audio video map head select datalist textarea "  # noqa: SIM905 - words read best as words
    "input s strike del".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form header "  # noqa: SIM905 - words read best as words
    "hgroup hr html legend li main menu nav p section summary caption tbody thead tfoot tr td th".split()
)


def parse_html(source: str) -> HtmlElement:
    """Parse a page or fragment; the result is its `html` element. White space alone gives an empty body."""
    source = source.replace(_BREAK, "")
    return lxml.html.document_fromstring(source if source.strip() else "<body></body>", ensure_head_body=True)


def add_html(root: HtmlElement, sink: BlockSink) -> None:
    """Hand the blocks under `root` to `sink` in document order."""
    walker = _Walker(sink)
    walker.visit(root)
    walker.flush()


def visible_text(element: HtmlElement) -> str:
    """All visible text below an element on one line."""
    lines = _Lines()
    walker = _Walker(lines)
    walker.children(element)  # not the element itself: a heading would ask for its text again
    walker.flush()
    return one_line(" ".join(lines.lines))


class _Lines:
    """A sink that keeps lines only: for list items and table cells, which hold no sections."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add_heading(self, level: int, text: str) -> None:  # noqa: ARG002 - the sink's contract has levels
        self.lines.append(one_line(text))

    def add_block(self, text: str) -> None:
        self.lines.extend(line for line in text.split("\n") if line.strip())


class _Walker:
    """Gathers inline text until a block begins or ends."""

    def __init__(self, sink: BlockSink) -> None:
        self._sink = sink
        self._inline: list[str] = []

    def flush(self) -> None:
        """End the paragraph in progress."""
        text = _fold("".join(self._inline))
        self._inline.clear()
        if text:
            self._sink.add_block(text)

    def visit(self, element: HtmlElement) -> None:
        """Take an element with all that is inside."""
        tag = element.tag
        if not isinstance(tag, str) or tag in _SKIPPED or _is_hidden(element):
            return
        if tag in _HEADINGS:
            self.flush()
            self._heading(element, _HEADINGS[tag])
        elif tag in {"ul", "ol", "table", "pre", "dl"}:
            self.flush()
            self._structure(element, tag)
        elif tag in _BLOCKS:
            self.flush()
            self.children(element)
            self.flush()
        elif tag == "br":
            self._inline.append(_BREAK)
        elif tag == "img":
            self._image(element)
        else:
            self.children(element)
            self._address(element)

    def children(self, element: HtmlElement) -> None:
        """Take what is inside an element."""
        self._inline.append(element.text or "")
        for child in element:
            self.visit(child)
            self._inline.append(child.tail or "")

    def _heading(self, element: HtmlElement, level: int) -> None:
        text = visible_text(element).rstrip("¶").strip()
        self._sink.add_heading(level, text)

    def _structure(self, element: HtmlElement, tag: str) -> None:
        if tag == "pre":
            self._sink.add_block(element.text_content().strip("\n"))
        elif tag == "table":
            if _is_layout(element):
                self.children(element)
                self.flush()
            else:
                self._sink.add_block("\n".join(_table(element)))
        else:
            lines = _definitions(element) if tag == "dl" else _list_lines(element)
            self._sink.add_block("\n".join(lines))

    def _image(self, element: HtmlElement) -> None:
        alternative = one_line(element.get("alt") or "")
        if not alternative:
            return
        before, after = "".join(self._inline[-2:]), element.tail or ""
        # An image on a source line of its own is a line of its own; an icon within a sentence stays within.
        alone = re.search(rf"(^|[\n{_BREAK}])\s*$", before) and re.match(r"\s*(\n|$)", after)
        mark = _BREAK if alone else ""
        self._inline.append(f"{mark}(Image: {alternative}){mark}")

    def _address(self, element: HtmlElement) -> None:
        """Say a mail address that only the link holds: `Ask us` would answer nothing."""
        href = element.get("href") or ""
        if element.tag == "a" and href.lower().startswith("mailto:"):
            address = href[len("mailto:") :].split("?")[0]
            text = element.text_content()
            if "@" in address and address.casefold() not in text.casefold() and "@" not in text:
                self._inline.append(f" ({address})")


def _fold(text: str) -> str:
    """Fold white space as a browser does; `<br>` alone makes lines."""
    lines = (one_line(line) for line in text.split(_BREAK))
    return "\n".join(line for line in lines if line)


def _is_hidden(element: HtmlElement) -> bool:
    style = (element.get("style") or "").replace(" ", "").lower()
    return element.get("hidden") is not None or "display:none" in style


def _list_lines(element: HtmlElement) -> Iterator[str]:
    number = _whole(element.get("start"), 1) if element.tag == "ol" else None
    for child in element:
        if not isinstance(child.tag, str):
            continue
        sink = _Lines()
        add_html(child, sink)
        if child.tag != "li":  # a list directly inside a list
            yield from (f"  {line}" for line in sink.lines)
        elif sink.lines:
            mark = "- " if number is None else f"{number}. "
            yield mark + sink.lines[0].lstrip()
            yield from (f"  {line}" for line in sink.lines[1:])
        if number is not None and child.tag == "li":
            number += 1


def _definitions(element: HtmlElement) -> Iterator[str]:
    """`term: definition`, a further definition as a list item."""
    term = ""
    for child in element.iter("dt", "dd"):
        text = visible_text(child)
        if child.tag == "dt":
            if term:
                yield term
            term = text
        elif text:
            yield f"{term.rstrip(':')}: {text}" if term else f"- {text}"
            term = ""
    if term:
        yield term


def _is_layout(table: HtmlElement) -> bool:
    """A table that only places things: it holds another table or headings, or has one column."""
    if next(table.iter("h1", "h2", "h3", "h4", "h5", "h6"), None) is not None:
        return True
    if sum(1 for _ in table.iter("table")) > 1:
        return True
    return all(len(row.xpath("./td|./th")) <= 1 for row in table.iter("tr"))


def _table(table: HtmlElement) -> Iterator[str]:
    caption = table.find("caption")
    if caption is not None and (text := visible_text(caption)):
        yield text
    rows = [row for row in table.iter("tr") if len(row)]
    if not rows:
        return
    first = rows[0]
    parent = first.getparent()
    in_head = parent is not None and parent.tag == "thead"
    has_header = in_head or all(cell.tag == "th" for cell in first.xpath("./td|./th"))
    grid = _grid(rows)
    if has_header and not any(grid[0]):
        grid, has_header = (
            grid[1:],
            False,
        )  # Markdown tables must have a header row; an empty one says nothing
    yield from table_lines(grid, has_header=has_header)


def _grid(rows: list[HtmlElement]) -> list[list[str]]:
    """Cell texts by row and column; a cell that spans is repeated in each place that it covers."""
    grid: list[list[str]] = []
    carried: dict[int, tuple[str, int]] = {}
    for row in rows:
        cells: list[str] = []
        for cell in row.xpath("./td|./th"):
            _fill_carried(cells, carried)
            text = _cell_text(cell)
            n_rows = min(_whole(cell.get("rowspan"), 1), _MAX_SPAN)
            for _ in range(min(_whole(cell.get("colspan"), 1), _MAX_SPAN)):
                if n_rows > 1:
                    carried[len(cells)] = (text, n_rows - 1)
                cells.append(text)
        _fill_carried(cells, carried)
        grid.append(cells)
    return grid


def _fill_carried(cells: list[str], carried: dict[int, tuple[str, int]]) -> None:
    """Repeat cells from rows above while they still cover this row."""
    while (place := len(cells)) in carried:
        text, left = carried.pop(place)
        if left > 1:
            carried[place] = (text, left - 1)
        cells.append(text)


def _cell_text(cell: HtmlElement) -> str:
    sink = _Lines()
    add_html(cell, sink)
    text = ""
    for line in (one_line(line).removeprefix("- ") for line in sink.lines):
        text += ("" if not text else " " if text[-1] in ".,:;!?" else ", ") + line
    return text


def _whole(text: str | None, default: int) -> int:
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else default
