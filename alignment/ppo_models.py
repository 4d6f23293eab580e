"""The models of a PPO run: policy, reference model, value model, and the forward passes that need no gradient.

Knows nothing of rewards or of the loop. With adapters and the same starting point, the reference model is the policy with its
adapters switched off; and RLOO has no value model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignment.completion_forward import TokenBatch, completion_outputs
from alignment.experience import TokenFigures, completion_logprobs, completion_values
from alignment.model_directory import load_causal_model, load_tokenizer
from alignment.models import (
    CausalForward,
    add_adapters,
    autocast,
    autocast_dtype,
    pick_device,
)
from alignment.ppo_settings import PpoSettings
from alignment.value_model import ValueModel, load_value_model


class PpoModels:
    """Loaded models on one device.

    Args:
        settings: Of the run.
        policy_dir: Weights and tokenizer.
        reference_dir: Weights of the reference model.
        value_init_dir: A reward model; only read when advantages come from a value model.

    Raises:
        TrainingError: If a directory does not hold what is wanted, or there is no GPU although one is asked for.
    """

    def __init__(
        self, settings: PpoSettings, policy_dir: Path, reference_dir: Path, value_init_dir: Path | None
    ) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self.dtype = autocast_dtype(settings.precision, self.device)
        self.tokenizer = load_tokenizer(policy_dir)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)  # adapters start at random
            self._load(policy_dir, reference_dir, value_init_dir)

    def _load(self, policy_dir: Path, reference_dir: Path, value_init_dir: Path | None) -> None:
        settings = self.settings
        self.policy: Any = load_causal_model(policy_dir, self.device)
        if settings.lora_rank:
            self.policy = add_adapters(self.policy, rank=settings.lora_rank, alpha=settings.lora_alpha)
        self.forward = CausalForward(self.policy)
        self._reference: CausalForward | None = None
        if not settings.lora_rank or policy_dir.resolve() != reference_dir.resolve():
            # Its parameters keep requiring gradients, though none is ever taken: torch chooses other kernels for those that do
            # not, and with other kernels the KL of equal weights is not exactly zero.
            self._reference = CausalForward(load_causal_model(reference_dir, self.device))
        self.value: ValueModel | None = None
        if settings.advantage == "gae" and value_init_dir is not None:
            self.value = load_value_model(
                value_init_dir, self.device, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha
            )

    def figures(self, tokens: TokenBatch) -> TokenFigures:
        """What the policy and the reference model say of the tokens, entropies included."""
        with autocast(self.device, self.dtype):
            return completion_logprobs(
                self.forward, tokens, self.settings, with_entropy=True, reference=self.reference_logits
            )

    def reference_logits(self, part: TokenBatch) -> Tensor:
        """Logits (N, T, V) of the reference model before each completion token."""
        share_prompts = self.settings.share_prompts
        if self._reference is not None:
            return completion_outputs(self._reference, part, share_prompts=share_prompts)
        with self.policy.disable_adapter():
            return completion_outputs(self.forward, part, share_prompts=share_prompts)

    def values(self, tokens: TokenBatch) -> Tensor | None:
        """The value model's predictions (N, T); None without one."""
        if self.value is None:
            return None
        with autocast(self.device, self.dtype):
            return completion_values(self.value, tokens, self.settings)
