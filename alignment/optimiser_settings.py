"""Which optimiser makes a cycle's policy, and the settings of the one that trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from chatbot.best_of_n import Choice

OptimiserName = Literal["ppo", "best_of_n", "ppo_best_of_n", "trl_rloo"]
"""`ppo`: ours. `best_of_n`: the SFT policy, which serves the best of several completions by the cycle's reward. `ppo_best_of_n`: both.
`trl_rloo`: TRL's RLOOTrainer, under the settings of `ppo` that it knows."""

CHOOSERS: Final[frozenset[OptimiserName]] = frozenset(("best_of_n", "ppo_best_of_n"))
"""Those whose policy chooses among completions while it serves."""


@dataclass(frozen=True, kw_only=True)
class BestOfNSettings:
    """What a policy considers that serves the best of several completions."""

    views: bool = True
    """Its own completion under each of up to 13 layouts of the evidence: another sentence first, fewer sentences."""
    samples: int = 0
    """Completions drawn at a temperature, beside or without the views; 16 with `views=false` is the textbook's best of n."""
    margin: float = 0.3
    """How much better, in standard deviations of the reward, another completion must be than the policy's own. What people like moves answers away from what is known to
    be right: at 0 the overlap with known answers fell by five points on a handbook, at 0.3 by one and a half, for three points of win rate (lab log, 27 November)."""
    temperature: float = 1.5
    """Of the samples; as in `ppo`."""
    min_p: float = 0.02
    """Tokens less likely than this share of the likeliest, before the temperature, are not drawn; as in `ppo`."""

    def __post_init__(self) -> None:
        """Raise ValueError naming the field."""
        self.choice()

    def choice(self) -> Choice:
        """As a bundle holds it."""
        return Choice(
            samples=self.samples,
            temperature=self.temperature,
            min_p=self.min_p,
            views=self.views,
            margin=self.margin,
        )
