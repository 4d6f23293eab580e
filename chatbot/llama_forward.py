"""The forward pass of a Llama-shaped model, written for one token at a time on a CPU.

Takes the weights of a loaded `transformers` model (Llama, Qwen2, Mistral without a window) and computes the same function: Touvron et al. 2023
(arXiv:2302.13971, section 2.2), rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34), grouped queries (Ainslie et al. 2023,
arXiv:2305.13245). Knows nothing of prompts, sampling or threads.

Different from `transformers`' own: one product for queries, keys and values and one for gate and up; keys and values lie in one block that
is made as long as the completion may become, so that no step copies it; rows of different lengths stand in one block, aligned at their ends,
and come and go. What that saves is not arithmetic but Python and memory traffic, which is most of the time of a small model's step.

Shapes: B rows, T tokens so far, N new tokens, L layers, H query heads, K key heads, D head width, E model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_MODELS = {"LlamaForCausalLM", "Qwen2ForCausalLM", "MistralForCausalLM"}
_ROPES = {"default", "linear", "llama3"}
"""Frequencies that do not depend on the length of the text."""


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
class Cache:
    """Keys and values of rows that stand side by side, aligned at their ends."""

    keys: Tensor
    """(L, B, K, room, D)."""
    values: Tensor
    mask: Tensor
    """(B, room), bool: where a token is."""
    length: int
    """T: places in use."""

    @property
    def n_rows(self) -> int:
        """B."""
        return self.mask.shape[0]

    def select(self, places: list[int]) -> Cache:
        """Some of the rows, or one of them several times, without the places that none of them uses."""
        mask = self.mask[places]
        used = mask[:, : self.length].any(dim=0)
        first = int(used.to(torch.uint8).argmax()) if len(places) else 0
        return Cache(
            self.keys[:, places, :, first:],
            self.values[:, places, :, first:],
            mask[:, first:],
            self.length - first,
        )

    def beside(self, other: Cache) -> Cache:
        """This one's rows and then the other's, with room for either's completions."""
        length = max(self.length, other.length)
        room = length + max(part.mask.shape[1] - part.length for part in (self, other))
        return Cache(
            torch.cat([_shift(part.keys, length - part.length, room) for part in (self, other)], dim=1),
            torch.cat([_shift(part.values, length - part.length, room) for part in (self, other)], dim=1),
            torch.cat(
                [_shift(part.mask[..., None], length - part.length, room)[..., 0] for part in (self, other)]
            ),
            length,
        )


def _shift(block: Tensor, by: int, room: int) -> Tensor:
    """Move the second to last dimension's content to the right, and cut or lengthen it to `room`."""
    kept = block[..., : room - by, :]
    return functional.pad(kept, (0, 0, by, room - by - kept.shape[-2]))


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

    def read(self, ids: Tensor, mask: Tensor, room: int) -> tuple[Tensor, Cache]:
        """Prompts, padded on the left.

        Args:
            ids: (B, T).
            mask: (B, T), 1 where a token is.
            room: Tokens that may follow.

        Returns:
            Logits of the next token (B, V), and the cache.
        """
        n_rows, length = ids.shape
        shape = (len(self._layers), n_rows, self._key_heads, length + room, self._width)
        # Zeros and not whatever lies there: a masked place is multiplied by zero, and zero times infinity is none.
        cache = Cache(
            torch.zeros(shape), torch.zeros(shape), torch.ones(n_rows, length + room, dtype=torch.bool), 0
        )
        cache.mask[:, :length] = mask.bool()
        positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        seen = None if bool(mask.all()) else (causal & cache.mask[:, None, None, :length])
        if seen is not None:
            # A padded place sees itself: a row of nothing but masked places has no softmax.
            seen = seen | torch.eye(length, dtype=torch.bool)
        return self._pass(ids, positions, seen, cache), cache

    def advance(self, latest: Tensor, cache: Cache) -> Tensor:
        """One more token in each row: `latest` (B,) is taken into the cache; returns the logits of the next (B, V)."""
        mask = cache.mask[:, : cache.length + 1]
        seen = None if bool(mask.all()) else mask[:, None, None, :]
        positions = mask.sum(dim=-1, keepdim=True) - 1
        return self._pass(latest[:, None], positions, seen, cache)

    def _pass(self, ids: Tensor, positions: Tensor, seen: Tensor | None, cache: Cache) -> Tensor:
        """Token ids and positions (B, N), seen (B or 1, 1, N, T + N) or None for all that came before -> (B, V)."""
        n_rows, n_new = ids.shape
        start, end = cache.length, cache.length + n_new
        cos, sin = self._cos[positions][:, :, None], self._sin[positions][:, :, None]  # (B, N, 1, D)
        n_rotated = self._heads + self._key_heads
        x = functional.embedding(ids, self._embeddings)  # (B, N, E)
        for layer, keys, values in zip(self._layers, cache.keys, cache.values, strict=True):
            normed = functional.rms_norm(x, x.shape[-1:], layer.attention_norm, self._eps)
            qkv = functional.linear(normed, layer.qkv, layer.qkv_bias).view(n_rows, n_new, -1, self._width)
            turned = qkv[:, :, :n_rotated]
            first, second = turned.chunk(2, dim=-1)
            turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
            keys[:, :, start:end] = turned[:, :, self._heads :].transpose(1, 2)
            values[:, :, start:end] = qkv[:, :, n_rotated:].transpose(1, 2)
            mixed = functional.scaled_dot_product_attention(
                turned[:, :, : self._heads].transpose(1, 2),  # (B, H, N, D)
                keys[:, :, :end],
                values[:, :, :end],
                attn_mask=seen,
                is_causal=seen is None and n_new > 1,
                enable_gqa=self._heads != self._key_heads,
            )
            mixed = mixed.transpose(1, 2).reshape(n_rows, n_new, -1)
            x = x + functional.linear(mixed, layer.out, layer.out_bias)
            normed = functional.rms_norm(x, x.shape[-1:], layer.mlp_norm, self._eps)
            gate, up = functional.linear(normed, layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down, layer.down_bias)
        cache.length = end
        last = functional.rms_norm(x[:, -1], x.shape[-1:], self._norm, self._eps)
        return functional.linear(last, self._head)


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
