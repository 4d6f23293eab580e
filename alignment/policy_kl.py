"""Which of the KL figures of a policy counts, where one number is asked for: by the limits of a run, by a gate, by a page.

Knows nothing of how they are measured (`experience.measure`, `ppo`). Different from taking the mean of the drawn tokens, as most trainers do: that is an
estimate which a cut of unlikely tokens biases, and it is of the weights that sampled, which are not those exported where weights are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping

KL = "objective/kl"
"""By k1, of the tokens that were drawn."""
FULL_KL = "objective/kl_full"
"""Over the whole vocabulary at each place of what was drawn."""
AVERAGE_KL = "objective/kl_average"
"""The same of the averaged weights, at the places of what the others drew."""


def kl_of(metrics: Mapping[str, float]) -> float | None:
    """Nats an answer from the SFT policy, by the best measure there is; None where there is none.

    >>> kl_of({"objective/kl": 2.0, "objective/kl_full": 2.5})
    2.5
    """
    for name in (AVERAGE_KL, FULL_KL, KL):
        if name in metrics:
            return metrics[name]
    return None


def with_kl(metrics: Mapping[str, float], kl: float) -> dict[str, float]:
    """The metrics of a policy whose KL is known otherwise, as that of one which chooses among samples is.

    Args:
        metrics: Of the weights.
        kl: Nats an answer.
    """
    kept = {name: value for name, value in metrics.items() if name not in (AVERAGE_KL, FULL_KL)}
    return kept | {KL: kl}
