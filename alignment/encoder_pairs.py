"""Questions with a text that answers and one that only looks like it, for training the encoder that finds evidence.

Knows nothing of models but an `Embedder` that finds the look-alikes. Differs from the usual pairs in what stands on the right: a sentence under
its heading, as evidence is chosen, and now and then the stretch of its page around it, as passages are found, so that one encoder serves both.

Look-alikes are the sentences nearest to the question by the embedder that training starts from, of all pages and of the question's own,
those that answer and near copies of them left out: what it takes for an answer today is what it has to learn. A pair keeps several of each
kind, and every pass over the pairs draws anew.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from alignment.reader_sources import SourceQuestion, SourceSentence
from knowledge_base.enrichment import enriched
from knowledge_base.protocols import Embedder, Vectors
from knowledge_base.quotable import with_place

_EMBEDDED_AT_ONCE = 8192
_BLOCK = 512
"""Questions compared with all sentences at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPair:
    """A question with what answers it and what does not."""

    question: str
    right: tuple[str, ...]
    """Sentences that answer, as evidence; none where the page does not."""
    stretches: tuple[str, ...] = ()
    """Stretches of the page that hold an answer."""
    look_alikes: tuple[str, ...] = ()
    """Wrong sentences of all pages, nearest first."""
    beside: tuple[str, ...] = ()
    """Wrong sentences of the question's own page, nearest first."""

    def draw_positive(self, stretch_share: float, rng: random.Random) -> str:
        """A text that answers."""
        if self.stretches and rng.random() < stretch_share:
            return rng.choice(self.stretches)
        return rng.choice(self.right)

    def draw_negatives(self, rng: random.Random) -> list[str]:
        """One look-alike of all pages and one of its own; fewer where there is none."""
        return [rng.choice(kind) for kind in (self.look_alikes, self.beside) if kind]


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """What stands beside a question."""

    stretches: int = 3
    """Stretches of the page around the answer that a pair keeps."""
    stretch_sentences: int = 3
    """Most sentences before and after the answer in a stretch."""
    look_alikes: int = 8
    """Nearest wrong sentences of all pages that a pair keeps."""
    beside: int = 4
    """And of the question's own page."""
    copy_cosine: float = 0.93
    """A sentence at least this near to the answer says the same, so it is no negative."""

    def __post_init__(self) -> None:
        """Reject what makes no pairs."""
        for name in ("stretches", "stretch_sentences", "beside"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")
        if self.look_alikes < 1:
            raise ValueError(f"look_alikes={self.look_alikes} must be at least 1")


def as_evidence(sentence: SourceSentence) -> str:
    """A sentence as evidence selection embeds it."""
    return with_place(sentence.heading, sentence.text)


def make_pairs(
    questions: Sequence[SourceQuestion],
    embedder: Embedder,
    settings: PairSettings,
    rng: random.Random,
    *,
    unanswered: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[EncoderPair]:
    """One pair for every question that something answers and something else resembles, in the order given.

    Args:
        questions: Of one side of a split: look-alikes are drawn from their pages.
        embedder: Finds the look-alikes.
        settings: See `PairSettings`.
        rng: Draws the stretches.
        unanswered: Whether questions that nothing answers make pairs too, without what is right.
        progress: Called with a line now and then: sentences of many pages take minutes.
    """
    sentences = list(
        dict.fromkeys(sentence for q in questions for sentence in (*q.right, *q.near) if sentence.text)
    )
    asked_about = [question for question in questions if question.right or unanswered]
    if not asked_about or not sentences:
        return []
    pool = _embed_all([as_evidence(sentence) for sentence in sentences], embedder, progress)
    place = {sentence: number for number, sentence in enumerate(sentences)}
    pairs = []
    for start in range(0, len(asked_about), _BLOCK):
        block = asked_about[start : start + _BLOCK]
        if start % (_BLOCK * 16) == 0:
            progress(f"look-alikes of {start:,} of {len(asked_about):,} questions")
        asked = embedder.encode([q.question for q in block])
        nearest = _nearest(asked, pool, settings.look_alikes)
        for question, vector, places in zip(block, asked, nearest, strict=True):
            own = [place[sentence] for sentence in question.near if sentence.text]
            own.sort(key=lambda number: -float(vector @ pool[number]))
            answers = pool[[place[sentence] for sentence in question.right]]  # (right, D)
            copies = {
                n
                for n in (*places, *own)
                if len(answers) and float((answers @ pool[n]).max()) >= settings.copy_cosine
            }
            wrong = partial(_wrong, question, sentences, copies)
            pair = EncoderPair(
                question=question.question,
                right=tuple(as_evidence(sentence) for sentence in question.right),
                stretches=tuple(
                    _stretch(question, settings, rng)
                    for _ in range(settings.stretches if question.right else 0)
                ),
                look_alikes=wrong(places, settings.look_alikes),
                beside=wrong(own, settings.beside),
            )
            if pair.look_alikes or pair.beside:
                pairs.append(pair)
    return pairs


def _embed_all(texts: Sequence[str], embedder: Embedder, progress: Callable[[str], None]) -> Vectors:
    """Vectors (N, D) of texts, with the time that is left."""
    started, vectors = time.monotonic(), []
    for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
        vectors.append(embedder.encode(texts[start : start + _EMBEDDED_AT_ONCE]))
        done = min(start + _EMBEDDED_AT_ONCE, len(texts))
        left = (time.monotonic() - started) / done * (len(texts) - done)
        progress(f"embedded {done:,} of {len(texts):,} sentences, about {left / 60:.0f} minutes left")
    return np.concatenate(vectors)


def _wrong(
    question: SourceQuestion,
    sentences: Sequence[SourceSentence],
    copies: set[int],
    places: Sequence[int],
    n: int,
) -> tuple[str, ...]:
    """The first n of some places that neither answer nor say what an answer says."""
    kept = (sentences[p] for p in places if p not in copies and not _answers(sentences[p], question))
    return tuple(as_evidence(sentence) for sentence in islice(kept, n))


def _nearest(asked: Vectors, pool: Vectors, n: int) -> list[list[int]]:
    """For each question the places of the n and some more sentences nearest to it, best first."""
    similarities = asked @ pool.T  # (questions, sentences)
    n_kept = min(n + 24, pool.shape[0])  # right ones and their copies among them are left out afterwards
    kept = np.argpartition(-similarities, n_kept - 1, axis=1)[:, :n_kept]
    return [row[np.argsort(-similarities[i, row], kind="stable")].tolist() for i, row in enumerate(kept)]


def _answers(sentence: SourceSentence, question: SourceQuestion) -> bool:
    return any(sentence.text == right.text for right in question.right)


def _stretch(question: SourceQuestion, settings: PairSettings, rng: random.Random) -> str:
    right = rng.choice(question.right)
    # `near` is the page in its order without what answers; the sentences under the same heading stand around it.
    around = [sentence.text for sentence in question.near if sentence.heading == right.heading]
    before, after = (rng.randint(0, settings.stretch_sentences) for _ in range(2))
    place = rng.randint(0, len(around))
    text = " ".join([*around[max(0, place - before) : place], right.text, *around[place : place + after]])
    title, _, heading = right.heading.partition(" > ")
    return enriched(title, heading, text)
