"""LlamaForward computes what transformers computes, for rows of any length that come and go and may be taken back."""

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


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    """Each shape in turn."""
    return make(request.param)


def assert_logits(model: Any, found: torch.Tensor, rows: list[list[int]]) -> None:
    """Row after row the logits that transformers gives each alone."""
    for logits, row in zip(found, rows, strict=True):
        torch.testing.assert_close(logits, expected(model, row), atol=1e-5, rtol=1e-4)


def test_prompts_of_different_lengths_give_the_logits_of_transformers(model: Any) -> None:
    """Reading three rows at once gives what transformers gives each alone."""
    assert can_run(model)
    forward = LlamaForward(model)

    with torch.inference_mode():
        logits, _ = forward.read(ROWS, room=4)

    assert_logits(model, logits, ROWS)


def test_a_common_beginning_is_read_once_and_changes_nothing(model: Any) -> None:
    """Prompts with one instruction, one of them ending where the others go on, one twice; each row goes on by itself."""
    start = [(7 * at) % 97 for at in range(20)]
    prompts = [[*start, *row] for row in ROWS] + [start, [*start, *ROWS[0]]]
    forward = LlamaForward(model)
    read: list[int] = []
    one_pass = forward._pass

    def counted(new: Any, rows: Any, **how: Any) -> torch.Tensor:
        read.append(sum(map(len, new)))
        return one_pass(new, rows, **how)

    forward._pass = counted  # type: ignore[method-assign]
    with torch.inference_mode():
        logits, rows = forward.read(prompts, 3)
        assert_logits(model, logits, prompts)
        after = forward.advance([[11], [12], [13], [14], [15]], rows)

    assert_logits(model, after, [[*prompt, 11 + at] for at, prompt in enumerate(prompts)])
    assert read == [19, sum(len(prompt) - 19 for prompt in prompts), 5]


def test_tokens_one_by_one_give_the_logits_of_transformers(model: Any) -> None:
    """So does every token that is added to them."""
    forward, texts = LlamaForward(model), [list(row) for row in ROWS]

    with torch.inference_mode():
        _, rows = forward.read(texts, room=3)
        for added in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
            for text, token in zip(texts, added, strict=True):
                text.append(token)
            assert_logits(model, forward.advance([[token] for token in added], rows), texts)


def test_several_tokens_at_once_give_the_logits_after_each(model: Any) -> None:
    """Rows take one, three and two tokens in the same pass."""
    forward, added = LlamaForward(model), [[1], [2, 3, 4], [5, 6]]

    with torch.inference_mode():
        _, rows = forward.read(ROWS, room=3)
        logits = forward.advance(added, rows)

    assert_logits(
        model,
        logits,
        [
            [*row, *tokens[: n + 1]]
            for row, tokens in zip(ROWS, added, strict=True)
            for n in range(len(tokens))
        ],
    )


def test_a_row_forgets_its_last_tokens_when_it_is_made_shorter(model: Any) -> None:
    """Two of three tokens are taken back, and others come in their place."""
    forward = LlamaForward(model)

    with torch.inference_mode():
        _, (row,) = forward.read(ROWS[:1], room=6)
        forward.advance([[50, 51, 52]], [row])
        row.length -= 2
        logits = forward.advance([[60, 61]], [row])

    assert_logits(model, logits, [[*ROWS[0], 50, 60], [*ROWS[0], 50, 60, 61]])
    assert row.length == len(ROWS[0]) + 3


def test_rows_may_come_and_go() -> None:
    """A longer and a shorter newcomer join, the longest row leaves, and the logits stay those of each row alone."""
    model = make("grouped queries")
    forward, texts = LlamaForward(model), [list(row) for row in ROWS]

    with torch.inference_mode():
        _, rows = forward.read(texts, room=4)
        texts, rows = texts[1:], rows[1:]
        for newcomer in ([5] * 9, [7]):
            _, others = forward.read([newcomer], room=6)
            rows += others
            texts.append(list(newcomer))
            added = list(range(1, len(texts) + 1))
            for text, token in zip(texts, added, strict=True):
                text.append(token)
            assert_logits(model, forward.advance([[token] for token in added], rows), texts)


def test_a_copied_row_goes_its_own_way() -> None:
    """Two completions of one prompt do not see each other."""
    model = make("llama")
    forward = LlamaForward(model)

    with torch.inference_mode():
        _, (row,) = forward.read(ROWS[:1], room=2)
        other = row.copy()
        logits = forward.advance([[1], [2]], [row, other])
        again = forward.advance([[3], [4]], [row, other])

    assert_logits(model, logits, [[*ROWS[0], 1], [*ROWS[0], 2]])
    assert_logits(model, again, [[*ROWS[0], 1, 3], [*ROWS[0], 2, 4]])


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
