"""Statements that say something else than before: one number, negation or unit changed, every other word the same.

What a policy must not confuse: a first policy-gradient run won two thirds of all comparisons while turning "do not need to" into "need to".
Pure text; knows nothing of policies. Different from a paraphrase attack: a person who compares the two at once sees which is which.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from chatbot.grounding import supports

_NUMBER = re.compile(r"(?<![\w.,:/$€£-])\d{1,3}(?![\w,:/-]|\.\d)")
_UNITS = {
    "minute": "hour", "minutes": "hours", "hour": "day", "hours": "days", "day": "week", "days": "weeks", "week": "month",
    "weeks": "months", "month": "year", "months": "years", "year": "month", "years": "months", "euros": "dollars", "dollars": "euros",
    "miles": "feet",
}  # fmt: skip
_UNIT = re.compile(rf"(?<=\d )({'|'.join(sorted(_UNITS, key=len, reverse=True))})\b")
_DENIED = re.compile(
    r"\b(do|does|did|is|are|was|were|must|should|may|will|can|could|would|need) ?n(?:o|')t\b(?! only)",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(
    r"\b(must|should|may|will|can|could|would|is|are)\b(?! ?n(?:o|')t\b)(?! only)", re.IGNORECASE
)


def alter(statement: str, rng: random.Random) -> str | None:
    """The statement with one thing changed so that neither supports the other; None where nothing can be.

    Args:
        statement: A sentence.
        rng: Chooses what is changed, and into what.

    >>> alter("Take all 12 weeks.", random.Random(0)) in {"Take all 12 months.", "Take all 14 weeks.", "Take all 15 weeks.", "Take all 17 weeks.", "Take all 19 weeks."}
    True
    """
    ways: list[Callable[[str, random.Random], str | None]] = [_other_number, _other_unit, _denied_or_affirmed]
    rng.shuffle(ways)
    for way in ways:
        altered = way(statement, rng)
        # A change that the grounding check cannot see could not be told from faithfulness.
        if altered is not None and not supports(statement, altered) and not supports(altered, statement):
            return altered
    return None


def _other_number(statement: str, rng: random.Random) -> str | None:
    places = list(_NUMBER.finditer(statement))
    if not places:
        return None
    place = rng.choice(places)
    changed = str(int(place[0]) + rng.choice((2, 3, 5, 7)))
    return statement[: place.start()] + changed + statement[place.end() :]


def _other_unit(statement: str, rng: random.Random) -> str | None:
    places = list(_UNIT.finditer(statement))
    if not places:
        return None
    place = rng.choice(places)
    return statement[: place.start()] + _UNITS[place[0]] + statement[place.end() :]


def _denied_or_affirmed(statement: str, _rng: random.Random) -> str | None:
    denied = _DENIED.search(statement)
    if denied:
        return statement[: denied.start()] + denied[1] + statement[denied.end() :]
    affirmed = _AFFIRMED.search(statement)
    if affirmed:
        return statement[: affirmed.end()] + " not" + statement[affirmed.end() :]
    return None
