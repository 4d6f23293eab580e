"""Attention of several completions to the one prompt that they continue, in sampling and in training.

Knows nothing of sampling or losses. Different from repeating the prompt's keys and values for each completion: on a processor a token of a small model
costs what is read for it, and six samples of a prompt of 400 tokens read the same keys six times. Here a prompt's keys and values are kept and read
once, for all its branches together (Juravsky et al. 2024, Hydragen, arXiv 2402.05099, section 3), without the padding of shorter prompts,
and each branch has those of what it has written itself. Scores of both parts meet in one softmax, so the result is that of plain attention.

In sampling a branch writes a token at a time, into memory that has room for all of them. In training all its tokens come at once, each sees those before it, and
autograd goes through the prompt's keys and values.

Shapes: P prompts of L tokens, N branches with those of a prompt together (n of one prompt), T new tokens of each, t written so far with them, H query
heads, K key heads, G = H / K, D head width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import DynamicLayer

NAME = "tacit_branches"
"""Of this attention among those of transformers."""
_MODELS = {
    "LlamaForCausalLM", "LlamaModel", "Qwen2ForCausalLM", "Qwen2Model", "MistralForCausalLM", "MistralModel",
}  # fmt: skip
"""Hand what a cache returns to their attention function untouched."""


def can_branch(model: Any) -> bool:
    """Whether a model's completions can be read this way; on a GPU its own kernels are better."""
    return type(model).__name__ in _MODELS and model.device.type == "cpu"


class _Branches(DynamicLayer):
    """Keys and values of one layer: the prompts', and those of each branch."""

    def __init__(self, filled: Any, lengths: list[int], branches: int) -> None:
        super().__init__()
        self.lazy_initialization(filled.keys, filled.values)
        self.read: int = filled.keys.shape[-2]
        self.prompts = [
            (keys[:, -length:], values[:, -length:])
            for keys, values, length in zip(filled.keys, filled.values, lengths, strict=True)
        ]  # each (K, L, D)
        self.counts = [branches] * len(lengths)
        self.written = 0

    @property
    @abstractmethod
    def own(self) -> tuple[Tensor, Tensor]:
        """Keys and values (N, K, t, D) of what the branches have written."""

    def get_seq_length(self) -> int:
        """Tokens so far, padding included."""
        return self.read + self.written

    def attend(self, queries: Tensor, scaling: float) -> Tensor:
        """Queries (N, H, T, D) over prompt and branch -> (N, T, H, D)."""
        rows, heads, new, width = queries.shape
        keys, values = self.own
        asked = (queries * scaling).reshape(rows, keys.shape[1], -1, width)  # (N, K, G T, D)
        hidden = _hidden(new, self.written, asked.shape[2] // new, queries) if new > 1 else None
        mixed = [
            _mix(part, own_keys, own_values, prompt, hidden)
            for part, own_keys, own_values, prompt in zip(
                asked.split(self.counts),
                keys.split(self.counts),
                values.split(self.counts),
                self.prompts,
                strict=True,
            )
            if len(part)
        ]
        return torch.cat(mixed).view(rows, heads, new, width).transpose(1, 2)


def _hidden(new: int, written: int, groups: int, like: Tensor) -> Tensor:
    """(G T, t) minus infinity where a new token would see a later one."""
    causal = torch.full((new, written), float("-inf"), dtype=like.dtype, device=like.device)
    return causal.triu(written - new + 1).repeat(groups, 1)


def _mix(
    asked: Tensor, keys: Tensor, values: Tensor, prompt: tuple[Tensor, Tensor], hidden: Tensor | None
) -> Tensor:
    """What the branches of one prompt see: asked (n, K, M, D), own keys and values (n, K, t, D), the prompt's (K, L, D) -> (n, K, M, D)."""
    n, key_heads, m, width = asked.shape
    prompt_keys, prompt_values = prompt
    own = asked @ keys.transpose(-1, -2)  # (n, K, M, t)
    if hidden is not None:
        own = own + hidden
    seen = asked.transpose(0, 1).reshape(key_heads, n * m, width) @ prompt_keys.transpose(-1, -2)
    seen = seen.view(key_heads, n, m, -1).transpose(0, 1)  # (n, K, M, L)
    scores = torch.cat([seen, own], dim=-1)
    share = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
    of_prompt, of_branch = share.split([seen.shape[-1], own.shape[-1]], dim=-1)
    from_prompt = of_prompt.transpose(0, 1).reshape(key_heads, n * m, -1) @ prompt_values
    from_branch: Tensor = of_branch @ values
    mixed: Tensor = from_prompt.view(key_heads, n, m, width).transpose(0, 1) + from_branch
    return mixed


class WrittenBranches(_Branches):
    """Branches that write a token at a time; without gradient."""

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
        super().__init__(filled, lengths, branches)
        self.prompts = [
            (keys.to(dtype, copy=True), values.to(dtype, copy=True)) for keys, values in self.prompts
        ]
        rows, heads, _, width = filled.keys.shape
        self._keys = torch.empty(rows * branches, heads, room, width, dtype=dtype)
        self._values = torch.empty_like(self._keys)

    @property
    def own(self) -> tuple[Tensor, Tensor]:
        """See `_Branches.own`."""
        return self._keys[:, :, : self.written], self._values[:, :, : self.written]

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[_Branches, _Branches]:
        """Write the keys and values of one more token of each branch; `attend` reads them."""
        self._keys[:, :, self.written] = key_states[:, :, 0].to(self._keys.dtype)
        self._values[:, :, self.written] = value_states[:, :, 0].to(self._keys.dtype)
        self.written += 1
        return self, self

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only the branches of this mask (N,)."""
        self._keys, self._values = self._keys[indices], self._values[indices]
        self.counts = [int(kept.sum()) for kept in indices.split(self.counts)]


class ReadBranches(_Branches):
    """Branches whose tokens come all at once; with gradient, through the prompts' keys and values too."""

    own: tuple[Tensor, Tensor] = ()  # type: ignore[assignment]  # nothing before `update`

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[_Branches, _Branches]:
        """Take the keys and values (N, K, T, D) of all tokens; `attend` reads them."""
        self.own = (key_states, value_states)
        self.written = key_states.shape[-2]
        return self, self


def branch(
    cache: Any, prompt_mask: Tensor, *, branches: int, room: int = 0, dtype: torch.dtype = torch.float32
) -> Any:
    """Let completions branch off from a freshly filled cache.

    Args:
        cache: A `DynamicCache` of full attention layers; changed in place and returned.
        prompt_mask: (P, L), bool, padding on the left.
        branches: Of each prompt.
        room: Tokens that each may write, one at a time; 0 for branches that are read at once, for training.
        dtype: Of the products, for branches that are written.
    """
    lengths = prompt_mask.sum(dim=1).tolist()
    cache.layers = [
        WrittenBranches(layer, lengths, branches=branches, room=room, dtype=dtype)
        if room
        else ReadBranches(layer, lengths, branches)
        for layer in cache.layers
    ]
    return cache


@contextmanager
def attending_to_branches(model: Any) -> Iterator[None]:
    """Inside, the model's attention reads a cache made by `branch`."""
    config = model.config
    before = config._attn_implementation  # noqa: SLF001 -- transformers' own setter loads kernels and warns
    config._attn_implementation = NAME  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001


def _attend(
    _module: Any, query: Tensor, key: _Branches, _value: _Branches, _mask: None, *, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    return key.attend(query, scaling), None


AttentionInterface.register(NAME, _attend)
