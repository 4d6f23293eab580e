"""The order in which pretraining reads tokenised corpora.

Deals rows of tokens; knows nothing of text or models. Differs from the textbook data loader in that it has no state: row number `i`
of a seed is always the same tokens. The data position of a training run is therefore one integer, and a resumed run reads exactly
what an uninterrupted one would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from alignment.corpus import CorpusError, TokenizedSource, Tokens


class MixedRows:
    """Deals rows of a weighted mix of sources, without replacement inside an epoch.

    In one epoch a source of weight 2 shows each of its tokens twice, one of weight 0.5 half of its tokens. The windows are
    shifted by a random offset each epoch, so that rows of different epochs differ.
    """

    def __init__(
        self, sources: list[TokenizedSource], weights: Mapping[str, float], *, row_tokens: int, seed: int
    ) -> None:
        """See the class.

        Args:
            sources: At least one.
            weights: By source name; 1 where nothing is said.
            row_tokens: Tokens in a row, the one to be predicted last included.
            seed: Decides the order.

        Raises:
            CorpusError: For a weight without a source, or when no source fills a single row.
        """
        unknown = set(weights) - {source.name for source in sources}
        if unknown:
            known = ", ".join(source.name for source in sources)
            raise CorpusError(
                f"Weights for unknown sources: {', '.join(sorted(unknown))}. There are: {known}."
            )
        self._sources, self._weights = sources, dict(weights)
        self._row_tokens, self._seed = row_tokens, seed
        self._epoch = -1
        self._order: npt.NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
        self._open_epoch(0)
        if len(self._order) == 0:
            raise CorpusError(
                f"No source has {2 * row_tokens} tokens: the corpora are too small for such rows."
            )

    @property
    def rows_per_epoch(self) -> int:
        """Rows until the order starts anew."""
        return len(self._order)

    def row(self, index: int) -> Tokens:
        """Row `index`, counted from 0 over all epochs; (row_tokens,)."""
        epoch, place = divmod(index, len(self._order))
        self._open_epoch(epoch)
        source, start = self._order[place]
        return np.asarray(self._sources[source].train[start : start + self._row_tokens])

    def _open_epoch(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        rng = np.random.default_rng([self._seed, epoch])
        parts = [self._windows(number, rng) for number in range(len(self._sources))]
        # Every epoch has the same number of rows (windows depend on sizes only), so `divmod` above stays right.
        self._order = rng.permutation(np.concatenate(parts))
        self._epoch = epoch

    def _windows(self, number: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        source, row = self._sources[number], self._row_tokens
        n_windows = len(source.train) // row - 1
        if n_windows < 1:
            return np.empty((0, 2), dtype=np.int64)
        wanted = max(1, round(n_windows * self._weights.get(source.name, 1.0)))
        passes = [rng.permutation(n_windows) for _ in range(math.ceil(wanted / n_windows))]
        chosen = np.concatenate(passes)[:wanted]
        starts = chosen * row + rng.integers(0, row)
        return np.stack([np.full(wanted, number), starts], axis=1)


class DocumentRows:
    """Deals rows that begin where a document begins: for made-up chats, whose start matters."""

    def __init__(self, sources: list[TokenizedSource], *, row_tokens: int, seed: int) -> None:
        """See the class; sources shorter than one row are left out."""
        self._row_tokens, self._seed, self._sources = row_tokens, seed, sources
        places = [
            np.stack([np.full(len(fitting), number), fitting], axis=1)
            for number, source in enumerate(sources)
            if len(fitting := source.train_starts[source.train_starts + row_tokens <= len(source.train)])
        ]
        if not places:
            raise CorpusError(
                f"No document start is followed by {row_tokens} tokens: the corpus is too small."
            )
        self._places = np.concatenate(places)

    def row(self, index: int) -> Tokens:
        """Row `index`, counted from 0; (row_tokens,)."""
        epoch, place = divmod(index, len(self._places))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._places))
        source, start = self._places[order[place]]
        return np.asarray(self._sources[source].train[start : start + self._row_tokens])


def held_out_rows(source: TokenizedSource, *, row_tokens: int, limit: int) -> Tokens:
    """Evenly spread held-out rows of a source; (up to limit, row_tokens), empty when the held-out part is too short."""
    available = len(source.held_out) // row_tokens
    if available == 0:
        return np.empty((0, row_tokens), dtype=np.uint16)
    chosen = np.unique(np.linspace(0, available - 1, min(limit, available)).astype(np.int64))
    return np.stack([np.asarray(source.held_out[n * row_tokens : (n + 1) * row_tokens]) for n in chosen])
