"""Which prompts a PPO step samples for: rendered prompts, encoded once, in an order drawn anew for every pass.

Knows nothing of completions or rewards. Different from a shuffling data loader: there is no position to save. The prompts of a step are
a function of seed and step, so that a resumed run takes those that the uninterrupted one would have taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import torch

from alignment.errors import TrainingError
from alignment.padding import encode_prompt
from alignment.ppo_models import PpoModels
from alignment.ppo_settings import PpoSettings
from alignment.records import RolloutPrompt

log = structlog.get_logger(__name__)

EncodedPrompt = tuple[RolloutPrompt, list[int]]
"""A prompt and its token ids."""


class TrainingPrompts:
    """The prompts of a run that fit.

    Args:
        settings: Of the run.
        models: Whose tokenizer encodes, and whose policy may have fewer positions than the settings allow.
        prompts: All there are; those too long are left out, with a line in the log.

    Raises:
        TrainingError: If none fits.
    """

    def __init__(self, settings: PpoSettings, models: PpoModels, prompts: Sequence[RolloutPrompt]) -> None:
        self._settings = settings
        self._encoded = _encode(settings, models, prompts)
        self.n_left_out = len(prompts) - len(self._encoded)

    @property
    def ids(self) -> list[str]:
        """Of the prompts that fit, in the order given."""
        return [prompt.id for prompt, _ in self._encoded]

    def of_step(self, step: int) -> list[EncodedPrompt]:
        """The prompts of a step: consecutive ones of an order drawn anew for every pass, so that each is used equally often."""
        size, n = self._settings.prompts_per_step, len(self._encoded)
        chosen = []
        for position in range(step * size, (step + 1) * size):
            generator = torch.Generator().manual_seed(self._settings.seed * 1_000_003 + position // n)
            order = torch.randperm(n, generator=generator)
            chosen.append(self._encoded[int(order[position % n])])
        return chosen


def _encode(
    settings: PpoSettings, models: PpoModels, prompts: Sequence[RolloutPrompt]
) -> list[EncodedPrompt]:
    limit = settings.max_prompt_tokens
    positions = getattr(models.policy.config.get_text_config(), "max_position_embeddings", None)
    if positions:
        limit = min(limit, positions - settings.max_new_tokens)
    encoded = [(prompt, encode_prompt(models.tokenizer, prompt.prompt)) for prompt in prompts]
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
            f"No prompt to train on: {len(prompts)} given, none between 1 and {limit} tokens. Raise max_prompt_tokens or add prompts."
        )
    return kept
