"""From scores to probabilities of what people say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignment.reward_calibration import (
    Calibration,
    JudgedScores,
    fit_calibration,
    log_likelihood,
    together,
)
from alignment.tie_likelihood import FIRST_WINS, SECOND_WINS, TIE

START = Calibration(log_nu=0.0, threshold=0.0)


def judged(
    pairs: list[tuple[float, float, int]], ratings: list[tuple[float, float]] | None = None
) -> JudgedScores:
    """Pairs of two scores and an outcome, ratings of a score and a label."""
    said = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 3)
    rated = torch.tensor(ratings or [], dtype=torch.float64).reshape(-1, 2)
    return JudgedScores(
        pairs=said[:, :2],
        outcomes=said[:, 2].long(),
        pair_weights=torch.ones(len(said), dtype=torch.float64),
        rated=rated[:, 0],
        labels=rated[:, 1],
        rating_weights=torch.ones(len(rated), dtype=torch.float64),
    )


def drawn(truth: Calibration, n: int = 20_000) -> JudgedScores:
    """What people say whose judgements follow a calibration."""
    rng = torch.Generator().manual_seed(3)
    scores = 2 * torch.randn(n, 2, generator=rng, dtype=torch.float64)
    likely = truth.outcome_log_probs(scores[:, 0], scores[:, 1]).exp()
    outcomes = torch.multinomial(likely, 1, generator=rng)[:, 0]
    rated = 2 * torch.randn(n, generator=rng, dtype=torch.float64)
    up = torch.rand(n, generator=rng, dtype=torch.float64) < torch.sigmoid(
        truth.scale * rated - truth.threshold
    )
    ones = torch.ones(n, dtype=torch.float64)
    return JudgedScores(
        pairs=scores,
        outcomes=outcomes,
        pair_weights=ones,
        rated=rated,
        labels=torch.where(up, 1.0, -1.0),
        rating_weights=ones,
    )


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_it_finds_how_sure_people_are(scale: float) -> None:
    """Scale, tie parameter and threshold, of scores that are too large, right and too small."""
    truth = Calibration(scale=scale, log_nu=-0.7, threshold=0.4)

    found = fit_calibration(drawn(truth), START)

    assert found.scale == pytest.approx(truth.scale, rel=0.1)
    assert found.log_nu == pytest.approx(truth.log_nu, abs=0.06)
    assert found.threshold == pytest.approx(truth.threshold, abs=0.06)


def test_nothing_said_changes_nothing() -> None:
    """The start is kept."""
    start = Calibration(scale=2.0, log_nu=-1.0, threshold=0.3)

    found = fit_calibration(judged([]), start)

    assert (found.scale, found.log_nu, found.threshold) == pytest.approx((2.0, -1.0, 0.3))


def test_one_surprise_does_not_carry_it_off() -> None:
    """A single judgement against a large difference makes the scale smaller, by less than a factor of three."""
    found = fit_calibration(judged([(3.0, -3.0, SECOND_WINS)]), START)

    assert 1 / 3 < found.scale < 1


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.sampled_from([FIRST_WINS, SECOND_WINS, TIE])),
        max_size=12,
    ),
    st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([1.0, -1.0])), max_size=12),
)
def test_it_never_predicts_what_was_said_worse_than_before(
    pairs: list[tuple[float, float, int]], ratings: list[tuple[float, float]]
) -> None:
    """Whatever was said, on the judgements that it was fitted to."""
    said = judged(pairs, ratings)

    assert log_likelihood(said, fit_calibration(said, START)) >= log_likelihood(said, START) - 1e-6


def test_several_parts_are_one() -> None:
    """Their log-likelihoods add up."""
    first, second = judged([(1.0, 0.0, FIRST_WINS)]), judged([(0.0, 0.5, TIE)], [(1.0, 1.0)])

    whole = log_likelihood(together([first, second]), START)

    assert whole == pytest.approx(log_likelihood(first, START) + log_likelihood(second, START))


def test_probabilities_follow_davidson() -> None:
    """At a scaled difference of ln 4 and nu = 1, the odds are 4 to 1 to a tie of 2."""
    calibration = Calibration(scale=0.5, log_nu=0.0, threshold=0.0)
    log_probs = calibration.outcome_log_probs(
        torch.tensor([2 * math.log(4.0)], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    )

    assert log_probs.exp()[0].tolist() == pytest.approx([4 / 7, 1 / 7, 2 / 7])


def test_it_finds_how_closely_thumbs_follow_the_score() -> None:
    """They may follow it less closely than comparisons do."""
    truth = Calibration(scale=1.0, log_nu=-0.7, threshold=0.4, slope=0.3)
    said = drawn(truth)
    rng = torch.Generator().manual_seed(8)
    up = torch.rand(len(said.rated), generator=rng, dtype=torch.float64) < torch.sigmoid(
        truth.slope * (said.rated - truth.threshold)
    )

    found = fit_calibration(dataclasses.replace(said, labels=torch.where(up, 1.0, -1.0).double()), START)

    assert found.slope == pytest.approx(truth.slope, rel=0.1)


def test_it_finds_how_many_judgements_have_nothing_to_do_with_the_answers() -> None:
    """Three judgements of ten at random leave the scale what it is for the others."""
    truth = Calibration(scale=2.0, log_nu=-0.7, threshold=0.4)
    said = drawn(truth)
    rng = torch.Generator().manual_seed(9)
    clicked = torch.rand(len(said.outcomes), generator=rng) < 0.3
    guesses = torch.multinomial(
        torch.tensor([0.45, 0.45, 0.1]), len(said.outcomes), replacement=True, generator=rng
    )
    outcomes = torch.where(clicked, guesses, said.outcomes)

    found = fit_calibration(
        dataclasses.replace(
            said,
            outcomes=outcomes,
            rated=said.rated[:0],
            labels=said.labels[:0],
            rating_weights=said.rating_weights[:0],
        ),
        START,
    )

    assert found.clicks == pytest.approx(0.3, abs=0.03)
    assert found.scale == pytest.approx(2.0, rel=0.1)
    assert float(found.outcome_log_probs(torch.tensor([9.0]), torch.tensor([0.0]))[0].exp().max()) < 0.9


def test_probabilities_add_up_with_clicks() -> None:
    """Whatever the share of clicks and of ties among them."""
    calibration = Calibration(scale=1.0, log_nu=-0.5, threshold=0.0, clicks=0.4, tie_rate=0.3)

    likely = calibration.outcome_log_probs(torch.tensor([0.0, 3.0]), torch.tensor([1.0, -3.0])).exp()

    assert likely.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
