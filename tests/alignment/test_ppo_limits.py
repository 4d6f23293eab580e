"""When a run of PPO ends early, and what it then exports."""

from __future__ import annotations

import pytest
import torch

from alignment.ppo_limits import PpoLimits
from alignment.ppo_settings import PpoSettings


def measured(*, kl: float = 1.0, entropy: float = 1.0, refusals: float = 0.1) -> dict[str, float]:
    """A step's metrics."""
    return {"objective/kl": kl, "objective/entropy": entropy, "val/refusal_share": refusals}


@pytest.fixture
def limits() -> PpoLimits:
    """After a first step that was within them."""
    made = PpoLimits(PpoSettings(kl_budget=4.0, entropy_floor=0.1, refusal_rise_limit=0.3))
    assert not made.crossed(measured(), 0)
    made.mark_safe(measured(), torch.nn.Linear(1, 1), None)
    return made


@pytest.mark.parametrize("within", [{"kl": 4.0}, {"entropy": 0.1}, {"refusals": 0.4}, {"refusals": 0.0}])
def test_a_step_at_a_limit_goes_on(limits: PpoLimits, within: dict[str, float]) -> None:
    """Only what lies beyond ends a run."""
    assert not limits.crossed(measured(**within), 1)


@pytest.mark.parametrize("beyond", [{"kl": float("nan")}, {"kl": 4.1}, {"entropy": 0.09}, {"refusals": 0.41}])
def test_a_step_beyond_a_limit_ends_the_run(limits: PpoLimits, beyond: dict[str, float]) -> None:
    """The KL to the reference, the entropy against the first step's, the refusals above the first step's."""
    assert limits.crossed(measured(**beyond), 1)


def test_a_limit_may_be_switched_off() -> None:
    """None asks for no limit."""
    limits = PpoLimits(PpoSettings(kl_budget=None, entropy_floor=None, refusal_rise_limit=None))
    limits.crossed(measured(), 0)

    assert not limits.crossed(measured(kl=99.0, entropy=0.0, refusals=1.0), 1)
