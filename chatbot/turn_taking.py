"""An engine for any causal model of transformers: every writing has its own cache, and they take turns, one forward pass each.

Knows nothing of prompts or sampling. Different from `model.generate`: rows that have ended leave the batch, rows with the same prompt share
one pass over it, and a fair lock is held for one pass at a time, so that two chats on one model progress together.

Shapes: R open rows, U distinct prompts, T tokens so far, V vocabulary.
"""

from __future__ import annotations

import inspect
import weakref
from dataclasses import dataclass
from typing import Any

from chatbot.fair_lock import FairLock
from chatbot.model_loading import LoadedModel
from chatbot.writing import Writing, Written


@dataclass(slots=True)
class _Kept:
    """What a writing needs for its next pass."""

    cache: Any
    mask: Any
    """(R, T), 1 where a token is."""


class TurnTaking:
    """Implements `Engine` with `transformers`' own forward pass."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Take over a loaded model."""
        self._loaded = loaded
        self._lock = FairLock()
        # By the writing itself: one that is forgotten without having left frees its cache.
        self._kept: weakref.WeakKeyDictionary[Writing, _Kept] = weakref.WeakKeyDictionary()
        accepted = inspect.signature(loaded.model.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_logits_to_keep = "logits_to_keep" in accepted

    def step(self, writing: Writing) -> Written:
        """See `Engine.step`."""
        if not writing.open_rows:
            return []
        kept = self._kept.get(writing)
        logits, kept = self._prefill(writing) if kept is None else self._advance(writing, kept)
        n_rows = len(writing.open_rows)
        taken = writing.take(logits)
        if not taken.stays:
            self._kept.pop(writing, None)
            return taken.written
        if len(taken.stays) < n_rows:
            _select(kept, taken.stays)
        self._kept[writing] = kept
        return taken.written

    def leave(self, writing: Writing) -> Written:
        """See `Engine.leave`."""
        self._kept.pop(writing, None)
        return []

    def _prefill(self, writing: Writing) -> tuple[Any, _Kept]:
        ids, mask, places = pad_distinct(
            [writing.prompts[row] for row in writing.open_rows], self._loaded.pad_id, self._loaded.device
        )
        # Positions count real tokens only, so that padding on the left moves nothing; masked places may hold anything legal.
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        logits, cache = self._forward(ids, mask, positions, None)
        kept = _Kept(cache, mask)
        if len(ids) < len(places):
            _select(kept, places)
            logits = logits[places]
        return logits, kept

    def _advance(self, writing: Writing, kept: _Kept) -> tuple[Any, _Kept]:
        import torch

        ids = torch.tensor(writing.latest, device=self._loaded.device)[:, None]  # (R, 1)
        mask = torch.cat([kept.mask, torch.ones_like(ids)], dim=-1)
        positions = mask.sum(dim=-1, keepdim=True) - 1
        logits, cache = self._forward(ids, mask, positions, kept.cache)
        return logits, _Kept(cache, mask)

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any) -> tuple[Any, Any]:
        """One pass under the lock. ids (R, T_new), mask (R, T), positions (R, T_new) -> last logits (R, V), cache."""
        import torch

        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
        if cache is not None:
            inputs["past_key_values"] = cache
        if self._takes_positions:
            inputs["position_ids"] = positions
        if self._takes_logits_to_keep:
            inputs["logits_to_keep"] = 1
        # Not entered around a `yield`: inference mode belongs to the thread, and the consumer runs in it too.
        with self._lock, torch.inference_mode():
            out = self._loaded.model(**inputs)
        return out.logits[:, -1], out.past_key_values


def pad_distinct(prompts: list[list[int]], pad_id: int, device: Any) -> tuple[Any, Any, list[int]]:
    """Each different prompt once, padded on the left.

    Args:
        prompts: Token ids, R of them.
        pad_id: Fills the left.
        device: Where the tensors are made.

    Returns:
        ids (U, T), mask (U, T) with 1 where a token is, and for each of the R prompts its row.
    """
    import torch

    distinct: dict[tuple[int, ...], int] = {}
    places = [distinct.setdefault(tuple(prompt), len(distinct)) for prompt in prompts]
    longest = max(map(len, distinct))
    ids = torch.full((len(distinct), longest), pad_id, dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for prompt, place in distinct.items():
        ids[place, longest - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[place, longest - len(prompt) :] = 1
    return ids, mask, places


def _select(kept: _Kept, places: list[int]) -> None:
    import torch

    with torch.inference_mode():
        kept.cache.batch_select_indices(torch.tensor(places, device=kept.mask.device))
        kept.mask = kept.mask[places]
