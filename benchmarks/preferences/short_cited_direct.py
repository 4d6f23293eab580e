"""Preference functions for simulated employees. `short_cited_direct` is the one the benchmarks use; write your own beside it.

What it wants: an answer that speaks of what was asked, says where it stands in the documents, is short and comes to the point; and a
plain "I don't know" rather than a sentence about something else. It sees what an employee sees: the question and the answers, not
which answer is true.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

WORDS_WANTED = 40
WORTH_OF_ABSTAINING = 0.1
LEAD_INS = re.compile(
    r"^(according to|based on|as (stated|described)|short answer|the documents say|from|in .{3,60} it says|good question|thanks|in short|sure|yes, this)\b",
    re.IGNORECASE,
)
CLOSINGS = re.compile(r"(hope (this|that) helps|let me know|happy to help|feel free)", re.IGNORECASE)
ASKING_WORDS = frozenset(
    "a an and any are as at be by can could did do does for from get give had has have how i if in is it its me must my "  # noqa: SIM905 -- words read best as words
    "need of on or our please should tell that the their there they this to was we were what when where which who why will with you your".split()
)


def topic_words(text: str) -> set[str]:
    """First five letters of each word that says what a text is about, so that "holidays" and "holiday" are one."""
    return {word[:5] for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in ASKING_WORDS}


def on_topic(question: str, text: str) -> float:
    """Share of the question's topic words that a text uses, in [0, 1]."""
    asked = topic_words(question)
    return len(asked & topic_words(text)) / len(asked) if asked else 1.0


def taste(question: str, answer: Any) -> float:
    """How much one answer pleases."""
    if answer.abstained:
        return WORTH_OF_ABSTAINING
    text = re.sub(r"\s*\[\d+\]", "", answer.text)
    n_words = len(text.split())
    score = on_topic(question, answer.text)
    score -= 0.0 if answer.citations else 1.0
    score -= max(0, n_words - WORDS_WANTED) / WORDS_WANTED
    score -= 0.5 * (n_words < 4)
    score -= 0.5 * bool(LEAD_INS.search(text))
    score -= 0.5 * bool(CLOSINGS.search(text))
    return score


def short_cited_direct(question: str, answers: Sequence[Any]) -> list[list[int]]:
    """Best first; answers whose worth rounds to the same tenth are equal."""
    return ranked([taste(question, answer) for answer in answers])


def ranked(worths: Sequence[float]) -> list[list[int]]:
    """Indices best first; those whose worth rounds to the same tenth are equal."""
    scores = {i: round(worth, 1) for i, worth in enumerate(worths)}
    ranking: list[list[int]] = []
    for index in sorted(scores, key=lambda i: -scores[i]):
        if ranking and scores[ranking[-1][0]] == scores[index]:
            ranking[-1].append(index)
        else:
            ranking.append([index])
    return ranking
