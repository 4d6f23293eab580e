"""Which of the KL figures of a policy counts, where one number is asked for: by the limits of a run, by a gate, by a page.

Knows nothing of how they are measured (`experience.measure`, `ppo`). Different from taking the mean of the drawn tokens, as most trainers do: where unlikely tokens are
never drawn (`min_p`) that says how far the texts have moved, and nothing of what moved to those tokens, which the KL over the whole vocabulary sees; and it is of the weights that
sampled, which are not those exported where weights are averaged. Neither may run away, so the larger counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

KL = "objective/kl"
"""By k1, of the tokens that were drawn."""
FULL_KL = "objective/kl_full"
"""Over the whole vocabulary at each place of what was drawn."""
AVERAGE_KL = "objective/kl_average"
"""The larger of the two of the averaged weights, at the places of what the others drew."""


def kl_of(metrics: Mapping[str, float]) -> float | None:
    """Nats an answer from the SFT policy, of the weights that are exported; None where nothing was measured.

    >>> kl_of({"objective/kl": 2.0, "objective/kl_full": 2.5})
    2.5
    """
    return metrics[AVERAGE_KL] if AVERAGE_KL in metrics else sampled_kl_of(metrics)


def sampled_kl_of(metrics: Mapping[str, float]) -> float | None:
    """The same of the weights that sampled."""
    # A figure that is not a number must come out as what it is, so that no limit lets it by.
    found = [metrics[name] for name in (KL, FULL_KL) if name in metrics]
    return next((kl for kl in found if math.isnan(kl)), max(found)) if found else None


def with_kl(metrics: Mapping[str, float], kl: float) -> dict[str, float]:
    """The metrics of a policy whose KL is known otherwise, as that of one which chooses among samples is.

    Args:
        metrics: Of the weights.
        kl: Nats an answer.
    """
    kept = {name: value for name, value in metrics.items() if name not in (AVERAGE_KL, FULL_KL)}
    return kept | {KL: kl}
