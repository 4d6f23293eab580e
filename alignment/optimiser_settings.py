"""Which optimiser makes a cycle's policy, and the settings of the one that trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chatbot.best_of_n import Choice

OptimiserName = Literal["ppo", "best_of_n", "ppo_best_of_n", "trl_rloo"]
"""`ppo`: ours. `best_of_n`: the SFT policy, which serves the best of several samples by the cycle's reward. `ppo_best_of_n`: both.
`trl_rloo`: TRL's RLOOTrainer, under the settings of `ppo` that it knows."""


@dataclass(frozen=True, kw_only=True)
class BestOfNSettings:
    """How many samples a policy that serves the best of them draws, and how."""

    n: int = 16
    """Samples for each answer; the prompt is read once. The policy moves at most ln n - (n - 1)/n nats."""
    temperature: float = 1.5
    """Of sampling; as in `ppo`."""
    min_p: float = 0.02
    """Tokens less likely than this share of the likeliest, before the temperature, are not drawn; as in `ppo`."""

    def __post_init__(self) -> None:
        """Raise ValueError naming the field."""
        self.choice()

    def choice(self) -> Choice:
        """As a bundle holds it."""
        return Choice(n=self.n, temperature=self.temperature, min_p=self.min_p)
