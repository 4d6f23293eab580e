"""The vector index on FAISS: exact, in memory, filtered inside the search. The only file that imports faiss.

Knows nothing of documents, collections or the database; `live_index.py` feeds it.

Different from the textbook: no approximate structure and no file on disk. A scan of 100,000 vectors of 384 numbers takes
milliseconds, finds everything, and needs no training; the vectors are kept by the database, from which the index is rebuilt at start.
"""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from knowledge_base.protocols import Ids, Vectors


class FaissIndex:
    """A `VectorIndex` by flat inner product. Safe to share between threads.

    Example:
        >>> index = FaissIndex(2)
        >>> index.add(np.array([7, 9]), np.eye(2, dtype=np.float32))
        >>> index.search(np.array([[0.6, 0.8]], dtype=np.float32), k=3)[0]
        array([[ 9,  7, -1]])
    """

    def __init__(self, dimension: int) -> None:
        """An empty index of vectors of the given length."""
        if dimension < 1:
            raise ValueError(f"dimension is {dimension}: it must be at least 1")
        self.dimension = dimension
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        # FAISS allows searches side by side but none beside a change; searches take milliseconds, so one lock does.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many vectors are searchable."""
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors (n, dimension) under ids (n,); an id already present is replaced, and of twins in one call the last stays.

        Raises:
            ValueError: the shapes do not fit.
        """
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.shape != (len(ids), self.dimension):
            raise ValueError(
                f"vectors have shape {vectors.shape}: ({len(ids)}, {self.dimension}) expected, one for each id"
            )
        if not len(ids):
            return
        unique, last = np.unique(ids[::-1], return_index=True)
        if len(unique) < len(ids):
            ids, vectors = unique, np.ascontiguousarray(vectors[::-1][last])
        with self._lock:
            if self._index.ntotal:
                self._index.remove_ids(faiss.IDSelectorBatch(ids))
            self._index.add_with_ids(vectors, ids)

    def remove(self, ids: Ids) -> None:
        """Remove ids; unknown ones are ignored."""
        if len(ids):
            with self._lock:
                self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(ids, dtype=np.int64)))

    def search(self, vectors: Vectors, k: int, allowed: Ids | None = None) -> tuple[Ids, Vectors]:
        """Nearest neighbours; see `VectorIndex.search`."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(f"queries have shape {vectors.shape}: (n, {self.dimension}) expected")
        if k < 1:
            raise ValueError(f"k is {k}: it must be at least 1")
        with self._lock:
            scores, ids = self._index.search(vectors, k, params=_only(allowed))
        return ids, np.where(ids < 0, np.float32(-np.inf), scores)


def _only(allowed: Ids | None) -> faiss.SearchParameters | None:
    if allowed is None:
        return None
    # One bit for each id up to the largest: chunk ids come from a counter, so this stays small, and a test is one lookup.
    bits = np.zeros(int(allowed.max(initial=-1)) + 1, dtype=bool)
    bits[allowed] = True
    bitmap: npt.NDArray[np.uint8] = np.packbits(bits, bitorder="little")
    selector: Any = faiss.IDSelectorBitmap
    parameters: Any = faiss.SearchParameters
    # Both constructors are replaced at import time by ones that take arrays and names; FAISS's stubs do not know.
    chosen: faiss.SearchParameters = parameters(sel=selector(bitmap))
    return chosen
