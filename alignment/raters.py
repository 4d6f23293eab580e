"""How far each employee's judgements can be trusted, found from the judgements alone, and how much any one of them may weigh.

    judgements ─▶ shared taste (a trait model) ◀─▶ reliability of each rater ─▶ weights, quarantine with the reason, disagreements

Crowd-BT (Chen et al. 2013, WSDM, eq. 4) fits scores of items and a rater's share of meant judgements together. Here the items are visible traits of
answers, because two employees rarely judge the same answer, and the likelihood takes ties, rankings and thumbs (`tie_likelihood.py`):

    P(judgement j of rater u) = pi_u P(j | shared taste) + (1 - pi_u) P(j | guess of u)

A guess of u has u's own shares of ties and of thumbs up and no opinion of the answers, so who always clicks "up" proves nothing either way. Who means it has
habits too: how readily u calls two answers equal, and how much u asks of an answer before the thumb goes up, are u's own, or everybody with another habit than
most would look like somebody who does not look. By expectation
maximisation: the taste is fitted with each judgement weighted by the probability that it was meant; pi_u has a Beta prior and is integrated on a grid, which
gives an interval as well.

Knows nothing of accounts or files. Different from the paper in two more ways: a judgement is predicted by a fit that has not seen its question, so
that few judgements look uncertain and not reliable; and no rater weighs more than a share of the whole, however reliable.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignment.rater_agreement import compare_raters
from alignment.rater_influence import cap_influence
from alignment.rater_records import KnownRaters, RaterEstimate, RaterReport, RaterSettings
from alignment.rater_weights import count_judgements, weights_of
from alignment.records import RankedCompletions
from alignment.tie_likelihood import FIRST_WINS, TIE
from alignment.trait_data import FOLDS, TraitData, read_traits, standardise
from alignment.trait_model import choose_penalty, fit_weights, said_log_probs, start_of

_log = structlog.get_logger(__name__)

Array = NDArray[np.float64]

_GRID = np.linspace(0.0025, 0.9975, 200)
"""Values of pi that its posterior is computed on."""
_OPPOSITE = 0.35
"""Who agrees with the shared taste less often does not guess."""
_GUESS_STRENGTH = 4.0
"""A rater's own shares of ties and thumbs up are drawn to everybody's by so many judgements."""
_HABITS = np.linspace(-3.0, 3.0, 13)
"""How far a rater's ln nu and threshold of thumbs may lie from everybody's; each with a standard normal prior."""
_CHANCE = 0.6
"""Who agrees more often than that and still seems to guess is told so in other words: they agree where anybody would."""


def estimate_raters(
    judgements: Sequence[RankedCompletions],
    settings: RaterSettings | None = None,
    known: KnownRaters | None = None,
) -> RaterReport:
    """Estimate everybody's reliability and weight.

    Args:
        judgements: Rankings and ratings of everybody.
        settings: See `RaterSettings`.
        known: See `KnownRaters`.
    """
    settings, known = settings or RaterSettings(), known or KnownRaters()
    if not judgements:
        return RaterReport()
    by_rater = _numbers_by_rater(judgements)
    found = _Estimation(judgements, by_rater, settings).run()
    raters = [replace(found[name], reason=_reason(found[name], settings, known)) for name in by_rater]
    weights = weights_of(RaterReport(raters=raters), judgements, settings, known)
    raters = [replace(rater, weight=weights[rater.labeler_id]) for rater in raters]
    agreement, n_shared, disagreements = compare_raters(judgements)
    report = RaterReport(
        raters=sorted(raters, key=lambda r: (r.reliability, r.labeler_id)),
        agreement=agreement,
        n_shared_pairs=n_shared,
        disagreements=disagreements,
    )
    _log.info(
        "raters_estimated",
        raters=len(raters),
        quarantined=len(report.quarantined),
        least_reliable=round(report.raters[0].reliability, 2),
    )
    return report


def _numbers_by_rater(judgements: Sequence[RankedCompletions]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, judgement in enumerate(judgements):
        numbers[judgement.labeler_id].append(number)
    return dict(sorted(numbers.items()))


class _Estimation:
    """Expectation maximisation over N judgements."""

    def __init__(
        self,
        judgements: Sequence[RankedCompletions],
        by_rater: Mapping[str, Sequence[int]],
        settings: RaterSettings,
    ) -> None:
        self._by_rater = by_rater
        self._settings = settings
        self._data, _, _ = standardise(read_traits(judgements))
        self._start = start_of(self._data)
        self._counts = count_judgements(judgements)
        self._shares: Array = np.array([judgement.weight for judgement in judgements])
        """(N,) 1, or less where several rows are one click."""
        self._guess = _guesses(self._data, by_rater, torch.from_numpy(self._shares))

    def run(self) -> dict[str, RaterEstimate]:
        """Estimates without weights, by rater."""
        meant = np.ones(len(self._data.weights))
        said = np.zeros_like(meant)
        agrees: dict[str, float | None] = {}
        for _ in range(self._settings.rounds):
            data = replace(self._data, weights=torch.from_numpy(self._capped(meant)))
            # Anew each round: without the noise of those who guess, a taste may be stronger.
            said, agrees = self._predict(data, choose_penalty(data, self._start), meant)
            for numbers in self._by_rater.values():
                meant[numbers] = _meant(said[numbers], self._guess[numbers], self._posterior(said, numbers))
        return {
            name: _estimate(name, self._posterior(said, numbers), round(self._counts[name]), agrees[name])
            for name, numbers in self._by_rater.items()
        }

    def _capped(self, meant: Array) -> Array:
        """Weights (N,) of the fit: nobody may be most of the taste that they are measured by."""
        weights: Array = meant * self._shares
        means = {
            name: float(weights[numbers].sum()) / self._counts[name]
            for name, numbers in self._by_rater.items()
        }
        capped = cap_influence(means, self._counts, self._settings, {})
        for name, numbers in self._by_rater.items():
            weights[numbers] *= capped[name] / means[name]
        return weights

    def _predict(
        self, data: TraitData, penalty: float, meant: Array
    ) -> tuple[Array, dict[str, float | None]]:
        """Log-likelihood (N,) of each judgement under a fit to other questions and its rater's habits, and each rater's agreement with it."""
        n = len(data.weights)
        compared = torch.zeros(len(_HABITS), n, dtype=torch.float64)
        rated = torch.zeros_like(compared)
        same, decided = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        for fold in range(FOLDS):
            inside = data.only(data.folds == fold)
            weights, scalars = fit_weights(data.only(data.folds != fold), penalty, self._start)
            worth = inside.pair_shares * data.free[inside.pair_owners]
            with torch.no_grad():
                scores = inside.traits @ weights
                for row, habit in enumerate(_HABITS):
                    moved = scalars + torch.tensor([habit, habit, 0.0], dtype=torch.float64)
                    pairs, ratings = said_log_probs(inside, weights, moved)
                    compared[row].index_add_(0, inside.pair_owners, pairs * worth)
                    rated[row].index_add_(0, inside.rating_owners, ratings)
            difference = scores[inside.pairs[:, 0]] - scores[inside.pairs[:, 1]]
            counts = ((inside.pairs[:, 2] != TIE) & (difference != 0)).double() * inside.pair_shares
            won = (difference > 0) == (inside.pairs[:, 2] == FIRST_WINS)
            same.index_add_(0, inside.pair_owners, counts * won)
            decided.index_add_(0, inside.pair_owners, counts)
        agrees: dict[str, float | None] = {}
        for name, numbers in self._by_rater.items():
            n_decided = float(decided[list(numbers)].sum())
            agrees[name] = float(same[list(numbers)].sum()) / n_decided if n_decided else None
        return self._with_habits(compared.numpy(), meant) + self._with_habits(rated.numpy(), meant), agrees

    def _with_habits(self, said: Array, meant: Array) -> Array:
        """Log-likelihood (N,) at the habit that each rater's meant judgements make most likely.

        Args:
            said: (H, N) under each of `_HABITS`.
            meant: (N,) how surely each judgement was.
        """
        likely: Array = said[len(_HABITS) // 2].copy()
        for numbers in self._by_rater.values():
            own = said[:, numbers]
            best = np.argmax(own @ (meant * self._shares)[numbers] - _HABITS**2 / 2)
            likely[numbers] = own[best]
        return likely

    def _posterior(self, all_said: Array, numbers: Sequence[int]) -> Array:
        """Probabilities on `_GRID` of the pi of a rater with these judgements, (G,)."""
        settings, said, guess = self._settings, all_said[numbers], self._guess[numbers]
        alpha = settings.prior_reliability * settings.prior_strength
        beta = settings.prior_strength - alpha
        log = (alpha - 1) * np.log(_GRID) + (beta - 1) * np.log1p(-_GRID)
        each = np.logaddexp(np.log(_GRID)[:, None] + said, np.log1p(-_GRID)[:, None] + guess)
        log += each @ self._shares[numbers]
        weights = np.exp(log - log.max())
        posterior: Array = weights / weights.sum()
        return posterior


def _guesses(data: TraitData, by_rater: Mapping[str, Sequence[int]], shares: Tensor) -> Array:
    """Log-likelihood (N,) of each judgement by somebody with its rater's shares of ties and thumbs up who does not look at answers.

    Args:
        data: All judgements.
        by_rater: Their numbers.
        shares: (N,) what each counts.
    """
    tie_rate, up_rate = data.rates()
    log = torch.zeros(len(data.weights), dtype=torch.float64)
    for numbers in by_rater.values():
        mine = torch.zeros(len(log), dtype=torch.bool)
        mine[list(numbers)] = True
        own = data.only(mine)
        worth, rated = own.pair_shares * shares[own.pair_owners], shares[own.rating_owners]
        ties = float(worth[own.pairs[:, 2] == TIE].sum())
        tie = (ties + _GUESS_STRENGTH * tie_rate) / (float(worth.sum()) + _GUESS_STRENGTH)
        ups = float(rated[own.labels > 0].sum())
        up = (ups + _GUESS_STRENGTH * up_rate) / (float(rated.sum()) + _GUESS_STRENGTH)
        tie, up = (min(max(share, 0.01), 0.99) for share in (tie, up))
        pairs = torch.where(own.pairs[:, 2] == TIE, math.log(tie), math.log((1 - tie) / 2))
        log.index_add_(0, own.pair_owners, pairs.double() * own.pair_shares * data.free[own.pair_owners])
        ratings = torch.where(own.labels > 0, math.log(up), math.log(1 - up))
        log.index_add_(0, own.rating_owners, ratings.double())
    return log.numpy()


def _meant(said: Array, guess: Array, posterior: Array) -> Array:
    """Probability (n,) that each of a rater's judgements was meant, pi integrated out."""
    odds = np.log(_GRID)[:, None] + said - np.log1p(-_GRID)[:, None] - guess
    meant: Array = posterior @ (1 / (1 + np.exp(-np.clip(odds, -50, 50))))
    return meant


def _estimate(name: str, posterior: Array, n: int, agrees: float | None) -> RaterEstimate:
    below = np.cumsum(posterior)
    return RaterEstimate(
        labeler_id=name,
        n_judgements=n,
        reliability=float(posterior @ _GRID),
        low=float(_GRID[np.searchsorted(below, 0.025)]),
        high=float(_GRID[min(int(np.searchsorted(below, 0.975)), len(_GRID) - 1)]),
        agrees=agrees,
        weight=1.0,
    )


def _reason(rater: RaterEstimate, settings: RaterSettings, known: KnownRaters) -> str:
    """Why somebody is left out; empty when they are not."""
    if rater.labeler_id in known.excluded:
        return "left out by a reviewer"
    too_few = rater.n_judgements < settings.min_judgements
    if (
        not settings.enabled
        or rater.labeler_id in known.trusted
        or too_few
        or rater.high >= settings.quarantine_below
    ):
        return ""
    if rater.agrees is None:
        return f"{rater.n_judgements} ties and thumbs say nothing of the answers: at most {rater.high:.0%} of them seem meant"
    if rater.agrees < _OPPOSITE:
        seems = "the opposite of what others prefer"
    else:
        seems = (
            "no better than chance"
            if rater.agrees <= _CHANCE
            else "hardly more than somebody who does not look"
        )
    return (
        f"{rater.n_judgements} judgements agree with the others' taste in {rater.agrees:.0%} of the choices, {seems}: "
        f"at most {rater.high:.0%} of them seem meant"
    )
