# ruff: noqa: SIM905  # word lists read best as words
"""What a sentence states, in pieces that can be compared: content words, numbers with units, names, negations with their scope.

Rules over words, no model: every decision can be read off, and it costs microseconds. Knows nothing of evidence or citations.

Different from the textbook (word overlap alone): a statement also fails over one wrong number, one unknown name, or a lost "not".
Word overlap of "You need to take all 12 weeks at once" with "You do not need to take all 12 weeks at once" is perfect; only the
scope of the negation tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

NegationKind = Literal["not", "only", "without", "except"]

_TOKEN = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # an address
    r"|(?:https?://|www\.)[^\s)\]>,]+"
    r"|[#@][\w-]+"  # a channel, a handle
    r"|\d+(?:[.,:]\d+)*"
    r"|[^\W\d_]+(?:['’][^\W\d_]+)*"  # a word, "don't" whole
    r"|[%$€£.;:!?,()\n]"
)
_BOUNDARY = set(".;:!?,()\n") | {
    "but",
    "and",
    "or",
    "however",
    "though",
    "although",
    "because",
    "if",
    "when",
    "while",
}
_PAUSE = {",", "("}
_SCOPE_WORDS = 3
_UNIT_WINDOW = 3

_STOP_WORDS = frozenset(
    (
        "a about above according after again all also am an and any are as at be because been before being below between both but "
        "by can could did do does doing down during each either else etc few for from further had has have having he her here "
        "hers him his how however i if in into is it its itself just let like may me might more most must my near neither nor of "
        "off on once onto or other our ours out over own per please same shall she should since so some such than that the their "
        "theirs them then there these they this those through to too under until up upon us very via was we were what when where "
        "whether which while who whom whose why will with within would yes you your yours"
    ).split()
)
_NEGATIONS: dict[str, NegationKind] = {
    **dict.fromkeys(("not", "never", "no", "none", "nobody", "nothing", "cannot", "neither", "nor"), "not"),
    "only": "only",
    "without": "without",
    **dict.fromkeys(("except", "unless", "excluding"), "except"),
}
_DIRECTIONS = frozenset(
    "least most more less fewer before after until within over under above below minimum maximum up".split()
)
_NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate(
        (
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
            "nineteen twenty"
        ).split()
    )
} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
}
_UNITS = frozenset(
    (
        "% percent $ dollar usd € euro eur £ pound gbp cent second minute hour day week month quarter year mile kilometer "
        "kilometre km meter metre cm inch foot feet kg gram lb kb mb gb tb point person people night"
    ).split()
)
_SAME_UNIT = {"percent": "%", "dollar": "$", "usd": "$", "euro": "€", "eur": "€", "pound": "£", "gbp": "£"}
"""Of stems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Negation:
    """A negating or restricting word and the first content words it governs."""

    kind: NegationKind
    scope: tuple[str, ...]
    """Stems, nearest first; empty when nothing follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A text taken apart."""

    content: frozenset[str]
    """Stems of words that carry meaning; numbers, negations and stop words are elsewhere."""
    numbers: frozenset[str]
    """Digits without thousands separators; number words up to ninety as digits."""
    quantities: frozenset[tuple[str, str]]
    """Numbers with the unit beside them: `("25", "day")`."""
    names: frozenset[str]
    """Capitalised inside a sentence, in capitals, or an address, link or channel; lower-cased."""
    directions: frozenset[str]
    """Words such as least, most, before, after that turn a number's meaning around."""
    negations: tuple[Negation, ...]
    words: frozenset[str]
    """Every token, lower-cased: what names and directions are looked up in."""

    @property
    def topics(self) -> frozenset[str]:
        """What it is about: stems of the words that carry meaning, and numbers."""
        return self.content | self.numbers


@lru_cache(maxsize=4096)
def take_apart(text: str) -> Statement:
    """Read a text's content words, numbers, names and negations.

    >>> parts = take_apart("You do not need to take all 12 weeks at once.")
    >>> sorted(parts.content), sorted(parts.quantities), parts.negations[0].scope
    (['need', 'tak', 'week'], [('12', 'week')], ('need', 'tak', '12'))
    """
    tokens = _TOKEN.findall(_plain(text))
    lowered = [token.lower() for token in tokens]
    return Statement(
        content=frozenset(stem(word) for word in lowered if _is_content(word)),
        numbers=frozenset(n for n in map(_as_number, lowered) if n is not None),
        quantities=_find_quantities(lowered),
        names=_find_names(tokens),
        directions=frozenset(lowered) & _DIRECTIONS,
        negations=_find_negations(lowered),
        words=frozenset(lowered) | frozenset(stem(word) for word in lowered),
    )


def stem(word: str) -> str:
    """Cut common English endings; crude on purpose: it only has to treat both sides alike.

    >>> [stem(word) for word in ("policies", "weeks", "submitted", "taking", "employee's", "business")]
    ['policy', 'week', 'submit', 'tak', 'employe', 'business']
    """
    word = re.sub(r"['’]s?$", "", word)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if word[-1] == word[-2] and word[-1] not in "aeiouls":
                word = word[:-1]
            break
    # "approve" and "approved" meet at "approv".
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _plain(text: str) -> str:
    text = text.replace("’", "'")
    text = re.sub(
        r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+", "", text
    )  # a list item's mark is no number of the statement
    text = re.sub(r"(?i)\bnot only\b", "", text)  # "not only ... but also" denies nothing
    return re.sub(
        r"(?i)^\W*(yes|no)\b\s*[,.:;!–—-]\s*", "", text
    )  # an answering "No, ..." denies nothing by itself


def _is_content(word: str) -> bool:
    return (
        word[0].isalnum()
        and _as_number(word) is None
        and _negation_kind(word) is None
        and word not in _STOP_WORDS
        and word not in _DIRECTIONS
        and (len(word) > 1 or not word.isascii())
    )


def _negation_kind(word: str) -> NegationKind | None:
    return "not" if word.endswith("n't") else _NEGATIONS.get(word)


def _as_number(word: str) -> str | None:
    if word[0].isdigit():
        plain = re.sub(r",(?=\d{3}\b)", "", word)
        return re.sub(r"\.0+$", "", plain)
    return _NUMBER_WORDS.get(word)


def _find_quantities(lowered: Sequence[str]) -> frozenset[tuple[str, str]]:
    unit_stems = _unit_stems()
    found = set()
    for place, word in enumerate(lowered):
        number = _as_number(word)
        if number is None:
            continue
        if place and lowered[place - 1] in {"$", "€", "£"}:
            found.add((number, lowered[place - 1]))
            continue
        for following in lowered[place + 1 : place + 1 + _UNIT_WINDOW]:
            if following in _BOUNDARY or _as_number(following) is not None:
                break
            unit = stem(following)
            if unit in unit_stems:
                found.add((number, _SAME_UNIT.get(unit, unit)))
                break
    return frozenset(found)


@lru_cache(maxsize=1)
def _unit_stems() -> frozenset[str]:
    return frozenset(map(stem, _UNITS))


def _find_names(tokens: Sequence[str]) -> frozenset[str]:
    found = set()
    starts = True
    for token in tokens:
        is_word = token[0].isalpha()
        if token[0] in "#@" or "@" in token or "://" in token or token.startswith("www."):
            found.add(token.lower().rstrip("."))
        elif is_word and token.lower() not in _STOP_WORDS and _negation_kind(token.lower()) is None:
            in_capitals = len(token) > 1 and token[1:] != token[1:].lower()
            if in_capitals or (token[0].isupper() and not starts):
                found.add(token.lower().removesuffix("'s"))
        starts = token in {".", "!", "?", ":", "\n"}
    return frozenset(found)


def _find_negations(lowered: Sequence[str]) -> tuple[Negation, ...]:
    found = []
    for place, word in enumerate(lowered):
        kind = _negation_kind(word)
        if kind is not None:
            found.append(Negation(kind=kind, scope=_read_scope(lowered, place + 1)))
    return tuple(found)


def _read_scope(lowered: Sequence[str], start: int) -> tuple[str, ...]:
    if start < len(lowered) and lowered[start] in _PAUSE:
        # "must not, under any circumstances, share": the governed words come after the aside.
        ends = [
            place for place in range(start + 1, min(start + 8, len(lowered))) if lowered[place] in {",", ")"}
        ]
        if not ends:
            return ()
        start = ends[0] + 1
    scope: list[str] = []
    for word in lowered[start:]:
        if word in _BOUNDARY or len(scope) == _SCOPE_WORDS:
            break
        if _as_number(word) is not None:
            scope.append(_as_number(word) or word)
        elif _is_content(word):
            scope.append(stem(word))
    return tuple(scope)
