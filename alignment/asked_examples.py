"""Reader examples of written questions, with the evidence that serving would show.

An encoder ranks the sentences of the question's page and of all pages, and the first few are the evidence, in that order. Knows nothing of models that
write. Different from `example_maker`, and from the usual training data of retrieval-augmented models: nothing is put in, taken out or moved
afterwards. Where the right sentence is not among the evidence there is no example, or now and then a refusal. So a reader learns how far the order
can be trusted, which is most of what a small one can learn: it was taught on evidence whose right sentence was moved about, and chose worse
than the order (docs/lab-log.md, 26 November).

For that the encoder must not have learned from these questions, or its order is better than it will be in serving: see `fold`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alignment.asked_questions import KIND
from alignment.encoder_pairs import as_evidence
from alignment.example_maker import CLOSINGS, prolong
from alignment.reader_examples import ReaderExample, Style
from alignment.reader_sources import SourceQuestion, SourceSentence
from chatbot.prompt import REFUSAL, NumberedEvidence
from knowledge_base.protocols import Embedder, Vectors

_BLOCK = 512
"""Questions compared with all sentences at once."""
_LEAD_INS = (
    "According to {0}: ", "Short answer: ", "From {0}: ", "The documents say: ", "In {0} it says: ",
)  # fmt: skip


def fold(document: str) -> int:
    """Which half of the pages a page is in, 0 or 1: an encoder that learned from one half ranks for the questions of the other."""
    return hashlib.sha256(f"fold {document}".encode()).digest()[0] % 2


@dataclass(frozen=True, kw_only=True)
class AskedExampleSettings:
    """What evidence and answers look like."""

    sentences: Sequence[int] = (3, 4, 5, 6, 6, 6, 6)
    """Numbers of sentences shown, one of them drawn for each example; serving shows six."""
    own_page: int = 10
    """Nearest sentences of the question's page that may be shown."""
    other_pages: Sequence[int] = (1, 2, 3, 6, 12)
    """Nearest sentences of other pages that may be, one of these numbers drawn: retrieval finds passages of one page or of many."""
    max_evidence_characters: int = 1500
    """The last sentences go until it fits."""
    copy_cosine: float = 0.93
    """A sentence of another page at least this near to a right one says the same, so it is not shown."""
    answer_words: Sequence[float] = (12, 58, 38)
    """Fewest, most and likeliest number of words up to which the right sentence is followed by the best-ranked others: who is not sure says two."""
    longest_answer: int = 62
    """Words of an answer of more than one sentence."""
    bare_share: float = 0.1
    """Share of answers that quote what is needed and nothing else."""
    styled_share: float = 0.08
    """Share of answers with a lead-in or a closing, so that preferences have something to choose between."""
    unanswered_share: float = 0.2
    """Share of the questions that the page does not answer that become refusals."""
    missed_share: float = 0.12
    """And of those whose answer is not among the evidence; the rest of them make no example."""
    bare_heading_share: float = 0.1
    """Share of examples whose evidence shows the title alone, so that the sentences themselves have to be read."""
    seed: int = 20
    """Decides everything."""

    def __post_init__(self) -> None:
        """Reject settings that cannot work, by name."""
        if not self.sentences or min(self.sentences) < 1 or max(self.sentences) > 99:
            raise ValueError(f"sentences={self.sentences} must be numbers from 1 to 99")
        if (
            len(self.answer_words) != 3
            or not self.answer_words[0] <= self.answer_words[2] <= self.answer_words[1]
        ):
            raise ValueError(
                f"answer_words={self.answer_words} must be three numbers: fewest, most, and the likeliest between them"
            )
        for name in ("bare_share", "styled_share", "unanswered_share", "missed_share", "bare_heading_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1]")


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A question with its sentences, best first."""

    question: SourceQuestion
    own: tuple[tuple[float, SourceSentence], ...]
    others: tuple[tuple[float, SourceSentence], ...]


def make_asked_examples(
    questions: Sequence[SourceQuestion], embedder: Embedder, settings: AskedExampleSettings
) -> list[ReaderExample]:
    """At most one example a question, in the order given.

    Args:
        questions: Of one side of a split: other pages' sentences come from them.
        embedder: Ranks; one that has not learned from these questions.
        settings: See `AskedExampleSettings`.
    """
    rng = random.Random(settings.seed)  # noqa: S311 -- data, not secrets
    made = (_make(ranked, settings, rng) for ranked in _rank(questions, embedder, settings))
    return [example for example in made if example is not None]


def _rank(
    questions: Sequence[SourceQuestion], embedder: Embedder, settings: AskedExampleSettings
) -> list[_Ranked]:
    sentences = list(dict.fromkeys((q.document, s) for q in questions for s in (*q.right, *q.near)))
    if not sentences:
        return []
    place = {key: number for number, key in enumerate(sentences)}
    pool = embedder.encode([as_evidence(sentence) for _, sentence in sentences])
    ranked = []
    for start in range(0, len(questions), _BLOCK):
        block = questions[start : start + _BLOCK]
        similarities = embedder.encode([q.question for q in block]) @ pool.T  # (block, sentences)
        for question, row in zip(block, similarities, strict=True):
            own = [place[question.document, s] for s in dict.fromkeys((*question.right, *question.near))]
            right = [place[question.document, s] for s in question.right]
            ranked.append(
                _Ranked(
                    question,
                    _first(own, row, sentences, settings.own_page),
                    _first(
                        _others(row, question.document, sentences, pool, right, settings),
                        row,
                        sentences,
                        max(settings.other_pages),
                    ),
                )
            )
    return ranked


def _first(
    places: Sequence[int], row: Vectors, sentences: Sequence[tuple[str, SourceSentence]], n: int
) -> tuple[tuple[float, SourceSentence], ...]:
    best = sorted(places, key=lambda p: -float(row[p]))[:n]
    return tuple((float(row[p]), sentences[p][1]) for p in best)


def _others(
    row: Vectors,
    document: str,
    sentences: Sequence[tuple[str, SourceSentence]],
    pool: Vectors,
    right: Sequence[int],
    settings: AskedExampleSettings,
) -> list[int]:
    """Places of the nearest sentences of other pages, without copies of what answers."""
    n = min(len(sentences), settings.own_page + 3 * max(settings.other_pages) + 20)
    nearest = [int(p) for p in np.argpartition(-row, n - 1)[:n] if sentences[p][0] != document]
    if not right:
        return nearest
    answers = pool[list(right)]  # (right, D)
    return [p for p in nearest if float((answers @ pool[p]).max()) < settings.copy_cosine]


def _make(ranked: _Ranked, settings: AskedExampleSettings, rng: random.Random) -> ReaderExample | None:
    question = ranked.question
    if not question.right and rng.random() >= settings.unanswered_share:
        return None
    shown = _choose(ranked, settings, rng)
    needed = [s for s in question.right[: question.n_needed] if s in shown]
    right = [s for s in question.right if s in shown]
    if not shown or (question.right and not right and rng.random() >= settings.missed_share):
        return None
    example = ReaderExample(
        document=question.document,
        kind=KIND,
        style="refusal",
        question=question.question,
        evidence=_number(shown, settings, rng),
        history=(),
        completion=REFUSAL,
        cited=(),
        right=(),
    )
    # What answers as well is quoted where what is needed was not found.
    return _answered(example, needed or right[:1], right, shown, settings, rng) if right else example


def _choose(ranked: _Ranked, settings: AskedExampleSettings, rng: random.Random) -> list[SourceSentence]:
    candidates = [*ranked.own, *ranked.others[: rng.choice(settings.other_pages)]]
    candidates.sort(key=lambda item: -item[0])
    by_text = {sentence.text: sentence for _, sentence in reversed(candidates)}
    ordered = list(dict.fromkeys(sentence.text for _, sentence in candidates))
    shown = [by_text[text] for text in ordered[: rng.choice(settings.sentences)]]
    while sum(len(s.heading) + len(s.text) + 8 for s in shown) > settings.max_evidence_characters:
        shown.pop()
    return shown


def _number(
    shown: Sequence[SourceSentence], settings: AskedExampleSettings, rng: random.Random
) -> tuple[NumberedEvidence, ...]:
    bare = rng.random() < settings.bare_heading_share
    return tuple(
        NumberedEvidence(number=n, heading=s.heading.split(" > ")[0] if bare else s.heading, text=s.text)
        for n, s in enumerate(shown, start=1)
    )


def _answered(
    example: ReaderExample,
    needed: Sequence[SourceSentence],
    right: Sequence[SourceSentence],
    shown: Sequence[SourceSentence],
    settings: AskedExampleSettings,
    rng: random.Random,
) -> ReaderExample:
    used = list(needed)
    if rng.random() >= settings.bare_share:
        used = prolong(used, right, shown, rng.triangular(*settings.answer_words), settings.longest_answer)
    numbers = [shown.index(sentence) + 1 for sentence in used]
    text = " ".join(f"{sentence.text} [{n}]" for sentence, n in zip(used, numbers, strict=True))
    style: Style = "quote"
    if rng.random() < settings.styled_share:
        style = rng.choice(("lead_in", "polite"))
        heading = example.evidence[numbers[0] - 1].heading
        text = (
            rng.choice(_LEAD_INS).format(heading) + text
            if style == "lead_in"
            else text + rng.choice(CLOSINGS)
        )
    return replace(
        example,
        style=style,
        completion=text,
        cited=tuple(numbers),
        right=tuple(shown.index(sentence) + 1 for sentence in right),
    )
