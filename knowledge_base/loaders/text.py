"""Loads plain text, and decodes the bytes of every text format.

UTF-8 first, then what a byte order mark says, then charset-normalizer's guess. Hard-wrapped lines are joined, so that a
line is a whole paragraph or list item, as in every other format. Plain text has no headings: it is one section.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import PurePath

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.assembly import DocumentBuilder, clean_text
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.records import ParsedDocument

MEDIA_TYPE = "text/plain"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FEW_BYTES = 20
"""With fewer bytes beyond ASCII than this a guess is a coin toss; Western European is then the likeliest."""
_GUESS_BYTES = 64 * 1024
_ITEM = re.compile(r"\s*(?:[-*•+–]\s|\(?[0-9a-zA-Z]{1,3}[.)]\s)")
_WRAPPED_WIDTH = 45
"""A line shorter than this was ended on purpose, in characters."""


def load_text(data: bytes, name: str, limits: LoadLimits) -> ParsedDocument:
    """Parse plain text bytes.

    Raises:
        DocumentError: the bytes are in no known encoding, hold no text, or too much of it.
    """
    builder = DocumentBuilder(name, limits)
    for paragraph in re.split(r"\n\s*\n", decode(data, name)):
        builder.add_block("\n".join(_unwrap(paragraph)))
    parsed = builder.finish(title=title_from_name(name), media_type=MEDIA_TYPE)
    if not parsed.text:
        raise DocumentError(f"{name} holds only white space: there is nothing to ingest")
    return parsed


def decode(data: bytes, name: str) -> str:
    r"""Turn bytes into text with `\n` line ends.

    Raises:
        DocumentError: no encoding fits.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _lines(data.decode(encoding, errors="replace"))
    try:
        return _lines(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _lines(_decode_by_guess(data, name))


def title_from_name(name: str) -> str:
    """Make a title of a file's name.

    >>> title_from_name("travel_policy-2026.txt")
    'travel policy 2026'
    """
    stem = PurePath(name).stem
    return " ".join(re.sub(r"[_-]+", " ", stem).split()) or name


def _decode_by_guess(data: bytes, name: str) -> str:
    from charset_normalizer import from_bytes

    if sum(byte > 127 for byte in data[:_GUESS_BYTES]) < _FEW_BYTES:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            pass  # a byte that Windows never uses: let the guess decide
    guess = from_bytes(data[:_GUESS_BYTES]).best()
    if guess is None:
        raise DocumentError(f"{name} is in no encoding that is known here: save it as UTF-8 and ingest again")
    return data.decode(guess.encoding, errors="replace")


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unwrap(paragraph: str) -> Iterator[str]:
    """Join lines that an editor wrapped: the line before is long, and the next is no list item or indented row."""
    lines = [line.rstrip() for line in clean_text(paragraph).split("\n") if line.strip()]
    if not lines:
        return
    current, width = lines[0], len(lines[0])
    for line in lines[1:]:
        is_new = _ITEM.match(line) or width < _WRAPPED_WIDTH or "  " in line.strip()
        if is_new:
            yield current
            current = line
        else:
            current = f"{current} {line.strip()}"
        width = len(line)
    yield current
