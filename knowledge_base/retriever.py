"""Question to permitted passages: similarity by meaning, by words and by the best sentence, added up.

Knows nothing of prompts or answers. Access is decided before either search runs, and both apply it inside: a reader who may see one
chunk in a million still gets the best of what is theirs.

Different from the textbook, which fuses ranks (reciprocal-rank fusion, Cormack, Clarke and Buettcher, SIGIR 2009): scores are added (Bruch, Gai and Ingber
2023, arXiv:2210.11934, eq. 3). A side that is sure of one passage then says more than a side that finds fifty alike:

    score(chunk) = dense_weight * cosine + lexical_weight * BM25 / best BM25 + sentence_weight * best sentence's cosine

A passage of many topics is found by what it says of one, hence the sentences. They are read for the first passages of the other two sides; the
others follow in their order. A reranker, where the settings name one, at last sorts the first of them anew; a passage's score stays the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from knowledge_base.enrichment import enriched
from knowledge_base.errors import UsageError
from knowledge_base.live_index import LiveIndex
from knowledge_base.protocols import Embedder, LexicalIndex, Reranker, Vectors
from knowledge_base.records import Passage, Reader
from knowledge_base.rows import FoundChunk
from knowledge_base.sentence_vectors import SentenceVectors, chunk_text
from knowledge_base.spelling import Spelled, Spelling
from knowledge_base.store import KnowledgeStore

log = structlog.get_logger(__name__)

_MAX_EMBEDDED_CHARACTERS = 4000
"""The embedder reads a few hundred tokens of a question; the rest of a very long one is not even tokenised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalSettings:
    """How passages are found and ranked."""

    candidates: int = 50
    """Chunks taken from each side, by meaning and by words."""
    dense_weight: float = 1.0
    """Of similarity by meaning, a cosine; 0 turns vector search off."""
    lexical_weight: float = 0.3
    """Of similarity by words, 1 for the best; 0 turns word search off."""
    tolerate_misspelling: bool = True
    """Search also what was probably meant by a word that no document has."""
    sentence_candidates: int = 100
    """First passages whose sentences are compared with the question; 0 leaves their order as it is."""
    sentence_weight: float = 1.2
    """Of the best sentence's similarity, a cosine."""

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates is {self.candidates}: it must be at least 1")
        if self.sentence_candidates < 0:
            raise ValueError(f"sentence_candidates is {self.sentence_candidates}: it must not be negative")
        if self.sentence_weight < 0:
            raise ValueError(f"sentence_weight is {self.sentence_weight}: it must not be negative")
        if min(self.dense_weight, self.lexical_weight) < 0 or self.dense_weight + self.lexical_weight == 0:
            raise ValueError(
                f"dense_weight is {self.dense_weight} and lexical_weight {self.lexical_weight}: "
                "neither may be negative, and one must be above 0"
            )


class HybridRetriever:
    """The `Retriever` over the store, the live vector index and word search."""

    def __init__(
        self,
        store: KnowledgeStore,
        live_index: LiveIndex,
        lexical: LexicalIndex,
        embedder: Embedder,
        settings: RetrievalSettings | None = None,
        reranker: Reranker | None = None,
        spelling: Spelling | None = None,
        sentences: SentenceVectors | None = None,
    ) -> None:
        """Put the parts together; nothing is loaded yet."""
        self._store = store
        self._live_index = live_index
        self._lexical = lexical
        self._embedder = embedder
        self._settings = settings or RetrievalSettings()
        self._reranker = reranker
        self._spelling = spelling
        self._sentences = sentences

    @property
    def version(self) -> str:
        """Embedder, settings and any reranker, as `all-MiniLM-L6-v2/53aa5117/mean+fts/sum/50/1:0.3`."""
        s = self._settings
        fusion = f"{self._embedder.version}+fts/sum/{s.candidates}/{s.dense_weight:g}:{s.lexical_weight:g}"
        if self._spelling:
            fusion += "+spelling"
        if self._sentences:
            fusion += f"+sentences/{self._sentences.version}/{s.sentence_candidates}/{s.sentence_weight:g}"
        return f"{fusion}+{self._reranker.version}" if self._reranker else fusion

    def retrieve(
        self, question: str, reader: Reader, *, collections: Sequence[str] | None = None, top_k: int = 8
    ) -> list[Passage]:
        """The best passages that the reader may read; see `Retriever.retrieve`. A blank question finds nothing.

        Raises:
            NotFoundError: a named collection does not exist or is not permitted.
            UsageError: top_k is below 1.
            EmbedderError: the embedder cannot be loaded, or the stored vectors come from another one.
            RerankerError: the reranker cannot be loaded.
        """
        if top_k < 1:
            raise UsageError(f"top_k is {top_k}: it must be at least 1")
        permitted = [c.id for c in self._store.permitted_collections(reader, collections)]
        if not permitted or not question.strip():
            return []
        settings = self._settings
        spelled = self._spell(question, permitted)
        vector = self._embedder.encode([spelled.question[:_MAX_EMBEDDED_CHARACTERS]])
        n = max(settings.candidates, top_k)
        by_meaning = self._nearest(vector, n, permitted) if settings.dense_weight else []
        words = " ".join((question, *spelled.added))
        by_words = dict(self._lexical.search(words, n, permitted)) if settings.lexical_weight else {}
        passages = self._passages([*by_meaning, *by_words], by_words, vector[0], permitted)
        passages = self._rerank(question, self._by_sentences(spelled.question, passages))[:top_k]
        log.debug("retrieved", dense=len(by_meaning), lexical=len(by_words), passages=len(passages))
        return passages

    def _spell(self, question: str, permitted: Sequence[str]) -> Spelled:
        return self._spelling.read(question, permitted) if self._spelling else Spelled(question=question)

    def _by_sentences(self, question: str, passages: list[Passage]) -> list[Passage]:
        """Add to the first passages' scores what their best sentences say."""
        n, weight = self._settings.sentence_candidates, self._settings.sentence_weight
        if self._sentences is None or not passages or not n:
            return passages
        first, rest = passages[:n], passages[n:]
        vector = self._sentences.encode(question[:_MAX_EMBEDDED_CHARACTERS])
        read = self._sentences.read([chunk_text(passage) for passage in first])
        best = [float((own.vectors @ vector).max()) if len(own.vectors) else None for own in read]
        # A passage without sentences is as near as the one whose sentences are farthest.
        lowest = min((near for near in best if near is not None), default=0.0)
        scored = [
            replace(passage, score=passage.score + weight * (lowest if near is None else near))
            for passage, near in zip(first, best, strict=True)
        ]
        scored.sort(key=lambda passage: -passage.score)
        return [replace(passage, rank=rank) for rank, passage in enumerate([*scored, *rest], start=1)]

    def _rerank(self, question: str, passages: list[Passage]) -> list[Passage]:
        if self._reranker is None:
            return passages
        read, rest = passages[: self._reranker.candidates], passages[self._reranker.candidates :]
        scores = self._reranker.score(
            question[:_MAX_EMBEDDED_CHARACTERS], [enriched(p.title, p.heading, p.text) for p in read]
        )
        # Equal scores keep the order of the sum.
        order = sorted(range(len(read)), key=lambda place: -scores[place])
        return [
            replace(passage, rank=rank)
            for rank, passage in enumerate([*(read[place] for place in order), *rest], start=1)
        ]

    def _nearest(self, vector: Vectors, n: int, permitted: Sequence[str]) -> list[int]:
        ids, _ = self._live_index.search(vector, n, permitted)
        return [int(i) for i in ids[0] if i >= 0]

    def _passages(
        self,
        candidates: Sequence[int],
        by_words: Mapping[int, float],
        vector: Vectors,
        permitted: Sequence[str],
    ) -> list[Passage]:
        """All candidates that still exist, best first by the sum of both sides; a cosine is known for those that only words found, too."""
        found = self._store.find_chunks(list(dict.fromkeys(candidates)), permitted)
        present = [found[chunk_id] for chunk_id in dict.fromkeys(candidates) if chunk_id in found]
        cosines = [float(np.clip(item.embedding @ vector, -1.0, 1.0)) for item in present]
        # BM25 has a true zero: no word in common, or too few for the first candidates.
        best = max(by_words.values(), default=0.0)
        words = [by_words.get(item.chunk.id, 0.0) / best if best > 0 else 0.0 for item in present]
        settings = self._settings
        scores = [
            settings.dense_weight * near + settings.lexical_weight * alike
            for near, alike in zip(cosines, words, strict=True)
        ]
        order = sorted(range(len(present)), key=lambda place: -scores[place])
        return [
            _passage(present[place], score=scores[place], similarity=cosines[place], rank=rank)
            for rank, place in enumerate(order, start=1)
        ]


def _passage(found: FoundChunk, *, score: float, similarity: float, rank: int) -> Passage:
    chunk = found.chunk
    return Passage(
        chunk_id=chunk.id, document_id=chunk.document_id, document=found.document, title=found.title,
        collection=found.collection, collection_is_open=found.collection_is_open, heading=chunk.heading, page=chunk.page,
        text=chunk.text, start=chunk.start, end=chunk.end, score=score, similarity=similarity, rank=rank,
    )  # fmt: skip
