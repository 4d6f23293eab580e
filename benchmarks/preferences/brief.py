"""Simulated employees in a hurry: one sentence that speaks of what was asked, and the fewer words the better."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from short_cited_direct import on_topic, ranked

WORTH_OF_ABSTAINING = 0.2


def worth(question: str, answer: Any) -> float:
    """How much one answer pleases: words of the question in its first sentence, less what has to be read."""
    if answer.abstained:
        return WORTH_OF_ABSTAINING
    text = re.sub(r"\s*\[\d+\]", "", answer.text).strip()
    n_words = len(text.split())
    n_sentences = len(re.findall(r"[.!?](?:\s|$)", text)) or 1
    score = 1.5 * on_topic(question, text.split(". ")[0])
    score -= 0.015 * n_words + 0.2 * (n_sentences - 1)
    score -= 0.6 * (not answer.citations) + 0.5 * (n_words < 4)
    return score


def brief(question: str, answers: Sequence[Any]) -> list[list[int]]:
    """Best first; answers whose worth rounds to the same tenth are equal."""
    return ranked([worth(question, answer) for answer in answers])
