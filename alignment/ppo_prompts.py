"""Which prompts a PPO step samples for: rendered prompts, encoded once, in an order drawn anew for every pass.

Knows nothing of completions or rewards. Different from a shuffling data loader: there is no position to save. The prompts of a step are
a function of seed and step, so that a resumed run takes those that the uninterrupted one would have taken. And what people have asked comes up more often
than what is made of documents (`asked_share`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import structlog
import torch

from alignment.errors import TrainingError
from alignment.padding import encode_prompt
from alignment.ppo_settings import PpoSettings
from alignment.records import RolloutPrompt

log = structlog.get_logger(__name__)

EncodedPrompt = tuple[RolloutPrompt, list[int]]
"""A prompt and its token ids."""


class TrainingPrompts:
    """The prompts of a run that fit.

    Args:
        settings: Of the run.
        prompts: All there are; those too long are left out, with a line in the log.
        policy: It may have fewer positions than the settings allow.
        tokenizer: The policy's.

    Raises:
        TrainingError: If none fits.
    """

    def __init__(
        self, settings: PpoSettings, prompts: Sequence[RolloutPrompt], *, policy: Any, tokenizer: Any
    ) -> None:
        self._settings = settings
        self._encoded = _encode(settings, prompts, policy, tokenizer)
        self.n_left_out = len(prompts) - len(self._encoded)
        self._pools = [
            [item for item in self._encoded if item[0].asked],
            [item for item in self._encoded if not item[0].asked],
        ]

    @property
    def fitting(self) -> list[RolloutPrompt]:
        """The prompts that fit, in the order given."""
        return [prompt for prompt, _ in self._encoded]

    def of_step(self, step: int) -> list[EncodedPrompt]:
        """The prompts of a step: so many that were asked, then so many that were not; of both the next ones of an order drawn anew for every pass."""
        before, after = self._taken(step), self._taken(step + 1)
        return [
            prompt
            for pool, start, end in zip(self._pools, before, after, strict=True)
            for prompt in self._next(pool, start, end - start)
        ]

    def _taken(self, steps: int) -> tuple[int, int]:
        """How many of each pool so many steps take together: the same share of every step would be rounded to all or nothing of a small one."""
        size = self._settings.prompts_per_step
        asked, others = map(len, self._pools)
        if not asked or not others:
            return (steps * size, 0) if asked else (0, steps * size)
        share = max(self._settings.asked_share, asked / (asked + others))
        n_asked = math.ceil(steps * size * share - 1e-9)
        return n_asked, steps * size - n_asked

    def _next(self, pool: Sequence[EncodedPrompt], start: int, count: int) -> list[EncodedPrompt]:
        chosen = []
        for position in range(start, start + count):
            seed = self._settings.seed * 1_000_003 + position // len(pool)
            order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
            chosen.append(pool[int(order[position % len(pool)])])
        return chosen


def _encode(
    settings: PpoSettings, prompts: Sequence[RolloutPrompt], policy: Any, tokenizer: Any
) -> list[EncodedPrompt]:
    limit = settings.max_prompt_tokens
    positions = getattr(policy.config.get_text_config(), "max_position_embeddings", None)
    if positions:
        limit = min(limit, positions - settings.max_new_tokens)
    encoded = [(prompt, encode_prompt(tokenizer, prompt.prompt)) for prompt in prompts]
    kept = [(prompt, ids) for prompt, ids in encoded if 0 < len(ids) <= limit]
    if len(kept) < len(prompts):
        log.warning(
            "prompts left out",
            longer_than_tokens=limit,
            left_out=len(prompts) - len(kept),
            kept=len(kept),
        )
    if not kept:
        raise TrainingError(
            f"No prompt to train on: {len(prompts)} given, none between 1 and {limit} tokens. Raise max_prompt_tokens={settings.max_prompt_tokens} or add prompts."
        )
    return kept
