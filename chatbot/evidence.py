"""Chooses the sentences of the retrieved passages that the model is shown.

Each sentence of a passage is ranked by its cosine to the question plus a share of its passage's own; near-duplicates are dropped, and so are orders to a model
(`embedded_orders`). Knows nothing of
prompts, models, access rules or of how passages are taken apart (`knowledge_base.quotable`): passages in, numbered sentences out.

Different from the textbook (whole chunks in the prompt): sentences, because a small model reads eight sentences better than five
chunks, and because a citation then points at the very sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from chatbot.embedded_orders import order_to_model
from chatbot.records import EvidenceSentence
from chatbot.settings import EvidenceSettings
from knowledge_base.protocols import Vectors
from knowledge_base.quotable import place_of, words
from knowledge_base.records import Passage
from knowledge_base.sentence_vectors import SentenceVectors, chunk_text

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Candidate:
    passage: Passage
    start: int
    end: int
    text: str
    """`passage.text` between `start` and `end`, which count in the passage."""


class EvidenceSelector:
    """Passages to numbered evidence. Thread-safe."""

    def __init__(self, sentences: SentenceVectors, settings: EvidenceSettings | None = None) -> None:
        self._sentences = sentences
        self._settings = settings or EvidenceSettings()

    @property
    def version(self) -> str:
        """Of the encoder that compares sentences."""
        return self._sentences.encoder_version

    def select(
        self,
        question: str,
        passages: Sequence[Passage],
        fits: Callable[[Sequence[EvidenceSentence]], bool] = lambda _: True,
    ) -> list[EvidenceSentence]:
        """Choose and number evidence, best first.

        Args:
            question: What was searched for.
            passages: Best first.
            fits: Whether a prompt with this evidence fits the model's context; sentences that do not fit are passed over.

        Returns:
            At most `max_sentences`, numbered from 1; `text` is the passage's text between `start` and `end`.
        """
        ranked = self._rank(question, passages[: self._settings.max_passages])
        chosen: list[EvidenceSentence] = []
        vectors: list[Vectors] = []
        for similarity, candidate, sentence_vector in ranked:
            if len(chosen) == self._settings.max_sentences:
                break
            if self._repeats(candidate, sentence_vector, chosen, vectors) or self._is_order(candidate):
                continue
            item = _as_evidence(candidate, similarity, len(chosen) + 1)
            if fits([*chosen, item]):
                chosen.append(item)
                vectors.append(sentence_vector)
        return chosen

    def _rank(self, question: str, passages: Sequence[Passage]) -> list[tuple[float, _Candidate, Vectors]]:
        vector = self._sentences.encode(question)
        ranked = []
        read = self._sentences.read([chunk_text(passage) for passage in passages])
        for passage, sentences in zip(passages, read, strict=True):
            for (start, end), own in zip(sentences.spans, sentences.vectors, strict=True):
                similarity = float(vector @ own)
                score = similarity + self._settings.passage_weight * passage.similarity
                ranked.append(
                    (score, similarity, _Candidate(passage, start, end, passage.text[start:end]), own)
                )
        # Ties go to the better passage and the earlier sentence, so that equal questions get equal evidence.
        ranked.sort(key=lambda entry: (-entry[0], entry[2].passage.rank, entry[2].start))
        return [(similarity, candidate, own) for _, similarity, candidate, own in ranked]

    def _repeats(
        self,
        candidate: _Candidate,
        vector: Vectors,
        chosen: Sequence[EvidenceSentence],
        vectors: Sequence[Vectors],
    ) -> bool:
        said = words(candidate.text)
        return any(
            words(item.text) == said
            or (item.passage.chunk_id == candidate.passage.chunk_id and candidate.text in item.text)
            # Vectors barely see numbers: "5 days" and "10 days" are no duplicates however close they lie.
            or (
                float(vector @ other) >= self._settings.duplicate_cosine
                and _numbers(item.text) == _numbers(candidate.text)
            )
            for item, other in zip(chosen, vectors, strict=True)
        )

    def _is_order(self, candidate: _Candidate) -> bool:
        kind = order_to_model(candidate.text) if self._settings.screen_orders else ""
        if kind:
            # Somebody should look at that document; what it says stays out of the log, which more people read.
            log.warning(
                "order_in_document",
                kind=kind,
                document=candidate.passage.document_id,
                start=candidate.passage.start + candidate.start,
            )
        return bool(kind)


def _as_evidence(candidate: _Candidate, similarity: float, number: int) -> EvidenceSentence:
    passage = candidate.passage
    return EvidenceSentence(
        number=number,
        text=candidate.text,
        heading=place_of(passage.title, passage.heading),
        similarity=similarity,
        start=passage.start + candidate.start,
        end=passage.start + candidate.end,
        passage=passage,
    )


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+", text)
