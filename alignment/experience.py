"""Turns rollouts and their scores into what PPO learns from: log-probabilities, rewards, advantages, returns, and their metrics.

Knows nothing of sampling or of optimisers. Everything here is computed once a step, without gradient, before the first update.

Shapes as in `completion_forward`: N rollouts, T completion tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment.advantages import (
    RunningMoments,
    generalized_advantages,
    leave_one_out_advantages,
    masked_mean,
    scale,
    token_kl,
    token_rewards,
    whiten,
)
from alignment.completion_forward import (
    TokenBatch,
    TokenForward,
    completion_outputs,
    token_entropies,
    token_logprobs,
    vocabulary_kl,
)
from alignment.errors import TrainingError
from alignment.ppo_settings import PpoSettings
from alignment.records import RewardFunction
from alignment.rollouts import Rollouts
from chatbot.prompt import is_refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """Rollouts of one step with all that their updates need; tensors (N, T), zero outside the completions."""

    tokens: TokenBatch
    logprobs: Tensor
    """Under the policy that sampled, by the forward pass that training uses."""
    advantages: Tensor
    returns: Tensor | None
    """Targets of the value model; None without one."""
    values: Tensor | None
    metrics: dict[str, float]
    """TRL's `objective/*` names; KL and scores are means over completions, entropy over real tokens."""


def score_rollouts(reward: RewardFunction, rollouts: Rollouts) -> Tensor:
    """Scores (N,) of the completions' texts.

    Raises:
        TrainingError: If the reward function returns another number of scores, or one that is not finite.
    """
    scores = reward.score(rollouts.prompts, rollouts.texts)
    if len(scores) != len(rollouts.texts):
        raise TrainingError(
            f"Reward {reward.name!r} gave {len(scores)} scores for {len(rollouts.texts)} completions."
        )
    for prompt, score in zip(rollouts.prompts, scores, strict=True):
        if not math.isfinite(score):
            raise TrainingError(
                f"Reward {reward.name!r} gave {score} for a completion of prompt {prompt.id!r}: scores must be finite."
            )
    return torch.tensor(scores, dtype=torch.float32, device=rollouts.tokens.completion_ids.device)


def shape_scores(scores: Tensor, ended: Tensor, moments: RunningMoments, settings: PpoSettings) -> Tensor:
    """Scores (N,) as PPO sees them: normalised and clipped when the settings say so, less the penalty for not ending."""
    shaped = scores
    if settings.normalize_scores:
        shaped = (shaped - moments.mean) / moments.std
    if settings.score_clip is not None:
        shaped = shaped.clamp(-settings.score_clip, settings.score_clip)
    if settings.missing_eos_penalty:
        shaped = shaped - settings.missing_eos_penalty * (~ended).to(shaped.dtype)
    return shaped


def relative_scores(shaped: Tensor, samples_per_prompt: int) -> Tensor:
    """Each score less the mean of its siblings', (N,); as they are where a prompt has one sample.

    The leave-one-out baseline (Kool et al. 2019) in front of the value model: it changes no gradient on average, and it takes away what
    lies between prompts, which is more than half of the variance of the scores of a handful of prompts.

    >>> relative_scores(torch.tensor([1.0, 3.0, 5.0, 5.0]), 2)
    tensor([-2.,  2.,  0.,  0.])
    """
    if samples_per_prompt < 2:
        return shaped
    siblings = shaped.view(-1, samples_per_prompt)
    others = (siblings.sum(dim=1, keepdim=True) - siblings) / (samples_per_prompt - 1)
    return (siblings - others).flatten()


Logits = Callable[[TokenBatch], Tensor]
"""A micro-batch to the logits (N, T, V) that precede each of its completion tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFigures:
    """What a model says of the tokens of completions, each (N, T), zero outside them."""

    logprobs: Tensor
    """Of the token, among those it was drawn from: what is trained."""
    whole: Tensor
    """Of the token, among the whole vocabulary: what the KL is measured by."""
    entropies: Tensor
    """Of what it was drawn from; zeros unless wanted."""
    reference: Tensor
    """Log-probabilities of the token by the reference model, among the whole vocabulary; zeros without one."""
    full_kl: Tensor
    """From the reference model's distribution over the whole vocabulary, whatever was drawn, in nats; zeros without one."""


@torch.no_grad()
def completion_logprobs(
    forward: TokenForward,
    tokens: TokenBatch,
    settings: PpoSettings,
    *,
    with_entropy: bool = False,
    reference: Logits | None = None,
) -> TokenFigures:
    """Log-probabilities and, if wanted, entropies and what a reference model says, of all completion tokens, in micro-batches."""
    logprobs = torch.zeros(tokens.completion_ids.shape, device=tokens.completion_ids.device)
    whole, entropies = torch.zeros_like(logprobs), torch.zeros_like(logprobs)
    by_reference, full_kl = torch.zeros_like(logprobs), torch.zeros_like(logprobs)
    for prompts in micro_batches(tokens, settings.micro_batch_prompts):
        part = tokens.select(prompts)
        logits = completion_outputs(forward, part, share_prompts=settings.share_prompts)
        rows, width = tokens.rows_of(prompts), part.completion_ids.shape[1]
        ids, temperature = part.completion_ids, settings.temperature
        found = [(logprobs, token_logprobs(logits, ids, temperature, part.choices))]
        if part.choices is not None:
            found.append((whole, token_logprobs(logits, ids, temperature)))
        if with_entropy:
            found.append((entropies, token_entropies(logits, temperature, part.choices)))
        if reference is not None:
            expected = reference(part)
            found.append((by_reference, token_logprobs(expected, ids, temperature)))
            found.append((full_kl, vocabulary_kl(logits, expected, temperature)))
        for kept, values in found:
            kept[rows, :width] = values.masked_fill(~part.completion_mask, 0.0).to(logprobs.dtype)
    return TokenFigures(
        logprobs=logprobs,
        whole=logprobs if tokens.choices is None else whole,
        entropies=entropies,
        reference=by_reference,
        full_kl=full_kl,
    )


@torch.no_grad()
def completion_values(forward: TokenForward, tokens: TokenBatch, settings: PpoSettings) -> Tensor:
    """Values (N, T) before each completion token, in micro-batches."""
    values = torch.zeros(tokens.completion_ids.shape, device=tokens.completion_ids.device)
    for prompts in micro_batches(tokens, settings.micro_batch_prompts):
        part = tokens.select(prompts)
        found = completion_outputs(forward, part, share_prompts=settings.share_prompts).squeeze(-1)
        values[tokens.rows_of(prompts), : found.shape[1]] = found.masked_fill(~part.completion_mask, 0.0).to(
            values.dtype
        )
    return values


def micro_batches(tokens: TokenBatch, size: int) -> Sequence[Tensor]:
    """Prompt indices in order, `size` at a time."""
    return torch.split(torch.arange(tokens.prompt_ids.shape[0], device=tokens.prompt_ids.device), size)


def measure(
    rollouts: Rollouts, scores: Tensor, shaped: Tensor, kl: Tensor, figures: TokenFigures, kl_coef: float
) -> dict[str, float]:
    """The `objective/*` metrics of a step.

    `objective/scores` is what the reward function said; `objective/rlhf_reward` is what is maximised: shaped scores less the
    KL penalty. `objective/kl` is by k1, of the tokens drawn; `objective/kl_full` sums the KL of the two distributions at each place, which no
    draw can miss (the Rao-Blackwellised estimator of Amini et al. 2025, arXiv 2504.10637): what only unlikely tokens gained, `min_p` never draws.
    Without a cut both estimate the same; with one they are of two distributions, that which is drawn from and that which the model has.
    """
    mask = rollouts.tokens.completion_mask
    sequence_kl = kl.sum(dim=1)  # (N,)
    penalty = -kl_coef * sequence_kl
    siblings = scores.view(-1, rollouts.tokens.samples_per_prompt)
    return {
        "objective/kl": float(sequence_kl.mean()),
        "objective/kl_full": float(figures.full_kl.sum(dim=1).mean()),
        "objective/entropy": float(masked_mean(figures.entropies, mask)),
        "objective/non_score_reward": float(penalty.mean()),
        "objective/rlhf_reward": float((shaped + penalty).mean()),
        "objective/scores": float(scores.mean()),
        "objective/scores_std": float(scores.std(unbiased=False)),
        "objective/scores_std_within_prompt": float(siblings.std(dim=1, unbiased=False).mean()),
        "objective/kl_coef": kl_coef,
        "val/num_eos_tokens": float(rollouts.ended.sum()),
        "val/completion_tokens": float(mask.sum(dim=1).float().mean()),
        "val/refusal_share": _refusal_share(rollouts),
    }


def _refusal_share(rollouts: Rollouts) -> float:
    """How many completions refuse, of those to prompts that are not known to have no answer; 0 where there are none."""
    refused = [
        is_refusal(text)
        for text, prompt in zip(rollouts.texts, rollouts.prompts, strict=True)
        if prompt.answerable is not False
    ]
    return sum(refused) / len(refused) if refused else 0.0


def estimate_advantages(
    settings: PpoSettings,
    *,
    shaped: Tensor,
    kl: Tensor,
    mask: Tensor,
    values: Tensor | None,
    kl_coef: float,
    samples: int,
) -> tuple[Tensor, Tensor | None]:
    """Advantages (N, T) and, with values, returns (N, T)."""
    if values is None:
        returns = shaped - kl_coef * kl.sum(dim=1)
        advantages, targets = leave_one_out_advantages(returns, mask, samples), None
    else:
        rewards = token_rewards(shaped, kl, mask, kl_coef)
        if settings.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, targets = generalized_advantages(
            rewards, values, mask, gamma=settings.gamma, lam=settings.lam
        )
    if settings.whiten_advantages:
        advantages = whiten(advantages, mask) if values is not None else scale(advantages, mask)
    return advantages, targets


def penalised_kl(
    logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, settings: PpoSettings
) -> tuple[Tensor, Tensor]:
    """Per-token KL (N, T) by the settings' estimator, for the reward, and by k1, for metrics; zero outside the mask.

    Both log-probabilities must be among the whole vocabulary. Among the few tokens that the policy would draw, the reference is as sure as the policy, and
    a policy that has come to write one sentence whatever it is asked is measured at 0 nats (docs/lab-log.md, 27 November).
    """
    kl = token_kl(logprobs, reference_logprobs, settings.kl_estimator).masked_fill(~mask, 0.0)
    return kl, token_kl(logprobs, reference_logprobs).masked_fill(~mask, 0.0)
