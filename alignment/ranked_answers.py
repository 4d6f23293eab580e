"""Reader examples whose answers quote the evidence from its top: what is likeliest to answer first, the next likeliest after it.

A small reader cannot tell which of six near sentences answers; the encoder that put them in order can, better than the reader. Taught to begin with
the right one wherever it stood, the reader chose as well as the first sentence and stopped after it half of the time (docs/lab-log.md, 26
November). So a share of the answers follow the order, two or three sentences up to a number of words; the others stay as they were, so that
samples still differ. Knows nothing of how examples are made.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignment.reader_examples import ReaderExample
from chatbot.prompt import NumberedEvidence


@dataclass(frozen=True, kw_only=True)
class RankedAnswerSettings:
    """How many answers follow the order, and how far."""

    share: float = 0.85
    """Of the examples whose right sentence is among those that would be quoted; the others keep their answer."""
    words: Sequence[float] = (44, 62, 56)
    """Fewest, most and likeliest number of words; a sentence that would exceed it is left out, unless it is the first."""
    most_sentences: int = 3
    """Quoted at most."""
    seed: int = 22
    """Decides which and how far."""

    def __post_init__(self) -> None:
        """Reject what could not work."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"share={self.share} must be in [0, 1]")
        if len(self.words) != 3 or not self.words[0] <= self.words[2] <= self.words[1]:
            raise ValueError(
                f"words={self.words} must be three numbers: fewest, most, and the likeliest between them"
            )
        if self.most_sentences < 1:
            raise ValueError(f"most_sentences={self.most_sentences} must be at least 1")


def in_evidence_order(
    examples: Sequence[ReaderExample], settings: RankedAnswerSettings
) -> list[ReaderExample]:
    """The examples, a share of them answered from the top of their evidence; refusals and styled answers stay."""
    rng = random.Random(settings.seed)  # noqa: S311 -- data, not secrets
    return [_from_top(example, settings, rng) for example in examples]


def _from_top(example: ReaderExample, settings: RankedAnswerSettings, rng: random.Random) -> ReaderExample:
    wanted, drawn = rng.triangular(*settings.words), rng.random()
    if example.style != "quote" or drawn >= settings.share:
        return example
    chosen: list[NumberedEvidence] = []
    n_words = 0
    for item in example.evidence:
        n_more = len(item.text.split())
        if chosen and n_words + n_more > wanted:
            continue
        chosen.append(item)
        n_words += n_more
        if len(chosen) == settings.most_sentences:
            break
    numbers = tuple(item.number for item in chosen)
    if not set(numbers) & set(example.right):
        return example
    text = " ".join(f"{item.text} [{item.number}]" for item in chosen)
    return replace(example, completion=text, cited=numbers)
