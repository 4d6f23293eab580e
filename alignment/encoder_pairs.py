"""Questions with a text that answers and one that only looks like it, for training the encoder that finds evidence.

Knows nothing of models but an `Embedder` that finds the look-alikes. Differs from the usual pairs in what stands on the right: a sentence under
its heading, as evidence is chosen, and now and then the stretch of its page around it, as passages are found, so that one encoder serves both.

A look-alike is drawn from the sentences of all pages that are nearest to the question by the embedder that training starts from, those that
answer left out: what it takes for an answer today is what it has to learn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignment.reader_sources import SourceQuestion, SourceSentence
from knowledge_base.enrichment import enriched
from knowledge_base.protocols import Embedder, Vectors

_BLOCK = 512
"""Questions compared with all sentences at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPair:
    """One row of training."""

    question: str
    positive: str
    negative: str


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """What stands beside a question."""

    stretch_share: float = 0.35
    """Share of the positives that are a stretch of the page around the answer instead of the sentence alone."""
    stretch_sentences: int = 3
    """Most sentences before and after the answer in a stretch."""
    look_alikes: int = 8
    """The negative is drawn from so many nearest wrong sentences."""

    def __post_init__(self) -> None:
        """Reject what makes no pairs."""
        if not 0 <= self.stretch_share <= 1:
            raise ValueError(f"stretch_share={self.stretch_share} must be in [0, 1]")
        if self.stretch_sentences < 0:
            raise ValueError(f"stretch_sentences={self.stretch_sentences} must be 0 or more")
        if self.look_alikes < 1:
            raise ValueError(f"look_alikes={self.look_alikes} must be at least 1")


def as_evidence(sentence: SourceSentence) -> str:
    """A sentence as evidence selection embeds it."""
    return f"{sentence.heading}: {sentence.text}" if sentence.heading else sentence.text


def make_pairs(
    questions: Sequence[SourceQuestion], embedder: Embedder, settings: PairSettings, rng: random.Random
) -> list[EncoderPair]:
    """One pair for every question that something answers, in the order given.

    Args:
        questions: Of one side of a split: look-alikes are drawn from their pages.
        embedder: Finds the look-alikes.
        settings: See `PairSettings`.
        rng: Draws positives and negatives.
    """
    sentences = list(
        dict.fromkeys(sentence for q in questions for sentence in (*q.right, *q.near) if sentence.text)
    )
    answered = [question for question in questions if question.right]
    if not answered:
        return []
    pool = embedder.encode([as_evidence(sentence) for sentence in sentences])
    pairs = []
    for start in range(0, len(answered), _BLOCK):
        block = answered[start : start + _BLOCK]
        nearest = _nearest(embedder.encode([q.question for q in block]), pool, settings.look_alikes)
        for question, places in zip(block, nearest, strict=True):
            wrong = [sentences[place] for place in places if not _answers(sentences[place], question)]
            if wrong:
                pairs.append(
                    EncoderPair(
                        question=question.question,
                        positive=_positive(question, settings, rng),
                        negative=as_evidence(rng.choice(wrong[: settings.look_alikes])),
                    )
                )
    return pairs


def _nearest(asked: Vectors, pool: Vectors, n: int) -> list[list[int]]:
    """For each question the places of the n and a few more sentences nearest to it, best first."""
    similarities = asked @ pool.T  # (questions, sentences)
    n_kept = min(n + 8, pool.shape[0])  # right ones among them are left out afterwards
    kept = np.argpartition(-similarities, n_kept - 1, axis=1)[:, :n_kept]
    return [row[np.argsort(-similarities[i, row], kind="stable")].tolist() for i, row in enumerate(kept)]


def _answers(sentence: SourceSentence, question: SourceQuestion) -> bool:
    return any(sentence.text == right.text for right in question.right)


def _positive(question: SourceQuestion, settings: PairSettings, rng: random.Random) -> str:
    right = rng.choice(question.right)
    if rng.random() >= settings.stretch_share:
        return as_evidence(right)
    # `near` is the page in its order without what answers; the sentences under the same heading stand around it.
    around = [sentence.text for sentence in question.near if sentence.heading == right.heading]
    before, after = (rng.randint(0, settings.stretch_sentences) for _ in range(2))
    place = rng.randint(0, len(around))
    text = " ".join([*around[max(0, place - before) : place], right.text, *around[place : place + after]])
    title, _, heading = right.heading.partition(" > ")
    return enriched(title, heading, text)
