"""The vectors of the sentences of chunks: computed once, remembered in memory and in the database.

Retrieval ranks passages by their best sentence and the evidence is chosen among the same sentences, so both read them here. Knows nothing of ranks,
readers or questions beyond their vector: whoever asks has the passages already.

Different from a second vector index: only the sentences of the passages found by other means are compared, a few hundred numbers long each, so there
is nothing to build at start and nothing that could disagree with the chunks. A row of another encoder, or of other rules, counts as none; it is
written anew when its chunk is next read, and ingestion writes it ahead of the first question.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from knowledge_base import tables as t
from knowledge_base.database import Database
from knowledge_base.errors import StorageError
from knowledge_base.protocols import Embedder, Vectors
from knowledge_base.quotable import RULES, place_of, quotable, with_place
from knowledge_base.records import Passage

log = structlog.get_logger(__name__)

_CHUNKS_PER_QUERY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSettings:
    """How chunks are taken apart into sentences, and how many stay in memory."""

    lead_in_words: int = 45
    """A sentence ending in a colon is joined with what follows it, up to so many words."""
    cached_chunks: int = 4096
    """Chunks whose sentence vectors stay in memory (about 15 kB each); those of others are read from the database."""

    def __post_init__(self) -> None:
        if self.lead_in_words < 0:
            raise ValueError(f"lead_in_words is {self.lead_in_words}: it must be 0 or more")
        if self.cached_chunks < 1:
            raise ValueError(f"cached_chunks is {self.cached_chunks}: it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkText:
    """What is read of a chunk."""

    chunk_id: int
    title: str
    """Of its document."""
    heading: str
    text: str


def chunk_text(passage: Passage) -> ChunkText:
    """What is read of a passage's chunk."""
    return ChunkText(
        chunk_id=passage.chunk_id, title=passage.title, heading=passage.heading, text=passage.text
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """A chunk taken apart."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """Start and end of each sentence in the chunk's text."""
    vectors: Vectors
    """(n, dimension), of unit length but for the rounding to sixteen bits."""


class SentenceVectors:
    """Sentences of chunks, with their vectors. Thread-safe."""

    def __init__(
        self, encoder: Embedder, settings: SentenceSettings | None = None, db: Database | None = None
    ) -> None:
        """Put the parts together; nothing is read yet.

        Args:
            encoder: Puts a question near the sentence that answers it.
            settings: See `SentenceSettings`.
            db: Where vectors are kept; None keeps them in memory alone.
        """
        self._encoder = encoder
        self._settings = settings or SentenceSettings()
        self._db = db
        self._guard = threading.Lock()
        self._known: OrderedDict[int, Sentences] = OrderedDict()

    @property
    def encoder_version(self) -> str:
        """Of the encoder that compares sentences."""
        return self._encoder.version

    @property
    def version(self) -> str:
        """Of everything that decides a row: encoder, rules, lead-ins."""
        return f"{self._encoder.version}/{RULES}/{self._settings.lead_in_words}"

    def encode(self, question: str) -> Vectors:
        """A question's vector, (dimension,).

        It is encoded alone: what shares its batch would move its last digits, and with them the hash of a dataset.
        """
        vector: Vectors = self._encoder.encode([question])[0]
        return vector

    def read(self, chunks: Sequence[ChunkText]) -> list[Sentences]:
        """The sentences of chunks, in the order given."""
        found = self._recall(chunks)
        missing = [chunk for chunk in chunks if chunk.chunk_id not in found]
        found |= self._load(missing)
        missing = [chunk for chunk in missing if chunk.chunk_id not in found]
        computed = self._compute(missing)
        self._keep(computed)
        found |= computed
        self._remember(found)
        return [found[chunk.chunk_id] for chunk in chunks]

    def _recall(self, chunks: Sequence[ChunkText]) -> dict[int, Sentences]:
        found = {}
        with self._guard:
            for chunk in chunks:
                known = self._known.get(chunk.chunk_id)
                # Ids of chunks that no database holds may be given again: the text decides.
                if known is not None and known.text == chunk.text:
                    self._known.move_to_end(chunk.chunk_id)
                    found[chunk.chunk_id] = known
        return found

    def _remember(self, read: dict[int, Sentences]) -> None:
        with self._guard:
            self._known.update(read)
            while len(self._known) > self._settings.cached_chunks:
                self._known.popitem(last=False)

    def _load(self, chunks: Sequence[ChunkText]) -> dict[int, Sentences]:
        if self._db is None:
            return {}
        found, c = dict[int, Sentences](), t.chunk_sentences.c
        for start in range(0, len(chunks), _CHUNKS_PER_QUERY):
            texts = {chunk.chunk_id: chunk.text for chunk in chunks[start : start + _CHUNKS_PER_QUERY]}
            query = sa.select(c.chunk_id, c.spans, c.vectors).where(
                c.chunk_id.in_(texts), c.version == self.version
            )
            with self._db.read() as connection:
                rows = connection.execute(query).all()
            found |= {
                row.chunk_id: self._from_row(row.spans, row.vectors, texts[row.chunk_id]) for row in rows
            }
        return found

    def _from_row(self, places: bytes, numbers: bytes, text: str) -> Sentences:
        spans = np.frombuffer(places, dtype="<i4").reshape(-1, 2)
        vectors = np.frombuffer(numbers, dtype="<f2").reshape(len(spans), self._encoder.dimension)
        return Sentences(
            text=text,
            spans=tuple((int(start), int(end)) for start, end in spans),
            vectors=vectors.astype(np.float32),
        )

    def _compute(self, chunks: Sequence[ChunkText]) -> dict[int, Sentences]:
        """Take chunks apart and embed their sentences in one batch."""
        spans = [quotable(c.text, c.title, c.heading, self._settings.lead_in_words) for c in chunks]
        texts = [
            with_place(place_of(chunk.title, chunk.heading), chunk.text[start:end])
            for chunk, own in zip(chunks, spans, strict=True)
            for start, end in own
        ]
        if not texts:
            none = np.empty((0, self._encoder.dimension), dtype=np.float32) if chunks else None
            return {
                c.chunk_id: Sentences(text=c.text, spans=(), vectors=none) for c in chunks if none is not None
            }
        # As they will be read back, so that an answer does not depend on where they came from.
        vectors = self._encoder.encode(texts).astype("<f2").astype(np.float32)
        found, begin = {}, 0
        for chunk, own in zip(chunks, spans, strict=True):
            end = begin + len(own)
            found[chunk.chunk_id] = Sentences(
                text=chunk.text, spans=tuple(own), vectors=vectors[begin:end].copy()
            )
            begin = end
        return found

    def _keep(self, computed: dict[int, Sentences]) -> None:
        """Write rows for the next time. Where that fails the answer at hand needs them no less: it is told, and tried again then."""
        if self._db is None or not computed:
            return
        rows = [
            {
                "chunk_id": chunk_id,
                "version": self.version,
                "spans": np.asarray(read.spans, dtype="<i4").tobytes(),
                "vectors": read.vectors.astype("<f2").tobytes(),
            }
            for chunk_id, read in computed.items()
        ]
        insert = (sqlite_insert if self._db.is_sqlite else postgres_insert)(t.chunk_sentences)
        upsert = insert.on_conflict_do_update(
            index_elements=["chunk_id"],
            set_={name: insert.excluded[name] for name in ("version", "spans", "vectors")},
        )
        try:
            with self._db.write() as connection:
                present = set(
                    connection.execute(
                        sa.select(t.chunks.c.id).where(t.chunks.c.id.in_(list(computed)))
                    ).scalars()
                )
                # A chunk may have been deleted since it was found.
                if rows := [row for row in rows if row["chunk_id"] in present]:
                    connection.execute(upsert, rows)
        except StorageError as error:
            log.warning("sentence_vectors_not_kept", chunks=len(rows), reason=str(error))
