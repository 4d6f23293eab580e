"""Gives a fresh Llama the ability to copy, by construction: previous-token heads in layer 0, induction heads in layer 1.

Why: a grounded reader answers by copying the right sentence. Small models learn to copy only when induction heads form (Olsson et al. 2022,
arXiv 2209.11895), and on two cores that costs more tokens than there is time for. The circuit is known, so it is written into the first
weights and training starts from a model that repeats what it has seen. Knows nothing of tokenizers, data or training.

How, with x̂ the normed residual stream, split into one constant dimension, `identity` dimensions that hold the token's random embedding, and
three blocks that start empty:

1. Layer 0, head o (1, 2, 3): queries and keys are the constant, the query turned back by o steps of RoPE, so that the score is
   Σ_i a cos(θ_i (m - o - n)), largest at n = m - o. Its values, C x̂_identity with C random orthonormal rows, are written to block o: every
   position then knows the three tokens before it.
2. Layer 1: a query asks "where did my token, and the two before it, stand as the three tokens before a position?": it compares
   C x̂_identity with block 1, its own block 1 with block 2, and its own block 2 with block 3, in the slow half of RoPE's frequencies, which
   hardly turn over a context. So it attends to what followed the longest match. Its values, S x̂_identity with S orthonormal, are written
   back through Sᵀ: the copied token's embedding, three times as strong as the token's own.
3. Every other output projection is zero, so that nothing else speaks at first.

Different from the textbook's induction head, which matches one token: in real text a common word has many continuations, and a model that
matches one token jumps from sentence to sentence; and different from a usual initialisation: the residual stream is large
(`RESIDUAL_SCALE` 0.5 instead of 0.02), because optimisers that move all weights by a fixed amount (Muon) wash out small structures in a few
dozen steps; the final norm is scaled down in turn, which keeps the logits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

N_HEADS = 3
"""Heads in each of the two layers: one for each offset in the first, voting together in the second; the others stay random."""
CODE_SIZE = 32
"""Dimensions of a token's code in a block."""
MATCHED = (12, 10, 10)
"""How many dimensions of a query compare the present token, the one before, and the one before that: half of a head of 64 in all."""
RESIDUAL_SCALE = 0.5
"""Standard deviation of the embeddings."""
FINAL_NORM = 0.06
"""Gain of the last norm times the residual scale; about the size of ordinary logits."""
POSITION_SHARPNESS = 8.0
"""Length of a query or key pair in layer 0."""
MATCH_SHARPNESS = 3.0
"""Factor of queries and keys in layer 1."""
COPY_STRENGTH = 3.0
"""How much stronger a copied token is written than a token's own embedding."""


def initialise_induction(model: Any, *, seed: int = 0) -> None:
    """Overwrite the first weights of a fresh model in place.

    Args:
        model: A `LlamaForCausalLM` with tied embeddings, at least two layers, heads of at least 64 dimensions, a width of at least 384 and
            a RoPE base of 100,000 or more (with a smaller one the slow half turns too fast to compare tokens far apart).
        seed: Of the random codes.

    Raises:
        ValueError: the model's shape has no room for the circuit.
    """
    width, head_size = _check(model)
    generator = torch.Generator().manual_seed(seed)
    n_identity = 2 * width // 3 - 1
    with torch.no_grad():
        _write_embeddings(model, n_identity, generator)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        code = _orthonormal(n_identity, generator)[:CODE_SIZE]
        _write_previous_token_heads(model, code, n_identity, head_size)
        _write_induction_heads(model, code, n_identity, head_size, generator)
        model.model.norm.weight.fill_(FINAL_NORM / RESIDUAL_SCALE)


def _check(model: Any) -> tuple[int, int]:
    config = model.config
    head_size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    base = float(config.rope_parameters["rope_theta"])
    problems = {
        f"{config.num_hidden_layers} layers, needs 2": config.num_hidden_layers < 2,
        f"heads of {head_size}, needs 64": head_size < 2 * CODE_SIZE,
        f"{config.num_key_value_heads} key-value heads, needs {N_HEADS}": config.num_key_value_heads
        < N_HEADS,
        f"width {config.hidden_size}, needs 384": config.hidden_size < 384,
        "embeddings are not tied": not config.tie_word_embeddings,
        f"rope_theta {base:g}, needs 100000": base < 1e5,
        "grouped key-value heads": config.num_key_value_heads != config.num_attention_heads,
    }
    found = [text for text, is_problem in problems.items() if is_problem]
    if found:
        raise ValueError(f"no room for induction heads: {'; '.join(found)}")
    return int(config.hidden_size), head_size


def _orthonormal(size: int, generator: torch.Generator) -> Tensor:
    basis: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]
    return basis


def _write_embeddings(model: Any, n_identity: int, generator: torch.Generator) -> None:
    """Dimension 0 is constant, 1 to n_identity random, the rest empty; normed, an identity dimension then has about unit size."""
    weight = model.model.embed_tokens.weight  # (V, D)
    vocabulary, width = weight.shape
    weight.zero_()
    weight[:, 1 : n_identity + 1] = torch.randn(vocabulary, n_identity, generator=generator) * RESIDUAL_SCALE
    weight[:, 0] = math.sqrt(width - n_identity - 1) * RESIDUAL_SCALE


def _block(n_identity: int, offset: int) -> int:
    """First residual dimension of the block that holds the token `offset` places back."""
    return 1 + n_identity + (offset - 1) * CODE_SIZE


def _write_previous_token_heads(model: Any, code: Tensor, n_identity: int, head_size: int) -> None:
    attention = model.model.layers[0].self_attn
    half = head_size // 2
    base = float(model.config.rope_parameters["rope_theta"])
    constant = math.sqrt(model.config.hidden_size - n_identity - 1)
    size = POSITION_SHARPNESS / constant
    for offset in range(1, N_HEADS + 1):
        first = (offset - 1) * head_size
        _clear_head(attention, first, head_size)
        for pair in range(half // 2):
            angle = offset * base ** (-pair / half)
            attention.k_proj.weight[first + pair, 0] = size
            attention.q_proj.weight[first + pair, 0] = size * math.cos(angle)
            attention.q_proj.weight[first + pair + half, 0] = -size * math.sin(angle)
        attention.v_proj.weight[first : first + CODE_SIZE, 1 : n_identity + 1] = code
        to = _block(n_identity, offset)
        attention.o_proj.weight[to : to + CODE_SIZE, first : first + CODE_SIZE] = RESIDUAL_SCALE * torch.eye(
            CODE_SIZE
        )


def _write_induction_heads(
    model: Any, code: Tensor, n_identity: int, head_size: int, generator: torch.Generator
) -> None:
    attention = model.model.layers[1].self_attn
    half = head_size // 2
    slow = [*range(half // 2, half), *range(half // 2 + half, head_size)]
    levels = [level for level, count in enumerate(MATCHED) for _ in range(count)]
    values = _orthonormal(n_identity, generator)
    for head in range(N_HEADS):
        first = head * head_size
        _clear_head(attention, first, head_size)
        rows = torch.randperm(CODE_SIZE, generator=generator).tolist()
        for dimension, level, row in zip(slow, levels, rows, strict=False):
            query = attention.q_proj.weight[first + dimension]
            if level == 0:
                query[1 : n_identity + 1] = MATCH_SHARPNESS * code[row]
            else:
                query[_block(n_identity, level) + row] = MATCH_SHARPNESS
            attention.k_proj.weight[first + dimension, _block(n_identity, level + 1) + row] = MATCH_SHARPNESS
        copied = values[first : first + head_size]
        attention.v_proj.weight[first : first + head_size, 1 : n_identity + 1] = copied
        attention.o_proj.weight[1 : n_identity + 1, first : first + head_size] = (
            copied.T * COPY_STRENGTH * RESIDUAL_SCALE
        )


def _clear_head(attention: Any, first: int, head_size: int) -> None:
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[first : first + head_size] = 0
