"""Makes paragraphs and headings of the lines on PDF pages. Knows nothing of files nor of PDFium.

A PDF knows characters at places, not paragraphs. Lines are joined unless something speaks for an end: a gap, a
bullet, a change of size, a short line that ends a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from knowledge_base.loaders.assembly import BlockSink, one_line
from knowledge_base.loaders.pdf_tables import CELL_MARK, Line, merge_rows, say_rows

_BULLET = re.compile(r"^\s*[•●○◦▪■□‣∙·➢✓\uf0b7\uf0a7*–-]\s+")
_NUMBER = re.compile(r"^\s*\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s+")
_ENDS_SENTENCE = re.compile(r"[.!?:;][)”\"']?$")
_HEADING_RATIO = 1.12
"""How much larger than the body a line must be to count as a heading."""
_MAX_HEADING_CHARACTERS = 120
_MAX_LEVELS = 4
_GAP_RATIO = 1.35
"""A distance between lines this much above the usual one begins a paragraph."""
_REPEATS = 0.6
"""Share of pages on which a top or bottom line must stand to be a running one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageText:
    """The lines of one page, counted from 1."""

    number: int
    lines: tuple[Line, ...]


def drop_running_lines(pages: Sequence[PageText]) -> list[PageText]:
    """Leave out first and last lines in small type that repeat on most pages, numbers aside (`Page 3 of 9`)."""
    if len(pages) < 3:
        return list(pages)
    body = _body_size(pages)
    counts = Counter(
        key for page in pages for key in {_running_key(line.text) for line in _edges(page.lines)}
    )
    needed = max(3, _REPEATS * len(pages))

    def is_running(line: Line) -> bool:
        key = _running_key(line.text)
        can_run = key == "#" or bool(re.search(r"[^\W\d_]{3}", key))  # figures at a page's end are a table's
        return can_run and line.size <= body * _HEADING_RATIO and counts[key] >= needed

    kept = []
    for page in pages:
        edges = {id(line) for line in _edges(page.lines)}
        lines = tuple(line for line in page.lines if id(line) not in edges or not is_running(line))
        kept.append(PageText(number=page.number, lines=lines))
    return kept


def heading_sizes(pages: Sequence[PageText]) -> list[float]:
    """Sizes that mark headings, largest first: clearly above the body's size, which most characters have."""
    weights = _size_weights(pages)
    body = _body_size(pages)
    larger = sorted((size for size in weights if size > body * _HEADING_RATIO), reverse=True)
    # A page set mostly in large type has no headings to tell.
    return larger if sum(weights[size] for size in larger) < 0.4 * weights.total() else []


def add_page(page: PageText, sink: BlockSink, sizes: Sequence[float], words: set[str]) -> None:
    """Hand a page's headings and paragraphs to `sink`; `words` are all the document's, to judge hyphens by."""
    spacing = _usual_spacing(page.lines)
    right_edge = max(line.right for line in page.lines)
    listed: list[tuple[Line, str]] = []

    def end_list() -> None:
        sink.add_block("\n".join(say_rows([line for line, _ in listed], [text for _, text in listed])))
        listed.clear()

    for block in _blocks(merge_rows(page.lines), spacing, right_edge):
        text = join_lines([line.text for line in block], words)
        level = _heading_level(block, sizes)
        if level is None and _is_listed(block[0]):
            listed.append((block[0], _BULLET.sub("- ", text)))
            continue
        end_list()
        text = text.replace(CELL_MARK, " | ")
        if level is None:
            sink.add_block(text)
        else:
            sink.add_heading(level, one_line(text))
    end_list()


def _blocks(lines: Sequence[Line], spacing: float, right_edge: float) -> list[list[Line]]:
    blocks: list[list[Line]] = []
    for line in lines:
        if blocks and not _begins_block(blocks[-1][-1], line, spacing, right_edge):
            blocks[-1].append(line)
        else:
            blocks.append([line])
    return blocks


def _is_listed(line: Line) -> bool:
    """A list item or table row: such blocks stay together, a line each."""
    return bool(_BULLET.match(line.text) or _NUMBER.match(line.text) or line.is_row)


def join_lines(lines: Sequence[str], words: set[str]) -> str:
    """Join wrapped lines; a hyphen at a line end goes unless the document also writes the word with it.

    >>> join_lines(["We reimburse reason-", "able costs."], set())
    'We reimburse reasonable costs.'
    """
    joined = ""
    for line in (text.strip() for text in lines):
        if not joined:
            joined = line
        elif joined.endswith("-") and line[:1].isalpha() and joined[-2:-1].isalpha():
            head, tail = joined.rsplit(None, 1)[-1], line.split(None, 1)[0]
            keeps = (
                f"{head}{tail}".casefold().strip(".,;:)") in words
                or not line[0].islower()
                or head.count("-") > 1
            )
            joined = (joined if keeps else joined[:-1]) + line
        else:
            joined = f"{joined} {line}"
    return joined


def _edges(lines: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(lines[:2]) + tuple(lines[-2:])


def _running_key(text: str) -> str:
    return re.sub(r"\d+", "#", one_line(text).casefold())


def _size_weights(pages: Iterable[PageText]) -> Counter[float]:
    """Characters by size."""
    weights: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            weights[_rounded(line.size)] += len(line.text)
    return weights


def _body_size(pages: Iterable[PageText]) -> float:
    """The size that most characters have; 0 without any."""
    weights = _size_weights(pages)
    return weights.most_common(1)[0][0] if weights else 0.0


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _usual_spacing(lines: Sequence[Line]) -> float:
    distances = [above.bottom - below.bottom for above, below in pairwise(lines)]
    forward = [distance for distance in distances if distance > 1]
    return median(forward) if forward else 0.0


def _begins_block(before: Line, line: Line, spacing: float, right_edge: float) -> bool:
    if _is_listed(line) or before.is_row:
        return True
    if abs(before.size - line.size) > 0.08 * max(before.size, line.size):
        return True
    distance = before.bottom - line.bottom
    if distance < 1 and abs(distance) > 1:
        return True  # further up the page: the next column
    if spacing and distance > _GAP_RATIO * max(spacing, line.size):
        return True
    is_short = before.right < right_edge - 0.15 * max(right_edge - before.left, 1.0)
    return is_short and (bool(_ENDS_SENTENCE.search(before.text)) or line.text[:1].isupper())


def _heading_level(block: Sequence[Line], sizes: Sequence[float]) -> int | None:
    size = _rounded(block[0].size)
    text = " ".join(line.text for line in block)
    if size not in sizes or len(text) > _MAX_HEADING_CHARACTERS or not re.search(r"[^\W\d_]{2}", text):
        return None
    return min(list(sizes).index(size) + 1, _MAX_LEVELS)
