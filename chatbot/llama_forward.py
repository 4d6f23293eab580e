"""The forward pass of a Llama-shaped model, written for a few tokens at a time on a CPU.

Takes the weights of a loaded `transformers` model (Llama, Qwen2, Mistral without a window) and computes the same function: Touvron et al. 2023
(arXiv:2302.13971, section 2.2), rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34), grouped queries (Ainslie et al. 2023,
arXiv:2305.13245). Knows nothing of prompts, sampling or threads.

Different from `transformers`' own: one product for queries, keys and values and one for gate and up; and no padding. The tokens of all rows stand
one after the other for the products, however many each row has, and each row attends to its own cache, which is made as long as the completion
may become. So rows of any length come and go without a copy, and a row that was given tokens ahead of their time (`prompt_lookup`) takes back
those that turned out wrong by saying how long it is.

Shapes: B rows, T tokens so far, N new tokens of a row, M new tokens of all rows, H query heads, K key heads, D head width, E model width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_MODELS = {"LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM"}
_ROPES = {"default", "linear", "llama3"}
"""Frequencies that do not depend on the length of the text."""
_WORTH_SHARING = 16
"""A common beginning of fewer tokens costs a pass of its own and saves little."""


def can_run(model: Any) -> bool:
    """Whether `LlamaForward` computes what this model does; what it cannot is left to `transformers`."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    windows = getattr(config, "layer_types", None) or ["full_attention"]
    return (
        type(model).__name__ in _MODELS
        and model.device.type == "cpu"
        and model.dtype == torch.float32
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in _ROPES
        and all(kind == "full_attention" for kind in windows)
        and (getattr(config, "sliding_window", None) is None or type(model).__name__ != "MistralForCausalLM")
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    attention_norm: Tensor
    qkv: Tensor
    """((H + 2 K) D, E)."""
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    """(2 M, E) of an MLP of width M."""
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None


@dataclass(slots=True)
class RowCache:
    """Keys and values of one row."""

    keys: list[Tensor]
    """(1, K, room, D) of each layer."""
    values: list[Tensor]
    length: int
    """T: places in use. Making it smaller forgets the last ones."""

    def copy(self) -> RowCache:
        """Another row that goes on from the same tokens."""
        return RowCache(
            [keys.clone() for keys in self.keys], [values.clone() for values in self.values], self.length
        )

    def begin_as(self, other: RowCache) -> None:
        """Take over the tokens of another row; this one must be empty."""
        for ours, theirs in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            ours[:, :, : other.length] = theirs[:, :, : other.length]
        self.length = other.length


class LlamaForward:
    """Reads prompts and advances rows. Not thread-safe: one pass at a time."""

    def __init__(self, model: Any) -> None:
        """Take the weights of a model for which `can_run` holds; both share them."""
        config = model.config
        self._heads, self._key_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._eps = config.rms_norm_eps
        inner = model.model
        self._embeddings = inner.embed_tokens.weight
        self._layers = [_read_layer(layer) for layer in inner.layers]
        self._norm = inner.norm.weight
        self._head = model.lm_head.weight
        positions = torch.arange(config.max_position_embeddings)[None]
        with torch.inference_mode():
            cos, sin = inner.rotary_emb(self._embeddings, positions)  # (1, positions, D)
        self._cos, self._sin = cos[0], sin[0]

    def read(self, prompts: Sequence[Sequence[int]], room: int) -> tuple[Tensor, list[RowCache]]:
        """Begin a row with each prompt; what all of them begin with, as prompts with one instruction do, is read once.

        Args:
            prompts: Token ids, B of them, none empty.
            room: Tokens that may follow.

        Returns:
            Logits of the next tokens (B, V), and the rows' caches.
        """
        rows = [self._empty(len(prompt) + room) for prompt in prompts]
        shared = _common_start(prompts)
        if shared >= _WORTH_SHARING:
            self._pass([prompts[0][:shared]], rows[:1])
            for row in rows[1:]:
                row.begin_as(rows[0])
            prompts = [prompt[shared:] for prompt in prompts]
        return self._logits(self._pass(prompts, rows, only_last=True)), rows

    def advance(self, new: Sequence[Sequence[int]], rows: Sequence[RowCache]) -> Tensor:
        """Take more tokens into some rows.

        Args:
            new: Token ids, one or more for each row.
            rows: Their caches, which must have room; each becomes longer by its new tokens.

        Returns:
            Logits (M, V): what follows each of the new tokens, row after row.
        """
        return self._logits(self._pass(new, rows))

    def _empty(self, room: int) -> RowCache:
        shape = (1, self._key_heads, room, self._width)
        return RowCache(
            [torch.empty(shape) for _ in self._layers], [torch.empty(shape) for _ in self._layers], 0
        )

    def _logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(
            functional.rms_norm(hidden, hidden.shape[-1:], self._norm, self._eps), self._head
        )

    def _pass(
        self, new: Sequence[Sequence[int]], rows: Sequence[RowCache], *, only_last: bool = False
    ) -> Tensor:
        """The last layer's output (M, E), or (B, E) of each row's last token only; the rows take the tokens in."""
        places = [_Place.of(len(tokens), row.length) for tokens, row in zip(new, rows, strict=True)]
        positions = torch.tensor([p for place in places for p in range(place.start, place.end)])
        cos, sin = self._cos[positions][:, None], self._sin[positions][:, None]  # each (M, 1, D)
        n_rotated = self._heads + self._key_heads
        x = functional.embedding(
            torch.tensor([token for tokens in new for token in tokens]), self._embeddings
        )
        for n, layer in enumerate(self._layers):
            caches = [(row.keys[n], row.values[n]) for row in rows]
            normed = functional.rms_norm(x, x.shape[-1:], layer.attention_norm, self._eps)
            qkv = functional.linear(normed, layer.qkv, layer.qkv_bias).view(len(x), -1, self._width)
            turned = qkv[:, :n_rotated]
            first, second = turned.chunk(2, dim=-1)
            turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
            _store(turned[:, self._heads :], qkv[:, n_rotated:], caches, places)
            queries = turned[:, : self._heads]
            if only_last and n == len(self._layers) - 1:
                # What the other tokens would make of this layer nobody reads.
                ends = torch.tensor([place.n_new for place in places]).cumsum(0) - 1
                x, queries, places = x[ends], queries[ends], [place.last() for place in places]
            x = x + functional.linear(self._attend(queries, caches, places), layer.out, layer.out_bias)
            normed = functional.rms_norm(x, x.shape[-1:], layer.mlp_norm, self._eps)
            gate, up = functional.linear(normed, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down, layer.down_bias)
        for row, place in zip(rows, places, strict=True):
            row.length = place.end
        return x

    def _attend(self, queries: Tensor, caches: list[tuple[Tensor, Tensor]], places: list[_Place]) -> Tensor:
        """Queries (M, H, D) over each row's own keys and values -> (M, H D)."""
        turned = queries.transpose(0, 1)[None]  # (1, H, M, D)
        mixed, begin = list[Tensor](), 0
        for (keys, values), place in zip(caches, places, strict=True):
            out = functional.scaled_dot_product_attention(
                turned.narrow(2, begin, place.n_new),
                keys.narrow(2, 0, place.end),
                values.narrow(2, 0, place.end),
                attn_mask=place.seen,
                is_causal=place.start == 0 and place.n_new > 1,
                enable_gqa=self._heads != self._key_heads,
            )
            mixed.append(out[0].transpose(0, 1).reshape(place.n_new, -1))
            begin += place.n_new
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)


def _common_start(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens several prompts begin with alike, the last token of each left out; 0 for a single prompt."""
    if len(prompts) < 2:
        return 0
    shortest = min(map(len, prompts)) - 1
    first = prompts[0]
    alike = (all(prompt[at] == first[at] for prompt in prompts) for at in range(shortest))
    return next((at for at, same in enumerate(alike) if not same), shortest)


def _store(keys: Tensor, values: Tensor, caches: list[tuple[Tensor, Tensor]], places: list[_Place]) -> None:
    """Keys and values (M, K, D) go into their rows' caches."""
    begin = 0
    for (own_keys, own_values), place in zip(caches, places, strict=True):
        own_keys[0, :, place.start : place.end] = keys.narrow(0, begin, place.n_new).transpose(0, 1)
        own_values[0, :, place.start : place.end] = values.narrow(0, begin, place.n_new).transpose(0, 1)
        begin += place.n_new


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row's new tokens go."""

    start: int
    n_new: int
    seen: Tensor | None
    """(N, T + N) to be added to the scores, or None where nothing is hidden or the kernel's own causal mask will do."""

    @property
    def end(self) -> int:
        return self.start + self.n_new

    @classmethod
    def of(cls, n_new: int, start: int) -> _Place:
        seen = None
        if start and n_new > 1:
            seen = torch.full((n_new, start + n_new), -torch.inf).triu(start + 1)
        return cls(start, n_new, seen)

    def last(self) -> _Place:
        """Of the last new token alone, which sees all that came before it."""
        return _Place(self.end - 1, 1, None)


def _read_layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, qkv_bias = _join(attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up, gate_up_bias = _join(mlp.gate_proj, mlp.up_proj)
    return _Layer(
        layer.input_layernorm.weight,
        qkv,
        qkv_bias,
        attention.o_proj.weight,
        attention.o_proj.bias,
        layer.post_attention_layernorm.weight,
        gate_up,
        gate_up_bias,
        mlp.down_proj.weight,
        mlp.down_proj.bias,
    )


def _join(*parts: Any) -> tuple[Tensor, Tensor | None]:
    """Linear layers of the same input as one; their own weights become views of it, so that nothing is held twice."""
    weight = torch.cat([part.weight.detach() for part in parts])
    for part, rows in zip(parts, weight.split([part.weight.shape[0] for part in parts]), strict=True):
        part.weight.data = rows
    if all(part.bias is None for part in parts):
        return weight, None
    biases = [
        part.bias if part.bias is not None else torch.zeros(part.weight.shape[0], dtype=weight.dtype)
        for part in parts
    ]
    return weight, torch.cat(biases)
