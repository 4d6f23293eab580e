"""The arithmetic of PPO against loops written by hand, and its properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alignment.advantages import (
    RunningMoments,
    adapt_kl_coef,
    clipped_policy_loss,
    clipped_value_loss,
    generalized_advantages,
    leave_one_out_advantages,
    masked_mean,
    scale,
    token_kl,
    token_rewards,
    whiten,
)

seeds = st.integers(0, 10_000)
small = settings(max_examples=40, deadline=None)


def batch(seed: int, n: int = 4, t: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values (float64) and a mask of rows of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, t + 1, (n, 1), generator=generator)
    mask = torch.arange(t) < lengths
    rewards, values = torch.randn(2, n, t, generator=generator, dtype=torch.float64)
    return rewards, values, mask


def gae_by_hand(
    rewards: list[float], values: list[float], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """The definition: A_t is the sum over l of (gamma * lam)^l * delta_{t+l}."""
    n = len(rewards)
    after = [*values[1:], 0.0]
    deltas = [rewards[t] + gamma * after[t] - values[t] for t in range(n)]
    advantages = [sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, n)) for t in range(n)]
    return advantages, [a + v for a, v in zip(advantages, values, strict=True)]


@small
@given(seeds, st.floats(0.5, 1.0), st.floats(0.0, 1.0))
def test_generalized_advantages_equal_their_definition(seed: int, gamma: float, lam: float) -> None:
    """Row by row, without padding, in plain Python."""
    rewards, values, mask = batch(seed)

    advantages, returns = generalized_advantages(rewards, values, mask, gamma=gamma, lam=lam)

    for i, length in enumerate(mask.sum(dim=1).tolist()):
        expected = gae_by_hand(rewards[i, :length].tolist(), values[i, :length].tolist(), gamma, lam)
        assert advantages[i, :length].tolist() == pytest.approx(expected[0], abs=1e-6)
        assert returns[i, :length].tolist() == pytest.approx(expected[1], abs=1e-6)
        assert not advantages[i, length:].any()
        assert not returns[i, length:].any()


@small
@given(seeds)
def test_lambda_one_gives_monte_carlo_returns(seed: int) -> None:
    """Then the value model only shifts advantages and never the returns."""
    rewards, values, mask = batch(seed)

    _, returns = generalized_advantages(rewards, values, mask, gamma=1.0, lam=1.0)

    inside = rewards.masked_fill(~mask, 0.0)
    expected = inside.flip(1).cumsum(1).flip(1).masked_fill(~mask, 0.0)
    assert torch.allclose(expected, returns, atol=1e-9)


@small
@given(seeds)
def test_lambda_zero_gives_temporal_differences(seed: int) -> None:
    """A_t = r_t + gamma V_{t+1} - V_t."""
    rewards, values, mask = batch(seed)

    advantages, _ = generalized_advantages(rewards, values, mask, gamma=0.9, lam=0.0)

    values = values.masked_fill(~mask, 0.0)
    after = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    expected = (rewards + 0.9 * after - values).masked_fill(~mask, 0.0)
    assert torch.allclose(expected, advantages, atol=1e-9)


@small
@given(seeds, st.integers(1, 5))
def test_padding_changes_nothing_whatever_it_holds(seed: int, extra: int) -> None:
    """Columns of NaN behind the mask leave advantages, whitening and losses as they were, gradients too."""
    rewards, values, mask = batch(seed)
    width = mask.shape[1]

    def padded(x: Tensor) -> Tensor:
        hole = x.masked_fill(~mask, math.nan)
        return torch.cat([hole, torch.full((x.shape[0], extra), math.nan, dtype=x.dtype)], dim=1)

    wide = torch.cat([mask, torch.zeros(mask.shape[0], extra, dtype=torch.bool)], dim=1)
    narrow_result, _ = generalized_advantages(rewards, values, mask)
    wide_result, _ = generalized_advantages(padded(rewards), padded(values), wide)
    assert torch.equal(narrow_result, wide_result[:, :width])
    assert torch.allclose(whiten(rewards, mask), whiten(padded(rewards), wide)[:, :width])
    assert masked_mean(rewards, mask).item() == pytest.approx(masked_mean(padded(rewards), wide).item())

    leaf = padded(values).requires_grad_()
    n = mask.sum()
    policy = clipped_policy_loss(
        leaf, padded(rewards), padded(rewards), wide, clip_range=0.2, n_tokens=n
    ).loss
    value = clipped_value_loss(leaf, padded(rewards), padded(rewards), wide, clip_range=0.2, n_tokens=n)
    (policy + value).backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    assert not leaf.grad[~wide].any()


@small
@given(seeds)
def test_whitening_gives_mean_zero_and_deviation_one(seed: int) -> None:
    """Over real tokens only; without the shift the mean stays."""
    values, _, mask = batch(seed, n=6)
    values = values * 3 + 5

    whitened, kept = whiten(values, mask), whiten(values, mask, shift_mean=False)

    assert whitened[mask].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert whitened[mask].std(unbiased=False).item() == pytest.approx(1.0, abs=1e-4)
    assert kept[mask].mean().item() == pytest.approx(values[mask].mean().item(), abs=1e-6)


def test_the_score_stands_on_the_last_token() -> None:
    """Each token pays for its own KL; the score is added once."""
    kl = torch.tensor([[0.5, 1.0, 9.0], [2.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()

    rewards = token_rewards(torch.tensor([10.0, -4.0]), kl, mask, kl_coef=0.1)

    assert torch.allclose(torch.tensor([[-0.05, 9.9, 0.0], [-4.2, 0.0, 0.0]]), rewards)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimators_are_unbiased(estimator: str) -> None:
    """Their expectation under the policy is the KL divergence."""
    policy = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    reference = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)

    estimates = token_kl(policy.log(), reference.log(), estimator)  # type: ignore[arg-type]  # parametrised

    exact = (policy * (policy / reference).log()).sum().item()
    assert (policy * estimates).sum().item() == pytest.approx(exact, abs=1e-9)


@small
@given(seeds)
def test_scaling_gives_a_mean_square_of_one_and_moves_nothing_across_zero(seed: int) -> None:
    """Over real tokens; what is 0 stays 0, and signs and ratios are kept."""
    values, _, mask = batch(seed, n=6)
    values = (values * 3 + 5).masked_fill(values.abs() < 0.3, 0.0)

    scaled = scale(values, mask)

    assert scaled[mask].square().mean().item() == pytest.approx(1.0, abs=1e-6)
    assert not scaled[~mask].any()
    assert torch.equal(scaled[mask].sign(), values[mask].sign())
    largest = values[mask].abs().max()
    assert torch.allclose(scaled[mask] / scaled[mask].abs().max(), values[mask] / largest)


@given(seeds)
def test_k3_is_never_negative(seed: int) -> None:
    """It is the Bregman distance of the logarithm."""
    logprobs, reference, _ = batch(seed)
    assert (token_kl(logprobs, reference, "k3") >= 0).all()


def test_leave_one_out_takes_the_siblings_mean() -> None:
    """Two prompts with three completions each."""
    mask = torch.ones(6, 2, dtype=torch.bool)
    mask[0, 1] = False

    advantages = leave_one_out_advantages(torch.tensor([3.0, 0.0, 0.0, 1.0, 2.0, 3.0]), mask, 3)

    expected = [[3.0, 0.0], [-1.5, -1.5], [-1.5, -1.5], [-1.5, -1.5], [0.0, 0.0], [1.5, 1.5]]
    assert expected == advantages.tolist()


@pytest.mark.parametrize("k", [2, 3, 4, 6, 8])
def test_siblings_that_are_alike_have_no_advantage(k: int) -> None:
    """Not even by rounding: a step of nothing else would be scaled to a full one."""
    returns = torch.linspace(-2.3, 1.7, 50).repeat_interleave(k)

    assert not leave_one_out_advantages(returns, torch.ones(50 * k, 3), k).any()


@small
@given(seeds)
def test_policy_loss_equals_its_definition(seed: int) -> None:
    """-min(ratio * A, clip(ratio) * A), averaged over real tokens, in plain Python."""
    new, old, mask = batch(seed)
    advantages = batch(seed + 1)[0]

    found = clipped_policy_loss(new, old, advantages, mask, clip_range=0.2, n_tokens=mask.sum())

    terms, n_clipped = [], 0
    for n, o, a, m in zip(
        new.flatten().tolist(),
        old.flatten().tolist(),
        advantages.flatten().tolist(),
        mask.flatten().tolist(),
        strict=True,
    ):
        if m:
            ratio = math.exp(n - o)
            limited = min(max(ratio, 0.8), 1.2) * a
            terms.append(-min(ratio * a, limited))
            n_clipped += limited < ratio * a
    assert found.loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-6)
    assert int(found.clipped) == n_clipped


@small
@given(seeds)
def test_value_loss_equals_its_definition(seed: int) -> None:
    """Half the larger of the plain and the clipped squared error, in plain Python."""
    values, old, mask = batch(seed)
    returns = batch(seed + 1)[0]

    found = clipped_value_loss(values, old, returns, mask, clip_range=0.3, n_tokens=mask.sum())

    terms = []
    for v, o, r in zip(values[mask].tolist(), old[mask].tolist(), returns[mask].tolist(), strict=True):
        near = min(max(v, o - 0.3), o + 0.3)
        terms.append(0.5 * max((v - r) ** 2, (near - r) ** 2))
    assert found.item() == pytest.approx(sum(terms) / len(terms), abs=1e-6)


def test_an_unchanged_policy_has_the_plain_policy_gradient() -> None:
    """At ratio 1 nothing is clipped and the gradient is -A / n."""
    advantages = torch.tensor([[1.0, -2.0]])
    logprobs = torch.tensor([[-1.0, -3.0]], requires_grad=True)

    loss = clipped_policy_loss(
        logprobs, logprobs.detach(), advantages, torch.ones(1, 2), clip_range=0.2, n_tokens=2
    )
    loss.loss.backward()

    assert logprobs.grad is not None
    assert torch.allclose(-advantages / 2, logprobs.grad)


@small
@given(st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=5), min_size=1, max_size=5))
def test_running_moments_equal_those_of_all_scores(parts: list[list[float]]) -> None:
    """However the scores arrive."""
    moments = RunningMoments()
    for part in parts:
        moments = moments.updated(torch.tensor(part, dtype=torch.float64))

    scores = torch.tensor([score for part in parts for score in part], dtype=torch.float64)
    assert moments.mean == pytest.approx(scores.mean().item(), abs=1e-6)
    if len(scores) > 1 and scores.std() > 1e-3:
        assert moments.std == pytest.approx(scores.std().item(), rel=1e-6)


def test_adaptive_kl_moves_towards_its_target_by_at_most_a_fifth() -> None:
    """Up above the target, down below, still at it."""
    rule = {"target": 6.0, "horizon": 100.0, "n_rollouts": 100}
    assert adapt_kl_coef(0.1, 600.0, **rule) == pytest.approx(0.12)  # type: ignore[arg-type]  # mixed numbers
    assert adapt_kl_coef(0.1, 0.0, **rule) == pytest.approx(0.08)  # type: ignore[arg-type]  # mixed numbers
    assert adapt_kl_coef(0.1, 6.0, **rule) == pytest.approx(0.1)  # type: ignore[arg-type]  # mixed numbers
