"""Updates policy and value model from the experience of one step.

Knows nothing of sampling, scores or files. Differs from the textbook, and from TRL's late trainer, in how a minibatch is cut:
losses are sums over a micro-batch divided by the tokens of the whole minibatch, so that gradients do not depend on the cut, and
each minibatch is exactly one optimiser step, the last one of a pass like any other. Policy and value model are separate models
with separate optimisers and separate gradient clipping: a badly fitted value model cannot shrink the policy's step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alignment.advantages import clipped_policy_loss, clipped_value_loss, masked_sum
from alignment.completion_forward import (
    TokenBatch,
    TokenForward,
    choice_surprise,
    completion_outputs,
    token_logprobs,
    vocabulary_kl,
)
from alignment.errors import TrainingError
from alignment.experience import Experience, Logits
from alignment.models import autocast, trainable_parameters
from alignment.ppo_settings import PpoSettings
from alignment.update_tally import UpdateTally
from alignment.value_model import ValueModel

PtxRows = Callable[[int], Sequence[Sequence[int]]]
"""Rows of token ids for the language-model loss of the n-th policy update, counted from 0; a function, so that resuming is exact."""


class Updater:
    """Holds the optimisers of a policy and its value model (None for leave-one-out baselines)."""

    def __init__(
        self,
        settings: PpoSettings,
        policy: nn.Module,
        forward: TokenForward,
        value: ValueModel | None,
        *,
        dtype: torch.dtype | None,
        ptx_rows: PtxRows | None = None,
        reference: Logits | None = None,
    ) -> None:
        if settings.kl_loss_coef and reference is None:
            raise ValueError(f"kl_loss_coef={settings.kl_loss_coef} needs a reference model")
        self.settings = settings
        self.forward = forward
        self.value = value
        self.n_updates = 0
        self.average: dict[str, Tensor] | None = None
        self._dtype = dtype
        self._ptx_rows = ptx_rows
        self._reference = reference
        self._policy_parameters = trainable_parameters(policy)
        self.policy_optimizer = torch.optim.AdamW(
            self._policy_parameters.values(),
            lr=settings.learning_rate,
            eps=settings.adam_eps,
            weight_decay=0.0,
        )
        self.value_optimizer = None if value is None else _value_optimizer(value, settings)
        if settings.ema_decay:
            self.average = {name: p.detach().clone() for name, p in self._policy_parameters.items()}

    def update(self, experience: Experience, step: int) -> dict[str, float]:
        """Make `epochs * minibatches` optimiser steps, fewer when the ratio or the approximate KL runs away.

        Args:
            experience: Of this step, from the policy as it is now.
            step: Counts from 0; seeds the order of minibatches and sets the learning rates.

        Raises:
            TrainingError: If a loss or a gradient is not finite; no weight has then been changed by it.
        """
        factor = self.set_learning_rates(step)
        tally = UpdateTally()
        policy_on = self.value is None or step >= self.settings.value_warmup_steps
        for prompts in self._minibatches(experience, step):
            if policy_on and not self._update_policy(experience, prompts, tally, step):
                policy_on = False
                tally.n_stopped += 1
                if self.value is None:
                    break
            if self.value is not None:
                self._update_value(experience, prompts, tally, step)
        return tally.metrics() | {"lr": self.settings.learning_rate * factor}

    def set_learning_rates(self, step: int) -> float:
        """Set all learning rates for a step and return the policy's factor."""
        settings = self.settings
        decay = 1.0 - step / settings.steps if settings.lr_decay == "linear" else 1.0
        first = settings.value_warmup_steps if self.value is not None else 0
        rise = min(1.0, max(0, step - first + 1) / (settings.lr_warmup_steps + 1))
        for optimizer, factor in ((self.policy_optimizer, decay * rise), (self.value_optimizer, decay)):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = group.setdefault("first_lr", group["lr"]) * factor
        return decay * rise

    def _minibatches(self, experience: Experience, step: int) -> Iterator[Tensor]:
        tokens = experience.tokens
        n_prompts, device = tokens.prompt_ids.shape[0], tokens.prompt_ids.device
        teaches = torch.ones(n_prompts, dtype=torch.bool, device=device)
        if self.value is None:
            # Samples that are all alike, or all as good, have no gradient: their share grows as a policy makes up its mind.
            teaches = experience.advantages.view(n_prompts, -1).ne(0).any(dim=1)
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        for _ in range(self.settings.epochs):
            order = torch.randperm(n_prompts, generator=generator).to(device)
            kept = order[teaches[order]]
            yield from (part for part in kept.chunk(self.settings.minibatches) if len(part))

    def _update_policy(self, experience: Experience, prompts: Tensor, tally: UpdateTally, step: int) -> bool:
        """One optimiser step on a minibatch; False when it was withheld because the policy has moved too far."""
        settings = self.settings
        n_tokens = experience.tokens.completion_mask[experience.tokens.rows_of(prompts)].sum()
        sums = torch.zeros(5, device=n_tokens.device)  # loss, clipped, approximate KL, ratio, KL in the loss
        self.policy_optimizer.zero_grad(set_to_none=True)
        for part in torch.split(prompts, settings.micro_batch_prompts):
            tokens, rows = experience.tokens.select(part), experience.tokens.rows_of(part)
            width = tokens.completion_ids.shape[1]
            with autocast(n_tokens.device, self._dtype):
                logits = completion_outputs(self.forward, tokens, share_prompts=settings.share_prompts)
            result = clipped_policy_loss(
                token_logprobs(logits, tokens.completion_ids, settings.temperature, tokens.choices),
                experience.logprobs[rows, :width],
                experience.advantages[rows, :width],
                tokens.completion_mask,
                clip_range=settings.clip_range,
                n_tokens=n_tokens,
            )
            total = result.loss
            if tokens.choices is not None and settings.choices_coef:
                outside = masked_sum(choice_surprise(logits, tokens.choices), tokens.completion_mask)
                total = total + settings.choices_coef * outside / n_tokens
            kl = self._kl(logits, tokens)
            total = total + settings.kl_loss_coef * kl / n_tokens
            torch.autograd.backward(total)
            loss = result.loss.detach() * n_tokens
            sums += torch.stack(
                [loss, result.clipped, result.approximate_kl, result.ratio, kl.detach()]
            ).float()
        count = float(n_tokens)
        loss_sum, clipped, approximate_kl, ratio, kl_sum = sums.tolist()
        _require_finite(loss_sum, "policy loss", step)
        if self._ran_away(approximate_kl / count, ratio / count):
            self.policy_optimizer.zero_grad(set_to_none=True)
            return False
        tally.tokens += count
        tally.policy_loss += loss_sum
        tally.clipped += clipped
        tally.approximate_kl += approximate_kl
        tally.ratio += ratio
        tally.kl_loss += kl_sum
        if self._ptx_rows is not None and settings.ptx_coef:
            tally.ptx_loss += self._add_ptx_gradient(self._ptx_rows(self.n_updates), n_tokens.device, step)
        tally.policy_norms.append(
            self._step(self.policy_optimizer, self._policy_parameters.values(), "policy", step)
        )
        self.n_updates += 1
        self._move_average()
        return True

    def _kl(self, logits: Tensor, tokens: TokenBatch) -> Tensor:
        """Sum over the tokens of the KL from the reference model, with gradient; 0 where the loss has no such term."""
        if not self.settings.kl_loss_coef:
            return torch.zeros((), device=logits.device)
        assert self._reference is not None
        with torch.no_grad(), autocast(logits.device, self._dtype):
            expected = self._reference(tokens)
        kl = vocabulary_kl(logits, expected, self.settings.temperature)
        return masked_sum(kl, tokens.completion_mask)

    def _ran_away(self, approximate_kl: float, ratio: float) -> bool:
        settings = self.settings
        too_far = settings.approxkl_limit is not None and approximate_kl > settings.approxkl_limit
        return too_far or (settings.ratio_limit is not None and abs(ratio - 1.0) > settings.ratio_limit)

    def _update_value(self, experience: Experience, prompts: Tensor, tally: UpdateTally, step: int) -> None:
        assert self.value is not None
        assert self.value_optimizer is not None
        assert experience.values is not None
        assert experience.returns is not None
        settings = self.settings
        n_tokens = experience.tokens.completion_mask[experience.tokens.rows_of(prompts)].sum()
        total = torch.zeros((), device=n_tokens.device)
        self.value_optimizer.zero_grad(set_to_none=True)
        for part in torch.split(prompts, settings.micro_batch_prompts):
            tokens, rows = experience.tokens.select(part), experience.tokens.rows_of(part)
            width = tokens.completion_ids.shape[1]
            with autocast(n_tokens.device, self._dtype):
                values = completion_outputs(self.value, tokens, share_prompts=settings.share_prompts).squeeze(
                    -1
                )
            loss = clipped_value_loss(
                values,
                experience.values[rows, :width],
                experience.returns[rows, :width],
                tokens.completion_mask,
                clip_range=settings.value_clip_range,
                n_tokens=n_tokens,
            )
            torch.autograd.backward(settings.value_coef * loss)
            total += (loss.detach() * n_tokens).float()
        _require_finite(float(total), "value loss", step)
        tally.value_tokens += float(n_tokens)
        tally.value_loss += float(total)
        parameters = trainable_parameters(self.value).values()
        tally.value_norms.append(self._step(self.value_optimizer, parameters, "value model", step))

    def _add_ptx_gradient(self, rows: Sequence[Sequence[int]], device: torch.device, step: int) -> float:
        """Add the gradient of `ptx_coef` times the mean next-token loss (arXiv 2203.02155, equation 2); the loss in nats."""
        rows = [row for row in rows if len(row) > 1]
        if not rows:
            return 0.0
        longest = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(list(row)), True
        ids, mask = ids.to(device), mask.to(device)
        positions = torch.arange(longest, device=device).expand_as(ids)
        with autocast(device, self._dtype):
            logits, _ = self.forward(
                input_ids=ids,
                attention_mask=mask.long(),
                position_ids=positions,
                keep=longest,
                use_cache=False,
            )
        logprobs = token_logprobs(logits[:, :-1], ids[:, 1:], temperature=1.0)
        loss = -masked_sum(logprobs, mask[:, 1:]) / mask[:, 1:].sum()
        _require_finite(float(loss.detach()), "ptx loss", step)
        torch.autograd.backward(self.settings.ptx_coef * loss)
        return float(loss.detach())

    def _step(self, optimizer: torch.optim.Optimizer, parameters: Any, what: str, step: int) -> float:
        norm = float(nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm))
        _require_finite(norm, f"gradient of the {what}", step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _move_average(self) -> None:
        if self.average is None:
            return
        with torch.no_grad():
            for name, parameter in self._policy_parameters.items():
                self.average[name].lerp_(parameter, 1.0 - self.settings.ema_decay)


def _value_optimizer(value: ValueModel, settings: PpoSettings) -> torch.optim.Optimizer:
    head = {id(p) for p in value.head.parameters()}
    trunk = [p for p in trainable_parameters(value).values() if id(p) not in head]
    groups = [
        {"params": trunk, "lr": settings.value_learning_rate},
        {"params": list(value.head.parameters()), "lr": settings.value_head_learning_rate},
    ]
    return torch.optim.AdamW(groups, eps=settings.adam_eps, weight_decay=0.0)


def _require_finite(number: float, what: str, step: int) -> None:
    if not math.isfinite(number):
        raise TrainingError(
            f"The {what} is not finite at step {step}: start a new run with a lower ppo.learning_rate, or with ppo.precision=float32."
        )
