"""Simulated employees who want to understand: two to four sentences from more than one place, that cover what was asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from short_cited_direct import on_topic, ranked

WORTH_OF_ABSTAINING = 0.0
LONGEST = 90


def worth(question: str, answer: Any) -> float:
    """How much one answer pleases: coverage of the question, places cited, and length up to a point."""
    if answer.abstained:
        return WORTH_OF_ABSTAINING
    text = re.sub(r"\s*\[\d+\]", "", answer.text).strip()
    n_words = len(text.split())
    score = on_topic(question, text) + 0.25 * min(len(answer.citations), 3)
    score += 0.01 * min(n_words, 60) - 0.02 * max(0, n_words - LONGEST)
    score -= 0.3 * (not re.search(r"[.!?]$", text))
    return score


def thorough(question: str, answers: Sequence[Any]) -> list[list[int]]:
    """Best first; answers whose worth rounds to the same tenth are equal."""
    return ranked([worth(question, answer) for answer in answers])
