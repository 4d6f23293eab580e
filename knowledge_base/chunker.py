"""Cuts a parsed document into chunks along its structure.

1. A heading without text of its own goes with the section below it; small neighbouring sections under one parent are merged.
2. A section beyond the budget is cut between lines, which the loaders keep whole (a paragraph, list item, table row): a
   dynamic programme picks the cuts, so that pieces are of even size and do not part a list from the line that introduces it.
3. Only a line beyond the budget is itself cut, by semantic-text-splitter: between sentences, then words.

A chunk never spans two pages. Unlike the usual sliding window, chunks do not overlap by default: the retriever quotes
sentences, and one that stands in two chunks would be quoted twice. Knows nothing of tokenizers beyond a counting function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from knowledge_base.records import ChunkDraft, ParsedDocument, Section

CHUNKER_VERSION = "1"
"""Counted up when the same text and settings give other chunks, so that an ingest knows to cut unchanged files again."""

CountTokens = Callable[[str], int]
"""Counts the tokens of a text without special tokens. Joining two texts at white space must not add tokens."""

_WITHIN_LINE = 0.15
"""Cost of a cut within a line, in units of a chunk's squared shortfall from the budget; so are the following."""
_AFTER_HEADING = 4.0
_AFTER_INTRODUCTION = 1.0
_PER_CHUNK = 0.05
"""Keeps the programme from making more chunks than it needs."""
_ITEM = re.compile(r"\s*(?:[-*•–]|\d{1,3}[.)])\s")


@dataclass(frozen=True, kw_only=True)
class ChunkerSettings:
    """How large chunks are."""

    max_tokens: int = 210
    """Most tokens in a chunk. MiniLM reads 256 word pieces, of which title and headings may take 40."""
    min_tokens: int = 70
    """A section with fewer tokens is merged with its neighbours, where the budget allows."""
    overlap_tokens: int = 0
    """Most tokens that a chunk repeats from the one before, in whole lines, where a section had to be cut."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(
                f"min_tokens must be from 0 to max_tokens ({self.max_tokens}), not {self.min_tokens}"
            )
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            raise ValueError(
                f"overlap_tokens must be from 0 to half of max_tokens, not {self.overlap_tokens}"
            )


@dataclass(frozen=True, slots=True)
class _Unit:
    """A stretch of the text that may become one chunk: a section, or several merged ones."""

    start: int
    end: int
    path: tuple[str, ...]
    """Headings that hold for all of it."""
    parent: tuple[str, ...]
    """Headings above the first of its sections; a section outside of these is not merged into it."""
    page: int | None
    n_tokens: int
    leads: bool = False
    """Sections below it follow: it introduces them."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A line, or a piece of one that is beyond the budget; with the white space after it."""

    start: int
    end: int
    n_tokens: int
    cut_cost: float
    """How much is lost by beginning a chunk here, from 0 (a new paragraph) upward."""


def chunk_document(
    parsed: ParsedDocument, count_tokens: CountTokens, settings: ChunkerSettings | None = None
) -> list[ChunkDraft]:
    r"""Cut a document into chunks in reading order.

    Without overlap, every character that is not white space is in exactly one chunk.

    >>> section = Section(start=0, end=14, heading_path=("Leave",))
    >>> parsed = ParsedDocument(title="T", text="Leave\n\n20 days", sections=(section,), media_type="text/plain")
    >>> [chunk.text for chunk in chunk_document(parsed, lambda text: len(text.split()))]
    ['Leave\n\n20 days']
    """
    settings = settings or ChunkerSettings()
    chunks: list[ChunkDraft] = []
    for unit in _merge(list(_units(parsed, count_tokens)), settings):
        for start, end in _cut(parsed.text, unit, count_tokens, settings):
            stretch = parsed.text[start:end]
            text = stretch.strip()
            begin = start + len(stretch) - len(stretch.lstrip())
            if text:
                chunks.append(
                    ChunkDraft(
                        text=text,
                        start=begin,
                        end=begin + len(text),
                        heading_path=unit.path,
                        page=unit.page,
                        n_tokens=count_tokens(text),
                    )
                )
    return chunks


def _units(parsed: ParsedDocument, count_tokens: CountTokens) -> Iterator[_Unit]:
    """Sections, a bare heading joined to the section below it."""
    pending: int | None = None
    sections = parsed.sections
    for position, section in enumerate(sections):
        start = section.start if pending is None else pending
        following = sections[position + 1] if position + 1 < len(sections) else None
        if following is not None and _is_bare(parsed.text, section) and _is_below(following, section):
            pending = start
            continue
        pending = None
        text = parsed.text[start : section.end].strip()
        if text:
            path = section.heading_path
            leads = following is not None and _is_below(following, section) and following.heading_path != path
            yield _Unit(start, section.end, path, path[:-1], section.page, count_tokens(text), leads)


def _is_bare(text: str, section: Section) -> bool:
    """A section that is nothing but its heading's line."""
    content = text[section.start : section.end].strip()
    return bool(section.heading_path) and content == section.heading_path[-1]


def _is_below(section: Section, upper: Section) -> bool:
    return (
        section.page == upper.page and section.heading_path[: len(upper.heading_path)] == upper.heading_path
    )


def _merge(units: Sequence[_Unit], settings: ChunkerSettings) -> Iterator[_Unit]:
    """Merge neighbours while one of the two is small and both together are within the budget."""
    current: _Unit | None = None
    for unit in units:
        if current is None:
            current = unit
        elif _belong_together(current, unit, settings):
            current = _Unit(
                current.start,
                unit.end,
                _common(current.path, unit.path),
                current.parent,
                current.page,
                current.n_tokens + unit.n_tokens,
            )
        else:
            yield current
            current = unit
    if current is not None:
        yield current


def _belong_together(left: _Unit, right: _Unit, settings: ChunkerSettings) -> bool:
    if right.leads and len(right.path) <= len(left.parent) + 1:
        return False  # it belongs to what it introduces, not to its elder sibling
    return (
        left.page == right.page
        and left.n_tokens + right.n_tokens <= settings.max_tokens
        and min(left.n_tokens, right.n_tokens) < settings.min_tokens
        and right.path[: len(left.parent)] == left.parent
    )


def _common(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    n_shared = 0
    for mine, other in zip(left, right, strict=False):
        if mine != other:
            break
        n_shared += 1
    return left[:n_shared]


def _cut(
    text: str, unit: _Unit, count_tokens: CountTokens, settings: ChunkerSettings
) -> Iterator[tuple[int, int]]:
    if unit.n_tokens <= settings.max_tokens:
        yield unit.start, unit.end
        return
    budget = settings.max_tokens - settings.overlap_tokens
    atoms = list(_atoms(text, unit, count_tokens, budget))
    for first, last in _pack(atoms, budget):
        yield atoms[_reach_back(atoms, first, settings.overlap_tokens)].start, atoms[last - 1].end


def _atoms(text: str, unit: _Unit, count_tokens: CountTokens, budget: int) -> Iterator[_Atom]:
    before = ""
    is_heading = bool(unit.path) and text[unit.start : unit.end].lstrip().startswith(unit.path[-1])
    for match in re.finditer(r"[^\n]*\n*", text[unit.start : unit.end]):
        line = match[0]
        if not line:
            continue
        start = unit.start + match.start()
        cost = _cost(before, line, is_second=bool(before) and is_heading)
        is_heading = is_heading and not before
        n_tokens = count_tokens(line)
        if n_tokens <= budget:
            yield _Atom(start, start + len(line), n_tokens, cost)
        else:
            for position, piece in _pieces(line, count_tokens, budget):
                yield _Atom(start + position, start + position + len(piece), count_tokens(piece), cost)
                cost = _WITHIN_LINE
        before = line


def _cost(before: str, line: str, *, is_second: bool) -> float:
    """What a cut before `line` loses, in units of a chunk's squared shortfall (see `_pack`)."""
    if is_second:
        return _AFTER_HEADING
    if before.rstrip().endswith(":"):
        return _AFTER_INTRODUCTION
    if before.endswith("\n\n"):
        return 0.3 if _ITEM.match(line) else 0.0
    indent = len(line) - len(line.lstrip())
    return 0.1 + 0.05 * min(indent, 8)


def _pieces(line: str, count_tokens: CountTokens, budget: int) -> list[tuple[int, str]]:
    from semantic_text_splitter import TextSplitter

    splitter = TextSplitter.from_callback(count_tokens, budget, trim=False)
    pieces: list[tuple[int, str]] = splitter.chunk_indices(line)
    return pieces


def _pack(atoms: Sequence[_Atom], budget: int) -> list[tuple[int, int]]:
    """Choose cuts of least cost: each chunk costs its squared shortfall from the budget plus the cost of its cut.

    Returns half-open ranges of atoms. The first atom of a chunk may be beyond the budget alone (it cannot be cut further).
    """
    best = [0.0] + [float("inf")] * len(atoms)
    begins = [0] * (len(atoms) + 1)
    for end in range(1, len(atoms) + 1):
        n_tokens = 0
        for begin in range(end - 1, -1, -1):
            n_tokens += max(1, atoms[begin].n_tokens)  # at least 1: the loop stays short whatever is counted
            if n_tokens > budget and begin < end - 1:
                break
            shortfall = max(0.0, 1 - n_tokens / budget)
            cost = best[begin] + shortfall**2 + (atoms[begin].cut_cost if begin else 0.0) + _PER_CHUNK
            if cost < best[end]:
                best[end], begins[end] = cost, begin
    ranges: list[tuple[int, int]] = []
    end = len(atoms)
    while end > 0:
        ranges.append((begins[end], end))
        end = begins[end]
    return ranges[::-1]


def _reach_back(atoms: Sequence[_Atom], first: int, overlap_tokens: int) -> int:
    """The atom to begin at so that at most `overlap_tokens` are repeated."""
    n_tokens = 0
    while first > 0 and n_tokens + atoms[first - 1].n_tokens <= overlap_tokens:
        first -= 1
        n_tokens += atoms[first].n_tokens
    return first
