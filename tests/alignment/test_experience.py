"""Scores on their way to advantages."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignment.completion_forward import TokenBatch, completion_outputs, token_logprobs, vocabulary_kl
from alignment.experience import completion_logprobs, penalised_kl, relative_scores
from alignment.models import CausalForward
from alignment.ppo_settings import PpoSettings
from tests.alignment.ppo_fakes import tiny_model


@given(st.integers(2, 6), st.lists(st.floats(-5, 5), min_size=1, max_size=4), st.randoms())
def test_relative_scores_keep_differences_and_forget_the_prompt(k: int, levels: list[float], rng) -> None:  # type: ignore[no-untyped-def]
    """Whatever a prompt adds to all its samples is gone; between siblings, differences grow by k / (k - 1)."""
    within = torch.tensor([[rng.uniform(-1, 1) for _ in range(k)] for _ in levels], dtype=torch.float64)
    scores = (within + torch.tensor(levels, dtype=torch.float64)[:, None]).flatten()

    found = relative_scores(scores, k).view(-1, k)

    torch.testing.assert_close(found.sum(dim=1), torch.zeros(len(levels), dtype=torch.float64))
    expected = (within - within[:, :1]) * k / (k - 1)
    torch.testing.assert_close(found - found[:, :1], expected)


def test_a_prompt_with_one_sample_keeps_its_score() -> None:
    """There is nothing to compare it with."""
    scores = torch.tensor([1.0, -2.0])

    assert torch.equal(relative_scores(scores, 1), scores)


def test_a_policy_sure_of_itself_is_not_at_its_reference() -> None:
    """Where only one token could be drawn its probability among those is 1 under any model; the KL must still see that the reference would not write it."""
    tokens = _tokens(choices=True)
    chosen = PpoSettings(advantage="rloo", precision="float32")
    policy, reference = (
        completion_logprobs(CausalForward(tiny_model(seed=n)), tokens, chosen) for n in (0, 1)
    )

    kl, k1 = penalised_kl(policy.whole, reference.whole, tokens.completion_mask, chosen)

    assert not policy.logprobs.any()
    assert k1[tokens.completion_mask].abs().min() > 1e-3
    assert not kl[~tokens.completion_mask].any()


def test_without_a_cut_the_whole_vocabulary_is_what_is_drawn_from() -> None:
    """Both figures are one."""
    figures = completion_logprobs(
        CausalForward(tiny_model()), _tokens(choices=False), PpoSettings(precision="float32")
    )

    assert torch.equal(figures.logprobs, figures.whole)


def test_what_a_policy_moved_to_undrawn_tokens_is_in_the_full_kl() -> None:
    """Two models that agree on the drawn token and on nothing else: by the drawn token they are one."""
    logits = torch.tensor([[[2.0, 1.0, -3.0]]])
    moved = torch.tensor([[[2.0, -3.0, 1.0]]])
    drawn = torch.tensor([[0]])

    by_draw = token_logprobs(moved, drawn, 1.0) - token_logprobs(logits, drawn, 1.0)
    full = vocabulary_kl(moved, logits, 1.0)

    p = moved.double().softmax(-1)
    expected = (p * (p.log() - logits.double().softmax(-1).log())).sum()
    assert abs(float(by_draw)) < 1e-6
    assert float(full) == pytest.approx(float(expected), abs=1e-6)
    assert float(full) > 0.5


def test_tokens_that_neither_model_can_write_cost_nothing() -> None:
    """Logits of minus infinity, as of masked tokens, are no reason for a KL that is not a number."""
    logits = torch.tensor([[[2.0, 1.0, float("-inf")]]])

    assert not vocabulary_kl(logits, logits, 1.0).any()
    assert torch.isfinite(vocabulary_kl(logits, torch.tensor([[[0.0, 1.0, float("-inf")]]]), 1.0)).all()


def test_the_full_kl_is_what_the_drawn_tokens_give_on_average() -> None:
    """Over all tokens of a small vocabulary, weighted by how often the policy draws them."""
    logits, reference = torch.randn(2, 1, 1, 7, generator=torch.Generator().manual_seed(3)).unbind()
    every = torch.arange(7).unsqueeze(1)

    k1 = [token_logprobs(found.expand(7, 1, 7), every, 0.8).squeeze(1) for found in (logits, reference)]

    mean = (k1[0].exp() * (k1[0] - k1[1])).sum()
    torch.testing.assert_close(vocabulary_kl(logits, reference, 0.8).squeeze(), mean, atol=1e-6, rtol=0)


def test_a_model_is_at_no_distance_from_itself() -> None:
    """To the last bit: the KL of a run's first step is 0."""
    forward, tokens = CausalForward(tiny_model(seed=2)), _tokens(choices=True)

    figures = completion_logprobs(
        forward,
        tokens,
        PpoSettings(precision="float32"),
        reference=lambda part: completion_outputs(forward, part, share_prompts=True),
    )

    assert not figures.full_kl.any()
    assert torch.equal(figures.reference, figures.whole)


def _tokens(*, choices: bool) -> TokenBatch:
    ids = torch.tensor([[70, 71, 72], [80, 81, 0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    return TokenBatch(
        prompt_ids=torch.tensor([[1, 90, 91]]),
        prompt_mask=torch.ones(1, 3, dtype=torch.bool),
        completion_ids=ids,
        completion_mask=mask,
        choices=ids.masked_fill(~mask, -1).unsqueeze(-1) if choices else None,
    )
