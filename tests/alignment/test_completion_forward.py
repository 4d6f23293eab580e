"""Prompts processed once give what prompts processed with each completion give."""

from __future__ import annotations

import pytest
import torch

from alignment.completion_forward import (
    TokenBatch,
    completion_outputs,
    pad_prompts,
    token_entropies,
    token_logprobs,
)
from alignment.models import CausalForward
from tests.alignment.ppo_fakes import tiny_model

CPU = torch.device("cpu")
PROMPTS = [[5, 9, 30, 31], [7, 8]]
COMPLETIONS = [[40, 41, 2], [42], [43, 44, 45, 46], [47, 2]]


def batch() -> TokenBatch:
    """Two prompts with two completions each, all of different lengths."""
    prompt_ids, prompt_mask = pad_prompts(PROMPTS, CPU)
    width = max(map(len, COMPLETIONS))
    return TokenBatch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=torch.tensor([ids + [0] * (width - len(ids)) for ids in COMPLETIONS]),
        completion_mask=torch.tensor([[t < len(ids) for t in range(width)] for ids in COMPLETIONS]),
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("share_prompts", [True, False])
def test_logits_equal_those_of_each_row_alone(kind: str, share_prompts: bool) -> None:
    """Without padding, without cache, one row at a time."""
    model = tiny_model(kind)
    tokens = batch()

    with torch.no_grad():
        found = completion_outputs(CausalForward(model), tokens, share_prompts=share_prompts)

    for row, completion in enumerate(COMPLETIONS):
        prompt = PROMPTS[row // 2]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
        expected = logits[len(prompt) - 1 : -1]
        assert torch.allclose(expected, found[row, : len(completion)], atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_go_through_the_shared_prompt(kind: str) -> None:
    """Every parameter gets the same gradient either way, also through the cache."""
    gradients = []
    for share_prompts in (True, False):
        model = tiny_model(kind).double()
        tokens = batch()
        logits = completion_outputs(CausalForward(model), tokens, share_prompts=share_prompts)
        logprobs = token_logprobs(logits, tokens.completion_ids, temperature=0.7)
        (logprobs * tokens.completion_mask).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})

    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5), name


def test_a_part_of_a_batch_loses_only_padding() -> None:
    """The second prompt's rows, as wide as they need."""
    part = batch().select(torch.tensor([1]))

    assert part.prompt_ids.tolist() == [[7, 8]]
    assert part.completion_ids.tolist() == [[43, 44, 45, 46], [47, 2, 0, 0]]
    assert part.completion_mask.sum(dim=1).tolist() == [4, 2]


def test_logprobs_and_entropies_are_those_of_the_tempered_distribution() -> None:
    """Against torch's own categorical distribution."""
    logits = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    expected = torch.distributions.Categorical(logits=logits / 0.5)

    assert torch.allclose(expected.log_prob(ids), token_logprobs(logits, ids, 0.5), atol=1e-5)
    assert torch.allclose(expected.entropy(), token_entropies(logits, 0.5), atol=1e-5)


def test_the_probabilities_of_what_could_be_drawn_add_up_to_one() -> None:
    """Over the choices alone; padding, which has none, has finite numbers."""
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    choices = torch.tensor([[[1, 4, -1], [0, -1, -1], [5, 6, 2]], [[3, 2, 0], [-1, -1, -1], [-1, -1, -1]]])
    total = torch.zeros(2, 3)
    for place in range(3):
        chosen = choices[..., place]
        found = token_logprobs(logits, chosen.clamp(min=0), 1.7, choices)
        total += torch.where(chosen >= 0, found.exp(), 0.0)
    assert torch.allclose(total[0], torch.ones(3))
    assert torch.allclose(total[1, 0], torch.tensor(1.0))
    assert token_logprobs(logits, torch.zeros(2, 3, dtype=torch.long), 1.7, choices).isfinite().all()

    entropies = token_entropies(logits, 1.7, choices)
    expected = torch.distributions.Categorical(logits=logits[0, 2, [5, 6, 2]] / 1.7).entropy()
    assert torch.allclose(entropies[0, 2], expected, atol=1e-5)
    assert float(entropies[0, 1]) == 0.0
