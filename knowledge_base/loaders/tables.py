"""Says table rows as lines that make sense alone: `Years: 3; Days: 25`.

A row quoted without its header row would be a puzzle, both for a reader and for the embedder; so each row
carries the headers. Tables without headers become `label: cell` or `cell | cell | cell` lines. Knows nothing of HTML or DOCX.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_MAX_LABEL_CHARACTERS = 60
"""A longer first cell is a text of its own, not a label for the second."""


def table_lines(rows: Sequence[Sequence[str]], *, has_header: bool) -> Iterator[str]:
    """Yield one line a row; `rows` are cell texts on one line each, spans already repeated.

    >>> list(table_lines([["Years", "Days"], ["1", "20"]], has_header=True))
    ['Years: 1; Days: 20']
    """
    if has_header and len(rows) > 1:
        headers = rows[0]
        for row in rows[1:]:
            if line := _row_with_headers(headers, row):
                yield line
        return
    for cells in map(_distinct, rows):
        if len(cells) == 2 and len(cells[0]) <= _MAX_LABEL_CHARACTERS and not cells[0].endswith((":", "?")):
            yield f"{cells[0]}: {cells[1]}"
        elif cells:
            yield " | ".join(cells)


def _row_with_headers(headers: Sequence[str], row: Sequence[str]) -> str:
    cells = _distinct(row)
    if len(cells) == 1 and len(row) > 1 and len(set(row)) == 1:
        return cells[0]  # one cell across all columns: a caption within the table
    said: list[str] = []
    for position, cell in enumerate(row):
        if not cell or (position and cell == row[position - 1] and _header(headers, position) == ""):
            continue
        header = _header(headers, position)
        said.append(f"{header}{'' if header[-1] in ':?' else ':'} {cell}" if header else cell)
    return "; ".join([*(part.rstrip(";.") for part in said[:-1]), *said[-1:]])


def _header(headers: Sequence[str], position: int) -> str:
    return headers[position] if position < len(headers) else ""


def _distinct(row: Sequence[str]) -> list[str]:
    """Cells with text, a cell that spans several columns once."""
    return [
        cell for position, cell in enumerate(row) if cell and (position == 0 or cell != row[position - 1])
    ]
