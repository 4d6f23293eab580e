"""Reads lines from a PDFium page: characters, where they stand, and which breaks between them are real.

PDFium guesses spaces and line ends from the gaps between characters. On pages printed by some office suites (each letter
placed on its own) it guesses one after nearly every letter; such pages are told by breaks between letters that touch,
and there the gaps are measured again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_base.loaders.assembly import clean_text
from knowledge_base.loaders.pdf_lines import CELL_MARK, Line

_LINE_END_HYPHENS = "\x02\ufffe"
"""PDFium's marks for a hyphen at a line end; it leaves the line end itself out then."""
_CELL_GAP = 1.5
"""A gap wider than this many letter heights parts the cells of a table row."""
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ft", "ﬆ": "st"})
_TOUCHING = 0.1
"""A gap smaller than this part of the letter's height is none."""
_SCATTERED = 0.03
"""Share of characters followed by a false line end from which a page counts as scattered."""

_Character = tuple[str, int]
"""A character with its index on the page."""


def page_lines(text_page: Any) -> Iterator[Line]:
    """Read the lines of a PDFium text page in PDFium's reading order."""
    pending: list[_Character] = []
    for character, index in [*_characters(text_page), ("\n", -1)]:
        if character in _LINE_END_HYPHENS:
            pending.append(("-", index))
        elif character not in "\r\n":
            pending.append((character, index))
            continue
        letters = "".join(letter for letter, _ in pending)
        text = clean_text(_join_surrogates(letters).translate(_LIGATURES)).rstrip()
        if text.strip():
            yield _placed(text_page, text, [index for letter, index in pending if letter.strip(" |")])
        pending = []


def _characters(text_page: Any) -> list[_Character]:
    import pypdfium2.raw as pdfium

    raw, n_characters = text_page.raw, text_page.count_chars()
    found: list[_Character] = []
    runs: list[tuple[int, int]] = []  # generated characters: where they begin in `found`, and how many
    for index in range(n_characters):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if not 0 < code < 0x110000:
            continue
        if pdfium.FPDFText_IsGenerated(raw, index) == 1:
            if runs and sum(runs[-1]) == len(found):
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((len(found), 1))
        found.append((chr(code), index))
    return _mend_scattered(text_page, found, runs)


def _mend_scattered(text_page: Any, found: list[_Character], runs: list[tuple[int, int]]) -> list[_Character]:
    """Mark the cells of table rows; on a scattered page, also replace the breaks by what the gaps say."""
    gaps = {start: _gap(text_page, found, start, length) for start, length in runs}
    n_false = sum(
        1 for start, gap in gaps.items() if gap is not None and gap < _TOUCHING and found[start][0] in "\r\n"
    )
    is_scattered = n_false >= 3 and n_false >= _SCATTERED * len(found)
    mended: list[_Character] = []
    position = 0
    for start, length in runs:
        mended.extend(found[position:start])
        position = start + length
        gap, index = gaps[start], found[start][1]
        if gap is not None and gap > _CELL_GAP and (is_scattered or found[start][0] == " "):
            mended.append((CELL_MARK, index))
        elif gap is None or not is_scattered:
            mended.extend(found[start:position])
        elif gap >= _TOUCHING:
            mended.append((" ", index))
    mended.extend(found[position:])
    return mended


def _gap(text_page: Any, found: list[_Character], start: int, length: int) -> float | None:
    """The gap around generated characters in letter heights; None where the line truly ends there."""
    end = start + length
    if start == 0 or end >= len(found):
        return None
    _, before_bottom, before_right, before_top = text_page.get_charbox(found[start - 1][1], loose=True)
    left, bottom, _, _ = text_page.get_charbox(found[end][1], loose=True)
    height = before_top - before_bottom
    if height <= 0 or abs(bottom - before_bottom) > 0.3 * height:
        return None
    gap = float(left - before_right) / height
    return gap if gap > -0.5 else None


def _placed(text_page: Any, text: str, indices: list[int]) -> Line:
    left, bottom, _, top = text_page.get_charbox(indices[0], loose=True)
    _, _, right, _ = text_page.get_charbox(indices[-1], loose=True)
    return Line(text=text, left=left, right=max(right, left), bottom=bottom, size=max(top - bottom, 0.0))


def _join_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
