"""The arithmetic of PPO on tensors: KL estimates, rewards, advantages, whitening, clipped losses.

Knows nothing of models, text or optimisers. Every function takes a mask and is blind to what stands under its zeros, whatever
that is; every mean is a sum over real tokens divided by their number, and the losses take that number as an argument, so that
a minibatch cut into micro-batches has exactly the gradient of the whole.

Shapes: N rollouts, T completion tokens (padding on the right), K samples per prompt. Rollouts of one prompt stand together.

Different from the textbook: the score and the end-of-text penalty are placed on the completion's own last token, not one slot
after it, and a completion cut off by the token limit is treated as finished (value 0 after it), as in TRL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

KlEstimator = Literal["k1", "k3"]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the mask's ones, a scalar; 0 when there are none.

    >>> masked_mean(torch.tensor([1.0, 2.0, float("nan")]), torch.tensor([1, 1, 0])).item()
    1.5
    """
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the mask's ones, a scalar; what stands elsewhere may even be NaN."""
    return values.masked_fill(~mask.bool(), 0.0).sum()


def token_kl(logprobs: Tensor, reference_logprobs: Tensor, estimator: KlEstimator = "k1") -> Tensor:
    """Estimate KL(policy || reference) at each sampled token, in nats, shape of the input.

    With r = reference / policy: `k1` is -ln r, unbiased, may be negative; `k3` is (r - 1) - ln r, unbiased, never negative
    (Schulman 2020, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html).
    """
    k1 = logprobs - reference_logprobs
    if estimator == "k1":
        return k1
    return torch.expm1(-k1) + k1


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Rewards (N, T): minus `kl_coef` times the KL at each token, plus the score at the last one.

    Ziegler et al. 2019 (arXiv 1909.08593), equation 2, with the penalty spread over the tokens that caused it.

    Args:
        scores: (N,), end-of-text penalty included.
        kl: (N, T), from `token_kl`.
        mask: (N, T), ones on the completion including its end-of-text token; each row has at least one.
        kl_coef: beta, reward per nat.
    """
    rewards = (-kl_coef * kl).masked_fill(~mask.bool(), 0.0)
    last = mask.sum(dim=1, keepdim=True).long() - 1
    return rewards.scatter_add(1, last, scores.to(rewards.dtype).unsqueeze(1))


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, both (N, T), zero outside the mask.

    Schulman et al. 2016 (arXiv 1506.02438), equation 16: A_t = delta_t + gamma * lam * A_{t+1} with
    delta_t = r_t + gamma * V_{t+1} - V_t, where the value after the last token is 0. Returns are A_t + V_t.

    Args:
        rewards: (N, T), from `token_rewards`.
        values: (N, T), the value before each token is written.
        mask: (N, T), ones first.
        gamma: Discount per token.
        lam: 1 gives Monte Carlo returns minus values, 0 gives one-step temporal differences.
    """
    inside = mask.bool()
    rewards = rewards.masked_fill(~inside, 0.0)
    values = values.masked_fill(~inside, 0.0)
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])  # (N,)
    next_value = torch.zeros_like(following)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following).masked_fill(~inside[:, t], 0.0)
        advantages[:, t] = following
        next_value = values[:, t]
    return advantages, (advantages + values).masked_fill(~inside, 0.0)


def leave_one_out_advantages(returns: Tensor, mask: Tensor, samples_per_prompt: int) -> Tensor:
    """Each completion's return minus the mean of its siblings', given to all its tokens: (N, T).

    Kool et al. 2019, Ahmadian et al. 2024 (arXiv 2402.14740), equation 8. A return counts the KL penalty of all tokens.

    Args:
        returns: (N,), score minus penalty of whole completions, siblings together.
        mask: (N, T).
        samples_per_prompt: K, at least 2; N is a multiple of it.
    """
    if samples_per_prompt < 2:
        raise ValueError(
            f"samples_per_prompt={samples_per_prompt} must be at least 2: others make the baseline"
        )
    grouped = returns.view(-1, samples_per_prompt)  # (P, K)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (samples_per_prompt - 1)
    # Where all are alike rounding would leave a little, and scaling a step of nothing else would make a full one of it.
    alike = grouped.amax(dim=1, keepdim=True) == grouped.amin(dim=1, keepdim=True)
    return (grouped - others).masked_fill(alike, 0.0).reshape(-1, 1) * mask.to(returns.dtype)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale to standard deviation 1 over the mask's ones, zero elsewhere.

    Args:
        values: (N, T).
        mask: (N, T).
        shift_mean: Also move the mean to 0. Rewards keep theirs, advantages lose it (N implementation details of RLHF, 2023).
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean).square(), mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        whitened = whitened + mean
    return whitened.masked_fill(~mask.bool(), 0.0)


def scale(values: Tensor, mask: Tensor) -> Tensor:
    """Divide by the root of the mean square over the mask's ones, zero elsewhere: what is 0 stays 0, and no sign changes.

    For leave-one-out advantages, whose mean over completions is 0 already: shifting them by their mean over tokens would reward long
    completions of prompts that nobody can tell apart.

    >>> scale(torch.tensor([3.0, 0.0, -4.0]), torch.tensor([1, 1, 0]))
    tensor([1.4142, 0.0000, 0.0000])
    """
    square = masked_mean(values.square(), mask)
    return values.masked_fill(~mask.bool(), 0.0) * torch.rsqrt(square + 1e-8)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLoss:
    """The clipped policy loss of some tokens and what is worth knowing of it; all but `loss` are sums, detached."""

    loss: Tensor
    """Sum divided by `n_tokens`, with gradient."""
    clipped: Tensor
    """Number of tokens where clipping decided."""
    approximate_kl: Tensor
    """Sum over tokens of (new - old)^2 / 2: KL of the old to the new policy to second order, in nats."""
    ratio: Tensor
    """Sum over tokens of new / old probability."""


def clipped_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_range: float,
    n_tokens: Tensor | float,
) -> PolicyLoss:
    """PPO's clipped surrogate, to be minimised: -min(ratio * A, clip(ratio, 1 - e, 1 + e) * A).

    Schulman et al. 2017 (arXiv 1707.06347), equation 7.

    Args:
        logprobs: (N, T), of the policy being trained, with gradient.
        old_logprobs: (N, T), of the policy that sampled.
        advantages: (N, T).
        mask: (N, T).
        clip_range: e.
        n_tokens: Tokens of the whole minibatch, of which these may be a part.
    """
    inside = mask.bool()
    advantages = advantages.masked_fill(~inside, 0.0)
    difference = (logprobs - old_logprobs).masked_fill(~inside, 0.0)
    ratio = difference.exp()
    plain = -advantages * ratio
    limited = -advantages * ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    with torch.no_grad():
        clipped = masked_sum((limited > plain).to(ratio.dtype), mask)
        approximate_kl = 0.5 * masked_sum(difference.square(), mask)
        ratio_sum = masked_sum(ratio, mask)
    loss = masked_sum(torch.maximum(plain, limited), mask) / n_tokens
    return PolicyLoss(loss=loss, clipped=clipped, approximate_kl=approximate_kl, ratio=ratio_sum)


def clipped_value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    clip_range: float,
    n_tokens: Tensor | float,
) -> Tensor:
    """Half the squared error to the returns, the larger of plain and clipped around the old values; a scalar.

    The value clipping of OpenAI's `baselines` (ppo2), kept in Stiennon et al. 2020 and TRL.

    Args:
        values: (N, T), of the value model being trained, with gradient.
        old_values: (N, T), when the rollouts were made.
        returns: (N, T).
        mask: (N, T).
        clip_range: Farthest a prediction may profit from moving, in units of reward.
        n_tokens: Tokens of the whole minibatch, of which these may be a part.
    """
    outside = ~mask.bool()
    # Filled before squaring: the gradient of a NaN that is masked only afterwards is still NaN.
    values, old_values, returns = (x.masked_fill(outside, 0.0) for x in (values, old_values, returns))
    near = old_values + (values - old_values).clamp(-clip_range, clip_range)
    error = torch.maximum((values - returns).square(), (near - returns).square())
    return 0.5 * masked_sum(error, mask) / n_tokens


def adapt_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, n_rollouts: int) -> float:
    """The next beta: up when the KL of whole completions is above its target, down when below.

    Ziegler et al. 2019 (arXiv 1909.08593), section 2.2: beta *= 1 + clip(KL / target - 1, -0.2, 0.2) * n / horizon.

    >>> round(adapt_kl_coef(0.05, 12.0, target=6.0, horizon=1000, n_rollouts=100), 4)
    0.051
    """
    error = min(0.2, max(-0.2, kl / target - 1.0))
    return kl_coef * (1.0 + error * n_rollouts / horizon)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMoments:
    """Mean and variance of all scores seen so far (Chan, Golub and LeVeque 1979, equation 2.1)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    def updated(self, scores: Tensor) -> RunningMoments:
        """The moments after seeing `scores` (N,) as well."""
        new = scores.double()
        n = new.numel()
        if n == 0:
            return self
        mean = float(new.mean())
        total = self.count + n
        delta = mean - self.mean
        squares = self.squares + float((new - mean).square().sum()) + delta**2 * self.count * n / total
        return RunningMoments(count=total, mean=self.mean + delta * n / total, squares=squares)

    @property
    def std(self) -> float:
        """Standard deviation; 1 before two scores or when all were equal, so that dividing by it does no harm."""
        if self.count < 2 or self.squares <= 0.0:
            return 1.0
        return math.sqrt(self.squares / (self.count - 1))
