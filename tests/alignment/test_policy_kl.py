"""Which KL counts."""

from __future__ import annotations

import math

import pytest

from alignment.policy_kl import kl_of, sampled_kl_of, with_kl


@pytest.mark.parametrize(("drawn", "full"), [(3.0, 1.0), (1.0, 3.0)])
def test_the_larger_of_two_measures_counts(drawn: float, full: float) -> None:
    """One sees how far the texts have moved, the other what is never drawn."""
    assert 3.0 == kl_of({"objective/kl": drawn, "objective/kl_full": full})


def test_what_is_exported_is_what_counts() -> None:
    """Averaged weights have their own figure; those that sampled have theirs."""
    metrics = {"objective/kl": 3.0, "objective/kl_full": 2.0, "objective/kl_average": 1.0}

    assert (1.0, 3.0) == (kl_of(metrics), sampled_kl_of(metrics))


def test_a_figure_that_is_no_number_is_not_passed_over() -> None:
    """Else a broken run would look like a quiet one."""
    found = kl_of({"objective/kl": 1.0, "objective/kl_full": math.nan})

    assert found is not None
    assert math.isnan(found)


def test_a_policy_without_any_has_none() -> None:
    """As the base model has."""
    assert kl_of({"loss": 1.0}) is None


def test_a_kl_known_otherwise_takes_the_place_of_those_measured() -> None:
    """That of choosing among samples, say."""
    metrics = with_kl({"objective/kl": 3.0, "objective/kl_full": 2.0, "loss": 1.0}, 4.5)

    assert {"objective/kl": 4.5, "loss": 1.0} == metrics
    assert 4.5 == kl_of(metrics)
