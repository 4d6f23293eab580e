"""LlamaForward computes what transformers computes, for rows of any length that come and go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from chatbot.llama_forward import LlamaForward, can_run

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "grouped queries": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2)),
    "biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "wide heads": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, head_dim=16)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "stretched positions": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=LINEAR)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_key_value_heads=1)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None)),
}
ROWS = [[3, 14, 15, 9, 2, 6], [53, 58], [9, 79, 32, 38]]


def make(name: str) -> Any:
    """A random model whose biases are not zero."""
    torch.manual_seed(0)
    model = MODELS[name]().eval().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.normal_(std=0.5)
    return model


def expected(model: Any, row: list[int]) -> torch.Tensor:
    """The logits after a row, (V,), by transformers."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([row])).logits[0, -1]
    return logits


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    """Each shape in turn."""
    return make(request.param)


def test_prompts_of_different_lengths_give_the_logits_of_transformers(model: Any) -> None:
    """Reading three rows at once, padded, gives what transformers gives each alone."""
    theirs = [expected(model, row) for row in ROWS]
    assert can_run(model)

    with torch.inference_mode():
        logits, _ = LlamaForward(model).read(*padded(ROWS), room=4)

    for found, wanted in zip(logits, theirs, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_tokens_one_by_one_give_the_logits_of_transformers(model: Any) -> None:
    """So does every token that is added to them."""
    forward, rows = LlamaForward(model), [list(row) for row in ROWS]

    with torch.inference_mode():
        _, cache = forward.read(*padded(rows), room=3)
        for added in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
            for row, token in zip(rows, added, strict=True):
                row.append(token)
            logits = forward.advance(torch.tensor(added), cache)
            for found, row in zip(logits, rows, strict=True):
                torch.testing.assert_close(found, expected(model, row), atol=1e-5, rtol=1e-4)


def test_rows_may_come_and_go() -> None:
    """A longer and a shorter newcomer join, the longest row leaves, and the logits stay those of each row alone."""
    model = make("grouped queries")
    forward, rows = LlamaForward(model), [list(row) for row in ROWS]

    with torch.inference_mode():
        _, cache = forward.read(*padded(rows), room=2)
        rows = rows[1:]
        cache = cache.select([1, 2])
        for newcomer in ([5] * 9, [7]):
            _, other = forward.read(*padded([newcomer]), room=6)
            cache = cache.beside(other)
            rows.append(list(newcomer))
            added = list(range(1, len(rows) + 1))
            for row, token in zip(rows, added, strict=True):
                row.append(token)
            logits = forward.advance(torch.tensor(added), cache)
            for found, row in zip(logits, rows, strict=True):
                torch.testing.assert_close(found, expected(model, row), atol=1e-5, rtol=1e-4)

    assert cache.n_rows == 4


def test_what_no_row_needs_any_more_is_let_go() -> None:
    """When the longest row leaves, the places that only it used leave with it."""
    forward = LlamaForward(make("llama"))

    with torch.inference_mode():
        _, cache = forward.read(*padded(ROWS), room=2)
        rest = cache.select([1])

    assert (cache.length, rest.length) == (6, 2)
    assert rest.keys.shape[-2] == rest.mask.shape[1] == 4


def test_joined_weights_are_held_once() -> None:
    """The model's own projections become views of the joined ones, and go on computing the same."""
    model = make("biases")
    before = expected(model, ROWS[0])

    forward = LlamaForward(model)

    torch.testing.assert_close(expected(model, ROWS[0]), before, atol=0, rtol=0)
    held = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    assert {layer.qkv.untyped_storage().data_ptr() for layer in forward._layers} <= held
    assert {layer.gate_up.untyped_storage().data_ptr() for layer in forward._layers} <= held


@pytest.mark.parametrize(
    "other",
    [
        MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8)),
        LlamaForCausalLM(LlamaConfig(**SHAPE, hidden_act="gelu")),
        LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=DYNAMIC)),
        LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16),
    ],
    ids=["window", "gelu", "dynamic positions", "bfloat16"],
)
def test_what_it_does_not_compute_is_left_to_transformers(other: Any) -> None:
    """A window, another activation, positions that depend on the length, another type of numbers."""
    assert not can_run(other)
