"""Cuts cleaned Markdown pages into sections of sentences, each under its heading path.

Knows nothing of questions. Differs from the loader that serves: corpora for training arrive as plain text with hard-wrapped lines,
so lines are joined into paragraphs first; sentences are then cut by the very rules that serving uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from alignment.corpus import CorpusDocument
from knowledge_base import sentences as sentence_rules
from knowledge_base.loaders.tables import table_lines

_LIST_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_MARKUP = re.compile(r"\{[%{].*?[%}]\}|</?[a-zA-Z][^>]*>|\*\*|__|`|!?\[(?=[^\]]*\]\()|\]\([^)]*\)")
_SPACE = re.compile(r"\s+")
_LONGEST_SENTENCE = 320
_SHORTEST_SENTENCE = 18
_SHORTEST_ANSWER = 35
_SHORTEST_ROW = 15


def clean_sentence(text: str) -> str:
    """Fold white space and drop list markers and markup.

    >>> clean_sentence("- You get **25 days**  of [leave](leave.md).")
    'You get 25 days of leave.'
    """
    return _SPACE.sub(" ", _MARKUP.sub("", _LIST_ITEM.sub("", text))).strip()


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of one paragraph or list item, cleaned; cut where serving cuts them.

    >>> split_sentences("Ask Dr. Lee first. Then sign, e.g. online.")
    ['Ask Dr. Lee first.', 'Then sign, e.g. online.']
    """
    return [span.text for span in sentence_rules.split_sentences(clean_sentence(paragraph))]


def is_usable(sentence: str) -> bool:
    """Whether a sentence is neither a fragment nor too long for a small context, and mostly words."""
    if not _SHORTEST_SENTENCE <= len(sentence) <= _LONGEST_SENTENCE:
        return False
    letters = sum(character.isalpha() or character == " " for character in sentence)
    return letters >= 0.8 * len(sentence) and not sentence.endswith(":")


def is_usable_row(row: str) -> bool:
    """Whether a table row says something and is no longer than a sentence may be; it may be mostly numbers."""
    return _SHORTEST_ROW <= len(row) <= _LONGEST_SENTENCE and sum(map(str.isalnum, row)) >= 0.6 * len(row)


def can_answer(sentence: str) -> bool:
    """Whether a sentence says enough to be an answer: menu items, titles and link lists do not."""
    is_whole = sentence.endswith((".", "!", "?", '."', ".)"))
    return len(sentence) >= (_SHORTEST_ANSWER if is_whole else 2 * _SHORTEST_ANSWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The text under one heading of a page."""

    title: str
    headings: tuple[str, ...]
    """Below the title, outermost first."""
    sentences: tuple[str, ...]
    rows: tuple[str, ...] = ()
    """Of its tables, each with its column's names, as the loaders write them."""

    @property
    def path(self) -> str:
        """Title and headings joined by ` > `."""
        return " > ".join((self.title, *self.headings))


def read_sections(document: CorpusDocument) -> list[Section]:
    """Cut a Markdown page into sections of cleaned, usable sentences and table rows."""
    cutter = _PageCutter(document.path)
    for line in document.text.split("\n"):
        heading = _HEADING.match(line)
        if heading:
            cutter.open_section(len(heading[1]), clean_sentence(heading[2]))
        else:
            cutter.add_line(line)
    cutter.close_section()
    return cutter.sections


class _PageCutter:
    """Collects the lines of a page under the headings they stand below."""

    def __init__(self, path: str) -> None:
        self.sections: list[Section] = []
        self._fallback_title = _title_from_path(path)
        self._title = ""
        self._headings: dict[int, str] = {}
        self._paragraphs: list[str] = []
        self._table: list[list[str]] = []
        self._rows: list[str] = []

    def open_section(self, level: int, name: str) -> None:
        """Begin a section; the first heading of level 1 is the page's title."""
        self.close_section()
        self._headings = {known: text for known, text in self._headings.items() if known < level}
        if level == 1 and not self._title:
            self._title = name
        elif name and name != self._title:
            self._headings[level] = name

    def add_line(self, line: str) -> None:
        """Join hard-wrapped lines; start anew at empty lines, list items, quotes and tables."""
        stripped = line.strip().lstrip(">").strip()
        if stripped.startswith("|"):
            self._table.append([clean_sentence(cell) for cell in stripped.strip("|").split("|")])
        else:
            self._close_table()
        if not stripped or stripped.startswith("|"):
            self._paragraphs.append("")
        elif _LIST_ITEM.match(line) or not self._paragraphs or not self._paragraphs[-1]:
            self._paragraphs.append(stripped)
        else:
            self._paragraphs[-1] += f" {stripped}"

    def close_section(self) -> None:
        """Keep what was collected, if any of it is usable."""
        self._close_table()
        usable = tuple(s for p in self._paragraphs for s in split_sentences(p) if is_usable(s))
        rows = tuple(dict.fromkeys(row for row in self._rows if is_usable_row(row)))
        self._paragraphs, self._rows = [], []
        if usable or rows:
            headings = tuple(self._headings[level] for level in sorted(self._headings))
            title = self._title or self._fallback_title
            self.sections.append(Section(title=title, headings=headings, sentences=usable, rows=rows))

    def _close_table(self) -> None:
        """The corpora keep a table's first row as its header and leave the line below it out."""
        self._rows += table_lines(self._table, has_header=True) if len(self._table) > 1 else ()
        self._table = []


def _title_from_path(path: str) -> str:
    stem = Path(path).stem
    name = Path(path).parent.name if stem in {"_index", "index", "README"} else stem
    return re.sub(r"[-_]+", " ", name).strip().capitalize()
