"""Finds table rows among the lines of a PDF page and says them with their headers. Knows nothing of PDFium.

A line with wide gaps is a row. Cells that wrap, or stand a little higher than their neighbours, come as lines of their own;
they are put back into their row by the column in which they begin. Tables that are pictures stay unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from knowledge_base.loaders.tables import table_lines

CELL_MARK = "\ue002"
"""Stands between the cells of a row while lines are joined; a private character."""
_SAME_COLUMN_POINTS = 1.5
_WRAPPED = 1.6
"""Lines of one cell are at most this many letter heights apart."""
_FAR = 3.2
"""Lines of one table are at most this many letter heights apart."""
_SAME_SIZE = 0.1
_MAX_FRAGMENTS = 8
"""More lines than this between two rows are text, not cells."""
_PLAIN_NUMBER = re.compile(r"[\d.,%€$£+−–\s-]+")
_YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line as PDFium reads it; places in points, upward from the page's foot."""

    text: str
    left: float
    right: float
    bottom: float
    size: float
    """Height of the first letter's box, in points; stands for the font size."""
    is_bold: bool = False
    lefts: tuple[float, ...] = ()
    """Where each cell begins; one place for a line that is no row."""

    @property
    def is_row(self) -> bool:
        """Whether the line has several cells."""
        return CELL_MARK in self.text


def merge_rows(lines: Sequence[Line]) -> list[Line]:
    """Put cells that stand on lines of their own back into their rows; other lines pass unchanged."""
    merged: list[Line] = []
    position = 0
    while position < len(lines):
        end = _table_end(lines, position) if lines[position].is_row else position
        if end > position:
            merged.extend(_rows(lines[position:end]))
            position = end
        else:
            merged.append(lines[position])
            position += 1
    return merged


def say_rows(lines: Sequence[Line], texts: Sequence[str]) -> Iterator[str]:
    """Give rows their headers where there is a header row; `texts` are what to say for each line."""
    pairs = [(line, text.split(CELL_MARK)) for line, text in zip(lines, texts, strict=True)]
    for position, (line, cells) in enumerate(pairs[:-1]):
        # A header row often has nothing above the row labels.
        if line.is_bold and len(cells) > 1 and len(pairs[position + 1][1]) == len(cells) + 1:
            pairs[position] = (line, ["", *cells])
    for n_cells, group in groupby(pairs, key=lambda pair: len(pair[1])):
        rows = list(group)
        if n_cells > 1:
            yield from table_lines([cells for _, cells in rows], has_header=_has_header(rows))
        else:
            yield from (cells[0] for _, cells in rows)


def _has_header(rows: Sequence[tuple[Line, list[str]]]) -> bool:
    if len(rows) < 2:
        return False
    (first, cells), (second, _) = rows[0], rows[1]
    if first.is_bold != second.is_bold:
        return first.is_bold
    # Without bold type to go by, a row of words heads rows of figures; a year may head a column.
    has_figures = [any(map(_PLAIN_NUMBER.fullmatch, filter(None, row))) for _, row in rows[1:]]
    return all(has_figures) and not any(
        _PLAIN_NUMBER.fullmatch(c) and not _YEAR.fullmatch(c) for c in cells if c
    )


def _table_end(lines: Sequence[Line], start: int) -> int:
    """The index after the last line of the table that begins at `start`."""
    end = start + 1
    columns = list(lines[start].lefts)
    for position in range(start + 1, len(lines)):
        line, before = lines[position], lines[position - 1]
        if (
            abs(before.bottom - line.bottom) > _FAR * line.size
            or abs(line.size - before.size) > _SAME_SIZE * before.size
        ):
            break
        if line.is_row:
            columns.extend(line.lefts)
            end = position + 1
            continue
        column = _column_of(line, columns)
        if column is None or position - end >= _MAX_FRAGMENTS:
            break
        if column > min(columns) + 2 * _SAME_COLUMN_POINTS:
            end = position + 1  # beyond the first column it is a cell even after the last whole row
    return end


def _column_of(line: Line, columns: Sequence[float]) -> float | None:
    """The column in which a line begins and into which it fits; None for ordinary text."""
    column = min(columns, key=lambda left: abs(left - line.left))
    following = min(
        (left for left in columns if left > column + 2 * _SAME_COLUMN_POINTS), default=float("inf")
    )
    fits = abs(line.left - column) <= _SAME_COLUMN_POINTS and line.right <= following + _SAME_COLUMN_POINTS
    return column if fits else None


def _rows(lines: Sequence[Line]) -> list[Line]:
    widest = max((line.lefts for line in lines), key=len)
    columns = sorted(widest)
    rows: list[tuple[Line, list[str]]] = []
    last_column, last = -1, lines[0]
    for line in lines:
        cells = line.text.split(CELL_MARK)
        for index, (left, cell) in enumerate(zip(line.lefts, cells, strict=True)):
            column = index if len(cells) == len(columns) else _nearest(columns, left)
            is_wrapped = column == last_column and 0 <= last.bottom - line.bottom <= _WRAPPED * line.size
            if (
                not rows
                or column < last_column
                or (column == last_column and not is_wrapped)
                or line.is_bold != last.is_bold
            ):
                rows.append((line, [""] * len(columns)))
            texts = rows[-1][1]
            texts[column] = f"{texts[column]} {cell.strip()}".strip()
            last_column, last = column, line
    return [replace(line, text=CELL_MARK.join(cells), lefts=tuple(columns)) for line, cells in rows]


def _nearest(columns: Sequence[float], left: float) -> int:
    return min(range(len(columns)), key=lambda index: abs(columns[index] - left))
