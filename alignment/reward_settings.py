"""The settings of the reward model. Loads no torch: settings are read where nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignment.precision import Precision


@dataclass(frozen=True, kw_only=True)
class RewardSettings:
    """How the reward model learns from judgements."""

    epochs: float = 3.0
    """Passes over the judgements; with many more a reward model learns its labelers' noise by heart."""
    learning_rate: float = 1e-4
    """Peak of AdamW's learning rate for the body; the head learns ten times as fast."""
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    batch_size: int = 8
    """Prompts, each with all its judged completions, per optimiser step."""
    micro_batch_size: int = 4
    """Prompts per forward pass; must divide `batch_size`."""
    max_length: int = 1024
    """Longest prompt and one completion together, in tokens; a longer prompt loses its beginning."""
    context: Literal["full", "question"] = "full"
    """What the judge reads before the completion. `full`: question and evidence, so that it can tell a right answer from a
    smooth one and a due refusal from a lazy one; the prompt is shared by its completions, which keeps this affordable.
    `question`: without the evidence, several times faster, judges style only; for very long prompts and few judgements."""
    center_coefficient: float = 0.01
    """Pull of all scores towards 0 (Eisenstein et al. 2023, arXiv:2312.09244, eq. 2): comparisons alone leave their level open."""
    traits: bool = True
    """Start from what is learned of the answers' visible traits (`answer_traits.py`); the language model learns the rest."""
    language_model_min_judgements: int = 1000
    """Judgements from which on the language model learns as well. With fewer it adds nothing to the traits that held-out judgements would show, and
    costs minutes in place of seconds. Without `traits` it always learns."""
    length: Literal["learned", "removed"] = "learned"
    """What scores make of length. `learned`: what people's judgements say. `removed`: nothing; for companies where longer answers are preferred whatever
    they say (`length_effect.py`)."""
    calibration_share: float = 0.1
    """Share of the questions that only say how sure scores are (`reward_calibration.py`), where the language model learns: of what it has seen it is too
    sure. 0 takes the scale that training ends with."""
    members: int = 4
    """Heads and fits of the traits, each with its own weights of the questions; where they disagree the judgements do not decide. 1 for a
    plain reward model."""
    demonstration_weight: float = 0.5
    """Of a demonstration as a comparison with what the base model says by itself; a comparison that a person made has 1. 0 leaves demonstrations out."""
    demonstration_samples: int = 2
    """Answers of the base model that a demonstration is compared with."""
    max_steps: int = -1
    """Stop after this many optimiser steps; -1 for the whole of `epochs`."""
    precision: Precision = "auto"
    """Of the matrix products: `auto`, `float32` or `bfloat16`."""
    seed: int = 11
    """Decides the head's first weights and the order of judgements."""

    def __post_init__(self) -> None:
        """Reject values that would fail in the middle of a run."""
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        for name in ("warmup_share", "calibration_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1)")
        for name, known in (("context", {"full", "question"}), ("length", {"learned", "removed"})):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} must be {' or '.join(sorted(known))}")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size={self.micro_batch_size} must divide batch_size={self.batch_size}"
            )
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"max_steps={self.max_steps} must be -1 or at least 1")


_LEAST = {
    "batch_size": 1,
    "micro_batch_size": 1,
    "members": 1,
    "demonstration_samples": 1,
    "demonstration_weight": 0,
    "center_coefficient": 0,
    "language_model_min_judgements": 0,
    "max_length": 16,
}
