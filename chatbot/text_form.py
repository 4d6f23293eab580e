"""Shares, and whether a text begins and ends like a sentence: what the traits of answers and of evidence have in common.

Knows nothing of either.
"""

from __future__ import annotations

import re

_WHOLE_END = re.compile(r"[.!?)\"'”’]\s*$")


def share(part: float, whole: float) -> float:
    """`part / whole`; nothing is no part of nothing."""
    return part / whole if whole else 0.0


def starts_whole(text: str) -> bool:
    """Whether it begins with a capital or a digit."""
    return text[:1].isupper() or text[:1].isdigit()


def ends_whole(text: str) -> bool:
    """Whether it ends with a stop."""
    return bool(_WHOLE_END.search(text))
