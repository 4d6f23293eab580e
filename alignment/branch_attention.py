"""Attention of several completions to the one prompt that they continue, a token at a time.

Knows nothing of sampling. Different from repeating the prompt's keys and values for each completion: on a processor a token of a small model costs
what is read for it, and six samples of a prompt of 400 tokens read the same keys six times. Here a prompt's keys and values are kept and read
once, for all its branches together (Juravsky et al. 2024, Hydragen, arXiv 2402.05099, section 3), without the padding of shorter prompts,
and each branch has memory for what it writes itself. Scores of both parts meet in one softmax, so the result is that of plain attention. Not for
training: branches are written in place.

Shapes: P prompts of L tokens, N branches with those of a prompt together, t tokens written, H query heads, K key heads, G = H / K, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import DynamicLayer

NAME = "tacit_branches"
"""Of this attention among those of transformers."""
_MODELS = {"LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM"}
"""Hand what a cache returns to their attention function untouched."""


def can_branch(model: Any) -> bool:
    """Whether a model's completions can be written this way; on a GPU its own kernels are better."""
    return type(model).__name__ in _MODELS and model.device.type == "cpu"


class BranchLayer(DynamicLayer):
    """Keys and values of one layer: the prompts', and those of each branch."""

    def __init__(
        self, filled: Any, lengths: list[int], *, branches: int, room: int, dtype: torch.dtype
    ) -> None:
        """Take over what a layer has read.

        Args:
            filled: A layer of full attention with the keys and values of P prompts, padded on the left.
            lengths: (P,) tokens of each prompt.
            branches: Of each prompt.
            room: Tokens that each branch may write.
            dtype: Of the products, so that nothing is converted for every token.
        """
        super().__init__()
        self.lazy_initialization(filled.keys, filled.values)
        self._prompts = [
            (keys[:, -length:].to(dtype, copy=True), values[:, -length:].to(dtype, copy=True))
            for keys, values, length in zip(filled.keys, filled.values, lengths, strict=True)
        ]  # each (K, L, D)
        self._counts = [branches] * len(lengths)
        rows, heads, read, width = filled.keys.shape
        self._read: int = read
        self._keys = torch.empty(rows * branches, heads, room, width, dtype=dtype)
        self._values = torch.empty_like(self._keys)
        self._written = 0

    def get_seq_length(self) -> int:
        """Tokens so far, padding included."""
        return self._read + self._written

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[BranchLayer, BranchLayer]:
        """Write the keys and values of one more token of each branch; `attend` reads them."""
        self._keys[:, :, self._written] = key_states[:, :, 0].to(self._keys.dtype)
        self._values[:, :, self._written] = value_states[:, :, 0].to(self._keys.dtype)
        self._written += 1
        return self, self

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the branches of this mask (N,)."""
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._counts = [int(kept.sum()) for kept in indices.split(self._counts)]

    def attend(self, queries: Tensor, scaling: float) -> Tensor:
        """Queries (N, H, 1, D) over prompt and branch -> (N, 1, H, D)."""
        n_rows, heads, _, width = queries.shape
        key_heads = self._keys.shape[1]
        asked = queries.to(self._keys.dtype).view(n_rows, key_heads, -1, width) * scaling  # (N, K, G, D)
        keys, values = self._keys[:, :, : self._written], self._values[:, :, : self._written]
        own = asked @ keys.transpose(-1, -2)  # (N, K, G, t)
        weights, mixed = torch.empty_like(own), torch.empty_like(asked)
        begin = 0
        for (prompt_keys, prompt_values), count in zip(self._prompts, self._counts, strict=True):
            if not count:
                continue
            rows = slice(begin, begin + count)
            begin += count
            seen = _by_head(asked[rows]) @ prompt_keys.transpose(-1, -2)  # (K, count G, L)
            share = torch.cat([seen, _by_head(own[rows])], dim=-1).float().softmax(dim=-1).to(own.dtype)
            of_prompt, of_branch = share.split([seen.shape[-1], self._written], dim=-1)
            weights[rows] = _by_branch(of_branch, count)
            mixed[rows] = _by_branch(of_prompt @ prompt_values, count)
        return (mixed + weights @ values).view(n_rows, 1, heads, width)


def _by_head(states: Tensor) -> Tensor:
    """(n, K, G, x) -> (K, n G, x)."""
    return states.transpose(0, 1).flatten(1, 2)


def _by_branch(states: Tensor, count: int) -> Tensor:
    """(K, n G, x) -> (n, K, G, x)."""
    return states.view(states.shape[0], count, -1, states.shape[-1]).transpose(0, 1)


def branch(cache: Any, prompt_mask: Tensor, *, branches: int, room: int, dtype: torch.dtype) -> Any:
    """Let completions branch off from a freshly filled cache.

    Args:
        cache: A `DynamicCache` of full attention layers; changed in place and returned.
        prompt_mask: (P, L), bool, padding on the left.
        branches: Of each prompt.
        room: Tokens that each may write.
        dtype: Of the products.
    """
    lengths = prompt_mask.sum(dim=1).tolist()
    cache.layers = [
        BranchLayer(layer, lengths, branches=branches, room=room, dtype=dtype) for layer in cache.layers
    ]
    return cache


@contextmanager
def attending_to_branches(model: Any) -> Iterator[None]:
    """Inside, the model's attention reads a cache made by `branch`, one token of each branch at a time."""
    config = model.config
    before = config._attn_implementation  # noqa: SLF001 -- transformers' own setter loads kernels and warns
    config._attn_implementation = NAME  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001


def _attend(
    _module: Any,
    query: Tensor,
    key: BranchLayer,
    _value: BranchLayer,
    _mask: None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    return key.attend(query, scaling), None


AttentionInterface.register(NAME, _attend)
