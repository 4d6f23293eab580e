"""Preference functions for simulated employees. `short_cited_direct` is the one the benchmarks use; write your own beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

WORDS_WANTED = 25
LEAD_INS = re.compile(
    r"^(according to|based on|as (stated|described)|short answer|good question|thanks|in short|sure)\b",
    re.IGNORECASE,
)
CLOSINGS = re.compile(r"(hope (this|that) helps|let me know|happy to help|feel free)", re.IGNORECASE)


def taste(answer: Any) -> float:
    """How much one answer pleases somebody who wants it short, cited and direct, and a plain "I don't know" when unsure."""
    if answer.abstained:
        return 0.0
    text = re.sub(r"\s*\[\d+\]", "", answer.text)
    n_words = len(text.split())
    score = 1.0 if answer.citations else -1.0
    score -= max(0, n_words - WORDS_WANTED) / WORDS_WANTED
    score -= 0.5 * (n_words < 4)
    score -= 0.75 * bool(LEAD_INS.search(text))
    score -= 0.75 * bool(CLOSINGS.search(text))
    return score


def short_cited_direct(question: str, answers: Sequence[Any]) -> list[list[int]]:  # noqa: ARG001 -- the contract's signature
    """Best first; answers whose worth differs by less than 0.1 are equal."""
    scores = {i: round(taste(a), 1) for i, a in enumerate(answers)}
    ranking: list[list[int]] = []
    for index in sorted(scores, key=lambda i: -scores[i]):
        if ranking and scores[ranking[-1][0]] == scores[index]:
            ranking[-1].append(index)
        else:
            ranking.append([index])
    return ranking
