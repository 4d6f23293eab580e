"""Stand-ins for our own protocols: quick, deterministic, honest about the contract (`tests/contracts.py` proves them too)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from knowledge_base.protocols import Ids, Vectors

_WORD = re.compile(r"[^\W_]+")


class FakeEmbedder:
    """Bag of words: each word adds a fixed direction, so texts that share words are near each other."""

    def __init__(self, dimension: int = 64, version: str = "fake/1") -> None:
        self.dimension = dimension
        self.version = version
        self.max_tokens = 254
        self.n_encoded = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (n, dimension); a text without words points along the first axis."""
        self.n_encoded += len(texts)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()):
                vectors[row] += self._direction(word)
            if not vectors[row].any():
                vectors[row, 0] = 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def _direction(self, word: str) -> Vectors:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)


class NumpyIndex:
    """A `VectorIndex` that compares with every vector, one by one."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._vectors: dict[int, Vectors] = {}

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add or replace."""
        self._vectors.update(zip((int(i) for i in ids), np.asarray(vectors), strict=True))

    def remove(self, ids: Ids) -> None:
        """Forget these."""
        for i in ids:
            self._vectors.pop(int(i), None)

    def search(self, vectors: Vectors, k: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """Sort everything allowed."""
        wanted = set(self._vectors) if allowed is None else {int(i) for i in allowed} & set(self._vectors)
        ids = np.full((len(vectors), k), -1, dtype=np.int64)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        for row, vector in enumerate(vectors):
            ranked = sorted(((float(vector @ self._vectors[i]), i) for i in wanted), reverse=True)[:k]
            for column, (score, i) in enumerate(ranked):
                ids[row, column], scores[row, column] = i, score
        return ids, scores
