"""Contracts between the parts of the knowledge base, with their semantics. `tests/contracts.py` proves every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from knowledge_base.records import Passage, Reader

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Embedder(Protocol):
    """Text to unit vectors."""

    @property
    def version(self) -> str:
        """Names the weights and the pooling; vectors of different versions must not be mixed."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def max_tokens(self) -> int:
        """Longer texts are cut here."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts. Returns (n, dimension) float32 of unit length, in the order given; (0, dimension) for no texts."""

    def count_tokens(self, text: str) -> int:
        """How many of the model's tokens a text takes, without special tokens."""


class VectorIndex(Protocol):
    """Exact or approximate nearest neighbours by inner product. Ids are chunk ids."""

    def __len__(self) -> int:
        """How many vectors are searchable."""

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors; an id already present is replaced."""

    def remove(self, ids: Ids) -> None:
        """Remove ids; unknown ones are ignored. Removed vectors never come back from a search."""

    def search(self, vectors: Vectors, k: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """Nearest neighbours.

        Args:
            vectors: (n, dimension), unit length.
            k: How many per query.
            allowed: When given, only these ids may be returned: the filter works inside the search, before ranks are cut.

        Returns:
            ids (n, k) padded with -1, and inner products (n, k) padded with -inf; best first.
        """


class LexicalIndex(Protocol):
    """Word search with BM25 ranking."""

    def search(self, query: str, k: int, collection_ids: Sequence[str]) -> list[tuple[int, float]]:
        """The k best (chunk id, score) of the given collections, best first; any text is a valid query, an empty one finds nothing."""


class Reranker(Protocol):
    """Reads question and text together."""

    @property
    def version(self) -> str:
        """Names the weights; part of the retriever's version."""

    @property
    def candidates(self) -> int:
        """How many passages it is to be given at most."""

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the question: one number a text, in the order given, larger is better, comparable within the call."""


class Retriever(Protocol):
    """Question to permitted passages."""

    @property
    def version(self) -> str:
        """Names embedder, fusion and settings; stored with each answer."""

    def retrieve(
        self, question: str, reader: Reader, *, collections: Sequence[str] | None = None, top_k: int = 8
    ) -> list[Passage]:
        """The best passages that the reader may read, best first.

        Args:
            question: As typed.
            reader: Decides what may be seen; the filter is applied before ranks are cut.
            collections: Names to search in; None for all permitted.
            top_k: At most this many.

        Raises:
            NotFoundError: a named collection does not exist or the reader may not know of it (the same message for both).
        """
