"""How far a PPO run may go: KL budget, entropy floor, rise of refusals, and the newest weights that were measured within all of them.

Knows nothing of how a step is sampled or updated: metrics and weights come in, a verdict comes out. Different from keeping the best
checkpoint: the score decides nothing here, because scores of a reward model rise for as long as one lets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from torch import Tensor, nn

from alignment.errors import TrainingError
from alignment.models import snapshot_parameters
from alignment.policy_kl import kl_of
from alignment.ppo_settings import PpoSettings

log = structlog.get_logger(__name__)


class PpoLimits:
    """Judges each step's measurement and holds the weights to export."""

    def __init__(self, settings: PpoSettings) -> None:
        self._settings = settings
        self.first: dict[str, float] = {}
        """Metrics of the first step."""
        self.safe: dict[str, Tensor] | None = None
        """Newest policy weights that were measured within the limits."""
        self.safe_metrics: dict[str, float] = {}

    def crossed(self, metrics: dict[str, float], step: int) -> bool:
        """Whether the weights just measured are beyond a limit; the first call's metrics are what later ones are compared with.

        Args:
            metrics: Of the weights before the step's update.
            step: For the log.

        Raises:
            TrainingError: If the first weights are beyond it already: there is nothing to export.
        """
        settings, kl, entropy = self._settings, kl_of(metrics), metrics["objective/entropy"]
        assert kl is not None
        if not self.first:
            self.first = dict(metrics)
        # Written so that a KL that is not a number is over every budget.
        over_budget = settings.kl_budget is not None and not kl <= settings.kl_budget
        collapsed = (
            settings.entropy_floor is not None
            and entropy < settings.entropy_floor * self.first["objective/entropy"]
        )
        refuses = metrics["val/refusal_share"]
        gave_up = (
            settings.refusal_rise_limit is not None
            and refuses > self.first["val/refusal_share"] + settings.refusal_rise_limit
        )
        if not (over_budget or collapsed or gave_up):
            return False
        if self.safe is None:
            raise TrainingError(
                f"The policy starts {kl:.2f} nats from the reference model, beyond kl_budget={settings.kl_budget}: raise the budget."
            )
        log.warning(
            "training stopped at a limit",
            step=step,
            kl=kl,
            kl_budget=settings.kl_budget,
            entropy=entropy,
            refusal_share=refuses,
        )
        return True

    def mark_safe(
        self, metrics: dict[str, float], policy: nn.Module, average: Mapping[str, Tensor] | None
    ) -> None:
        """Keep a copy of the weights just measured.

        Args:
            metrics: Theirs.
            policy: Has them.
            average: Kept in their place when the run averages weights.
        """
        if average is None:
            self.safe = snapshot_parameters(policy)
        else:
            self.safe = {name: tensor.to("cpu", copy=True) for name, tensor in average.items()}
        self.safe_metrics = dict(metrics)

    def state(self) -> dict[str, Any]:
        """What of a run's saved state is decided here."""
        return {"first": self.first, "safe": self.safe, "safe_metrics": self.safe_metrics}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, which may hold more than `state` gave."""
        self.first, self.safe, self.safe_metrics = state["first"], state["safe"], state["safe_metrics"]
