"""Puts a parsed document together: clean blocks of text in, text with sections that cover it out.

Every loader hands its blocks here, so what holds for one format holds for all:

* blocks (a paragraph, a list, a table, a heading) are separated by one blank line;
* a newline is never a wrapped line: each line is a whole paragraph, list item, table row or line of code;
* a heading stands as a line of its own at the beginning of its section.

Knows nothing of any format.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Protocol

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.records import ParsedDocument, Section

_REMOVED = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
"""Soft hyphens, zero-width and direction marks, controls: invisible to a reader, poison to a search."""
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\t]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_ENDS = re.compile("\r\n?|[\u0085\u2028\u2029]")
_MAX_HEADING_CHARACTERS = 300


class BlockSink(Protocol):
    """Takes blocks in reading order."""

    def add_heading(self, level: int, text: str) -> None:
        """Take a heading; level 1 is the outermost. It opens a new section."""

    def add_block(self, text: str) -> None:
        """Take a paragraph, list, table or code; each of its lines is whole. White space alone is ignored."""


def clean_text(text: str) -> str:
    r"""Drop what a reader cannot see, and make spaces, line ends and accents uniform (Unicode NFC).

    >>> clean_text("caf\u0065\u0301\u00a0\u200bbar")
    'café bar'
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _SPACES.sub(" ", _REMOVED.sub("", text))
    return unicodedata.normalize("NFC", _SURROGATES.sub("\ufffd", text))


def one_line(text: str) -> str:
    """Fold all white space to single spaces."""
    return " ".join(clean_text(text).split())


class DocumentBuilder:
    r"""Collects the blocks of one document; `finish` gives the record.

    >>> builder = DocumentBuilder("leave.md", LoadLimits())
    >>> builder.add_heading(2, "Sick leave")
    >>> builder.add_block("Call in before 9.")
    >>> parsed = builder.finish(title="Leave", media_type="text/markdown")
    >>> parsed.text, parsed.sections[0].heading_path
    ('Sick leave\n\nCall in before 9.', ('Sick leave',))
    """

    def __init__(self, name: str, limits: LoadLimits) -> None:
        self._name = name
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[tuple[int, str]] = []
        self._page: int | None = None
        self._marks: list[tuple[int, tuple[str, ...], int | None]] = []
        self.first_top_heading = ""
        """The text of the first level-1 heading; empty when there was none."""

    def start_page(self, number: int) -> None:
        """Begin page `number`, counted from 1; the headings above stay in force."""
        self._page = number
        self._mark()

    def add_heading(self, level: int, text: str) -> None:
        """Open a section. A heading without visible text is ignored; a very long one is an ordinary block."""
        text = one_line(text)
        if not text:
            return
        if len(text) > _MAX_HEADING_CHARACTERS:
            self.add_block(text)
            return
        if level == 1 and not self.first_top_heading:
            self.first_top_heading = text
        self._headings = [(above, heading) for above, heading in self._headings if above < level]
        self._headings.append((level, text))
        self._mark()
        self._append(text)

    def add_block(self, text: str) -> None:
        """Add lines; trailing spaces and outer blank lines go."""
        lines = [line.rstrip() for line in clean_text(text).split("\n")]
        block = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
        if block.strip():
            if not self._marks:
                self._mark()
            self._append(block)

    def finish(
        self, *, title: str, media_type: str, metadata: dict[str, Any] | None = None
    ) -> ParsedDocument:
        """Give the record. A top heading that only repeats the title leaves the heading paths (not the text)."""
        text = "".join(self._parts)
        title = one_line(title)
        return ParsedDocument(
            title=title,
            text=text,
            sections=self._sections(len(text), title),
            media_type=media_type,
            metadata=metadata or {},
        )

    def _mark(self) -> None:
        if self._marks and self._marks[-1][0] == self._length:
            self._marks.pop()  # nothing stood in that section
        self._marks.append((self._length, tuple(heading for _, heading in self._headings), self._page))

    def _append(self, block: str) -> None:
        part = ("\n\n" if self._parts else "") + block
        if self._parts and self._marks and self._marks[-1][0] == self._length:
            # The blank line belongs to the section before.
            _, path, page = self._marks[-1]
            self._marks[-1] = (self._length + 2, path, page)
        self._parts.append(part)
        self._length += len(part)
        if self._length > self._limits.max_text_characters:
            raise DocumentError(
                f"{self._name} has more than {self._limits.max_text_characters:,} characters of text: "
                "split it into smaller documents, or raise max_text_characters"
            )

    def _sections(self, length: int, title: str) -> tuple[Section, ...]:
        sections: list[Section] = []
        ends = [start for start, _, _ in self._marks[1:]] + [length]
        for (start, path, page), end in zip(self._marks, ends, strict=False):
            if end > start:
                shown = path[1:] if path and path[0].casefold() == title.casefold() else path
                sections.append(Section(start=start, end=end, heading_path=shown, page=page))
        return tuple(sections)
