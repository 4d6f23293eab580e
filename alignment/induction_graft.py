"""Lengthens the match of trained induction heads from three tokens to five, without training.

`induction_init` gives a fresh model heads that copy what followed the longest match of up to three tokens. Handbooks repeat such
stretches ("and the Legislative Council", "and the Legislative Assembly"), and there a copy jumps to another place. This module writes two
more previous-token heads (offsets 4 and 5) and three longer-matching twins of the induction heads over heads that training had left
without much to do, and shares the vote between old and new. Everything is patterned on the trained weights, not on the first ones: values
and scales have drifted, and only their own drifted copies fit.

Knows nothing of data or training. Different from a fresh start with longer heads: what the model has learned since stays.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from alignment.induction_init import CODE_SIZE, MATCH_SHARPNESS, MATCHED, N_HEADS

GRAFTED_CODE = 16
"""Dimensions of a token's code in each of the two new blocks: all that the residual stream has left."""
KEPT = (10, 8, 7)
"""Of a twin's dimensions, how many go on comparing the present token and the two before it."""
ADDED = (4, 3)
"""How many compare the third and the fourth token before it."""
OLD_SHARE, NEW_SHARE = 0.8, 0.5
"""Strength of the old heads' and of the twins' votes; chosen on held-out reader examples, by the loss before any training."""


def lengthen_match(model: Any) -> None:
    """Overwrite heads 3 to 5 of layers 0 and 1 in place.

    Args:
        model: Made by `initialise_induction`, trained or not; width 384, six heads of 64.

    Raises:
        ValueError: the model has another shape, or is too narrow for the new blocks.
    """
    config = model.config
    n_identity = 2 * config.hidden_size // 3 - 1
    first_free = 1 + n_identity + N_HEADS * CODE_SIZE
    head_size = config.hidden_size // config.num_attention_heads
    if config.num_attention_heads < 2 * N_HEADS or head_size != 2 * CODE_SIZE:
        raise ValueError(
            f"{config.num_attention_heads} heads of {head_size}: needs {2 * N_HEADS} of {2 * CODE_SIZE}"
        )
    if config.hidden_size < first_free + 2 * GRAFTED_CODE:
        raise ValueError(f"width {config.hidden_size}: needs {first_free + 2 * GRAFTED_CODE}")
    with torch.no_grad():
        _empty(model, first_free)
        for offset in (4, 5):
            _write_previous_token_head(model, offset, n_identity, first_free)
        for head in range(N_HEADS):
            _write_twin(model, head, n_identity, first_free)


def _empty(model: Any, first: int) -> None:
    """Nothing else writes to the new blocks."""
    model.model.embed_tokens.weight[:, first:] = 0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[first:] = 0
        layer.mlp.down_proj.weight[first:] = 0


def _block(offset: int, n_identity: int, first_free: int) -> int:
    if offset <= N_HEADS:
        return 1 + n_identity + (offset - 1) * CODE_SIZE
    return first_free + (offset - N_HEADS - 1) * GRAFTED_CODE


def _write_previous_token_head(model: Any, offset: int, n_identity: int, first_free: int) -> None:
    """A copy of the trained head of offset 3 whose queries are turned back by further steps of RoPE."""
    attention = model.model.layers[0].self_attn
    size = 2 * CODE_SIZE
    half, steps = size // 2, offset - N_HEADS
    base = float(model.config.rope_parameters["rope_theta"])
    old, new = slice((N_HEADS - 1) * size, N_HEADS * size), slice((offset - 1) * size, offset * size)
    for projection in (attention.k_proj, attention.v_proj):
        projection.weight[new] = projection.weight[old]
    query = attention.q_proj.weight[old].clone()
    turned = query.clone()
    for pair in range(half):
        angle = steps * base ** (-pair / half)
        turned[pair] = query[pair] * math.cos(angle) + query[pair + half] * math.sin(angle)
        turned[pair + half] = query[pair + half] * math.cos(angle) - query[pair] * math.sin(angle)
    attention.q_proj.weight[new] = turned
    attention.o_proj.weight[:, new] = 0
    to, source = _block(offset, n_identity, first_free), _block(N_HEADS, n_identity, first_free)
    attention.o_proj.weight[to : to + GRAFTED_CODE, new] = attention.o_proj.weight[
        source : source + GRAFTED_CODE, old
    ]


def _write_twin(model: Any, head: int, n_identity: int, first_free: int) -> None:
    """A copy of a trained induction head that gives some of its dimensions to two more levels of the match."""
    attention = model.model.layers[1].self_attn
    size = 2 * CODE_SIZE
    old = slice(head * size, (head + 1) * size)
    new = slice((head + N_HEADS) * size, (head + N_HEADS + 1) * size)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight[new] = projection.weight[old]
    attention.o_proj.weight[:, new] = attention.o_proj.weight[:, old] * NEW_SHARE
    attention.o_proj.weight[:, old] *= OLD_SHARE
    generator = torch.Generator().manual_seed(head)
    given = iter(_given_dimensions(size))
    for level, count in enumerate(ADDED, start=N_HEADS):
        asks, has = (_block(offset, n_identity, first_free) for offset in (level, level + 1))
        rows = torch.randperm(GRAFTED_CODE, generator=generator).tolist()[:count]
        for row in rows:
            dimension = new.start + next(given)
            for projection, block in ((attention.q_proj, asks), (attention.k_proj, has)):
                projection.weight[dimension] = 0
                projection.weight[dimension, block + row] = MATCH_SHARPNESS


def _given_dimensions(head_size: int) -> list[int]:
    """Dimensions of a head, in RoPE's slow half, that a twin does not keep."""
    half = head_size // 2
    slow = [*range(half // 2, half), *range(half // 2 + half, head_size)]
    given = []
    for level, (count, kept) in enumerate(zip(MATCHED, KEPT, strict=True)):
        first = sum(MATCHED[:level])
        given += slow[first + kept : first + count]
    return given
