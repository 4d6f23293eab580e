"""Simulated employees who want something to act on: numbers, names of tools and forms, an instruction; no vague words, no counter-questions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from short_cited_direct import on_topic, ranked

WORTH_OF_ABSTAINING = 0.3
VAGUE = re.compile(
    r"\b(usually|generally|typically|often|sometimes|various|several|some|many|may|might|etc)\b",
    re.IGNORECASE,
)
TO_DO = re.compile(
    r"\b(must|should|need to|have to|click|go to|select|choose|submit|send|ask|contact|email|fill|sign|use|open|add|create)\b",
    re.IGNORECASE,
)


def worth(question: str, answer: Any) -> float:
    """How much one answer pleases: things one can act on, for its length, and words of the question."""
    if answer.abstained:
        return WORTH_OF_ABSTAINING
    text = re.sub(r"\s*\[\d+\]", "", answer.text).strip()
    n_words = len(text.split())
    names = len(re.findall(r"(?<=[a-z,] )[A-Z][A-Za-z]+", text))
    score = on_topic(question, text) + 0.15 * min(names, 4) + 0.3 * bool(re.search(r"\d", text))
    score += 0.2 * min(len(TO_DO.findall(text)), 2) - 0.2 * min(len(VAGUE.findall(text)), 3)
    score -= 0.3 * ("?" in text) + 0.01 * max(0, n_words - 45) + 0.6 * (not answer.citations)
    return score


def concrete(question: str, answers: Sequence[Any]) -> list[list[int]]:
    """Best first; answers whose worth rounds to the same tenth are equal."""
    return ranked([worth(question, answer) for answer in answers])
