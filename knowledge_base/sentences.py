"""Splits text into sentences that can be quoted alone. Rules, no model.

Made for handbooks as the loaders write them, where a newline never is a wrapped line: every line ends a sentence, so
headings, list items and table rows are sentences of their own, and a line that introduces a list ("You may:") can be
quoted apart from its items. Within a line, a full stop ends a sentence unless it belongs to an abbreviation, number,
address or initial. The mark of a list item stays outside its first sentence's span only if it stands alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_LINE = re.compile(r"[^\n]+")
_END = re.compile(r"(?:[.!?…]+|[。！？])[)\]”’\"'»]*(?=\s|$)|[。！？]")
_OPENERS = "([{“‘\"'«¿¡-–—•*#$€£"
_ITEM_MARK = re.compile(r"\s*(?:[-*•–]|\(?(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})[.)])\s+")
_IMAGE = re.compile(r"\(Image: [^\n]*?\)(?=\s|$)")

_NEVER_END = frozenset(
    "mr mrs ms dr prof sr jr st mt gen sen rep gov lt col sgt capt cmdr rev hon pres e.g i.e cf vs viz approx ca resp "  # noqa: SIM905 - words read best as words
    "incl excl fig figs eq sec sect ch vol pp para art no nos dept est min max tel ext attn a.k.a w.r.t".split()
)
"""Abbreviations that something always follows; lower case, without the last full stop."""
_MAY_END = frozenset(
    "etc inc ltd corp co llc bros a.m p.m am pm u.s u.k e.u u.n d.c b.c a.d ph.d m.d b.a m.a jan feb mar apr jun jul aug sep "  # noqa: SIM905 - words read best as words
    "sept oct nov dec mon tue tues wed thu thur thurs fri sat sun hrs hr mins secs yrs yr ave blvd rd ste approx govt".split()
)
"""Abbreviations that may also end a sentence: they do when a capital follows that opens a sentence."""
_NUMBERED = frozenset("no nos p pp fig figs sec sect ch vol para art eq ext".split())  # noqa: SIM905 - words read best as words
"""Abbreviations only before a number: `no.` also ends "I said no."."""
_STARTERS = frozenset(
    "a all also an and any are as ask at be because before but by call can check contact do don't each every for from he "  # noqa: SIM905 - words read best as words
    "her here how however i if in is it it's its later may more most must my never new no not note now on once one only or "
    "our please see send she should since so some submit talk that the their then there these they this those to under "
    "until use we we'll we're what when where which while who why will with you you'll your".split()
)
_WORD_BEFORE = re.compile(r"[\w.&'’-]+$")
_WORD_AFTER = re.compile(r"[\w'’]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSpan:
    """A sentence within a text: `text == source[start:end]`, without white space around."""

    start: int
    end: int
    text: str


def split_sentences(text: str) -> list[SentenceSpan]:
    """Split text; the spans are in order, do not overlap, and cover everything but white space.

    >>> [span.text for span in split_sentences("Ask Dr. Lee by 5 p.m. today. It costs $3.50.")]
    ['Ask Dr. Lee by 5 p.m. today.', 'It costs $3.50.']
    """
    return [
        SentenceSpan(start=start, end=end, text=text[start:end])
        for line in _LINE.finditer(text)
        for start, end in _trimmed(text, _cuts(line[0], line.start()), line.end())
    ]


def _cuts(line: str, offset: int) -> Iterator[int]:
    """Yield where sentences begin, as offsets in the text: the line's start first."""
    yield offset
    mark = _ITEM_MARK.match(line)
    first = mark.end() if mark else 0
    images = [match.span() for match in _IMAGE.finditer(line)]
    cuts = {edge for span in images for edge in span}
    for match in _END.finditer(line, first):
        inside_image = any(start <= match.start() < end for start, end in images)
        if not inside_image and _is_end(line, match):
            cuts.add(match.end())
    yield from (offset + cut for cut in sorted(cuts) if first < cut < len(line))


def _trimmed(text: str, cuts: Iterator[int], end_of_line: int) -> Iterator[tuple[int, int]]:
    places = [*cuts, end_of_line]
    for start, end in pairwise(places):
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip())
        right = left + len(piece.strip())
        if right > left:
            yield left, right


def _is_end(line: str, match: re.Match[str]) -> bool:
    rest = line[match.end() :].lstrip()
    if not rest:
        return False  # the line's own end
    marks = match[0]
    if marks[0] in "。！？":
        return True
    if not marks.startswith(".") or len(marks.rstrip(")]”’\"'»")) > 1:
        # "!", "?", "..." end a sentence unless it goes on in lower case.
        return not rest[0].islower()
    if rest[0].islower() and not _is_brand(rest):
        return False
    return _full_stop_ends(line[: match.start()], rest, has_closer=len(marks) > 1)


def _full_stop_ends(before: str, rest: str, *, has_closer: bool) -> bool:
    word_match = _WORD_BEFORE.search(before)
    word = word_match[0].lower().lstrip("'’-") if word_match else ""
    if word in _NUMBERED:
        return has_closer or not (rest[0].isdigit() or rest[0] in "#§")
    if word in _NEVER_END:
        return False
    following = _WORD_AFTER.match(rest.lstrip(_OPENERS))
    opens = following is not None and following[0].lower().replace("’", "'") in _STARTERS
    if word in _MAY_END or re.fullmatch(r"(?:[a-z]\.)+[a-z]", word):
        return opens or rest[0] in "-•("
    if re.fullmatch(r"[a-z]", word) and word != "i":
        return opens  # an initial: J. Smith
    return True


def _is_brand(rest: str) -> bool:
    """`iPhone`, `eOPF`: a sentence may open with such a name."""
    return len(rest) > 1 and rest[1].isupper()
