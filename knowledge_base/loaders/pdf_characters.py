"""Reads lines from a PDFium page: characters, where they stand, and which breaks between them are real.

PDFium guesses spaces and line ends from the gaps between characters. On pages printed by some office suites (each letter
placed on its own) it guesses one after nearly every letter; such pages are told by breaks between letters that touch,
and there the gaps are measured again.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any

from knowledge_base.loaders.assembly import clean_text
from knowledge_base.loaders.pdf_tables import CELL_MARK, Line

_LINE_END_HYPHENS = "\x02\ufffe"
"""PDFium's marks for a hyphen at a line end; it leaves the line end itself out then."""
_CELL_GAP = 1.5
"""A gap wider than this many letter heights parts the cells of a table row."""
_CELL_GAP_BESIDE_SPACES = 0.6
"""The same where words are parted by real spaces, so that a gap without one is no gap between words."""
_REAL_SPACES = 0.05
"""Share of real spaces from which words count as parted by them."""
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ft", "ﬆ": "st"})
_BOLD = re.compile(rb"bold|black|heavy", re.IGNORECASE)
_BOLD_WEIGHT = 600
_FONT_NAME_BYTES = 256
_ITEM_MARK = re.compile(rf"(?:[^\w\s]|\(?\w{{1,3}}[.)]) ?{CELL_MARK}")
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
        text = clean_text(_join_surrogates(letters).translate(_LIGATURES)).strip(f" {CELL_MARK}")
        if text:
            if _ITEM_MARK.match(text):
                # The gap after a bullet or number parts no cells.
                text = text.replace(CELL_MARK, " ", 1)
                mark = next(place for place, (letter, _) in enumerate(pending) if letter == CELL_MARK)
                pending[mark] = (" ", pending[mark][1])
            yield _placed(text_page, text, pending)
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
    n_spaces = sum(1 for character, _ in found if character == " ") - sum(
        found[start][0] == " " for start, _ in runs
    )
    cell_gap = _CELL_GAP_BESIDE_SPACES if n_spaces >= _REAL_SPACES * len(found) else _CELL_GAP
    mended: list[_Character] = []
    position = 0
    for start, length in runs:
        mended.extend(found[position:start])
        position = start + length
        gap, index = gaps[start], found[start][1]
        if gap is not None and gap > cell_gap and (is_scattered or found[start][0] == " "):
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


def _placed(text_page: Any, text: str, characters: list[_Character]) -> Line:
    cells: list[list[int]] = [[]]
    for character, index in characters:
        if character == CELL_MARK:
            cells.append([])
        elif not character.isspace():
            cells[-1].append(index)
    cells = [cell for cell in cells if cell]
    boxes = [text_page.get_charbox(cell[0], loose=True) for cell in cells]
    left, bottom, _, top = boxes[0]
    _, _, right, _ = text_page.get_charbox(cells[-1][-1], loose=True)
    return Line(
        text=CELL_MARK.join(cell.strip() for cell in text.split(CELL_MARK) if cell.strip()),
        left=left,
        right=max(right, left),
        bottom=bottom,
        size=max(top - bottom, 0.0),
        is_bold=_is_bold(text_page, cells[0][0]),
        lefts=tuple(box[0] for box in boxes),
    )


def _is_bold(text_page: Any, index: int) -> bool:
    import pypdfium2.raw as pdfium

    name, flags = ctypes.create_string_buffer(_FONT_NAME_BYTES), ctypes.c_int()
    pdfium.FPDFText_GetFontInfo(text_page.raw, index, name, _FONT_NAME_BYTES, ctypes.byref(flags))
    return (
        bool(_BOLD.search(name.value)) or pdfium.FPDFText_GetFontWeight(text_page.raw, index) >= _BOLD_WEIGHT
    )


def _join_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
