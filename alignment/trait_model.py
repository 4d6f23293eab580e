"""Learns from judgements what the visible traits of an answer are worth: a reward for when there are few judgements.

A language model needs thousands of comparisons before it knows what people like; a company has a hundred after its first week. A linear
score of a dozen traits is learned from those hundred. Measured on 124 simulated judgements (docs/lab-log.md, 26 November): of two answers
the language model found the better one in 55 of 100 cases, the traits in 79. So the reward model starts from this score, and the
language model learns what it leaves unexplained.

Different from a hand-written reward: no weight is chosen by us, and how far weights may grow is chosen by cross-validation over
questions. Different from a regression on ratings: comparisons, rankings with ties and thumbs are one likelihood (`tie_likelihood.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alignment.answer_traits import TRAITS, describe
from alignment.records import RankedCompletions
from alignment.tie_likelihood import (
    comparison_log_likelihood,
    log_nu_at_tie_rate,
    rating_log_likelihood,
    threshold_at_up_rate,
)
from alignment.trait_data import FARTHEST, FOLDS, REFUSES, TraitData, read_traits, standardise

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of the sum of squared weights, in nats; the one that predicts left-out questions best is taken."""
LEAST_COMPARED = 20
"""With fewer comparisons that somebody made, the penalty is chosen by all judgements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitModel:
    """A linear score of traits."""

    weights: tuple[float, ...]
    """Nats per standard deviation of each of `TRAITS`; 0 for a trait that did not vary."""
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    log_nu: float
    """Tie parameter."""
    threshold: float
    """Of thumbs."""
    slope: float
    """Of thumbs: how closely they follow the score."""
    penalty: float
    """The one chosen; infinite when no weight helped."""

    def score(self, prompt: str, completion: str) -> float:
        """What a completion's traits are worth, in nats."""
        return self.score_traits(describe(prompt, completion))

    def score_traits(self, traits: Sequence[float]) -> float:
        """As `score`, of traits already read."""
        if traits[REFUSES] > 0:
            return self.weights[REFUSES] * (1 - self.means[REFUSES]) / self.deviations[REFUSES]
        return sum(
            weight * min(max((value - mean) / deviation, -FARTHEST), FARTHEST)
            for weight, value, mean, deviation in zip(
                self.weights, traits, self.means, self.deviations, strict=True
            )
        )

    def by_name(self) -> dict[str, float]:
        """Weights by trait, the heaviest first; for reports."""
        return dict(sorted(zip(TRAITS, self.weights, strict=True), key=lambda item: -abs(item[1])))

    def to_json(self) -> dict[str, Any]:
        """A value for JSON; `from_json` reads it."""
        return asdict(self) | {
            "traits": list(TRAITS),
            "penalty": None if math.isinf(self.penalty) else self.penalty,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TraitModel:
        """What `to_json` wrote.

        Raises:
            ValueError: it was written with other traits than today's.
        """
        if tuple(value["traits"]) != TRAITS:
            raise ValueError("it scores other traits than this version of Tacit knows")
        return cls(
            weights=tuple(value["weights"]),
            means=tuple(value["means"]),
            deviations=tuple(value["deviations"]),
            log_nu=value["log_nu"],
            threshold=value["threshold"],
            slope=value["slope"],
            penalty=math.inf if value["penalty"] is None else value["penalty"],
        )


def fit_traits(judgements: Sequence[RankedCompletions]) -> TraitModel:
    """Fit by penalised maximum likelihood, with the penalty that predicts left-out questions best.

    With no trait of any use, or too few questions to tell, all weights are 0.

    Args:
        judgements: Rankings and ratings; weights are relative.
    """
    return fit_members(judgements, np.ones((len(judgements), 1)))[0]


def fit_members(
    judgements: Sequence[RankedCompletions], shares: NDArray[np.float64], penalty: float | None = None
) -> list[TraitModel]:
    """One fit for each way of weighing the judgements; the penalty and the scale of the traits are those of all judgements.

    Args:
        judgements: N rankings and ratings.
        shares: (N, M) factors of their weights (`bootstrap_shares`).
        penalty: To use; None chooses one.
    """
    data, means, deviations = standardise(read_traits(judgements))
    start = start_of(data)
    penalty = choose_penalty(data, start) if penalty is None else penalty
    fits = [
        fit_weights(replace(data, weights=data.weights * torch.from_numpy(member)), penalty, start)
        for member in np.ascontiguousarray(shares.T)
    ]
    return [
        TraitModel(
            weights=tuple(weights.tolist()),
            means=tuple(means.tolist()),
            deviations=tuple(deviations.tolist()),
            log_nu=float(scalars[0]),
            threshold=float(scalars[1]),
            slope=math.exp(float(scalars[2])),
            penalty=penalty,
        )
        for weights, scalars in fits
    ]


def score_by_each(models: Sequence[TraitModel], prompt: str, completion: str) -> tuple[float, ...]:
    """(M,) what a completion's traits are worth to each of several fits, in nats; the traits are read once."""
    traits = describe(prompt, completion)
    return tuple(model.score_traits(traits) for model in models)


def start_of(data: TraitData) -> Tensor:
    """Where the tie parameter and the threshold and log slope of thumbs start: (3,)."""
    tie_rate, up_rate = data.rates()
    return torch.tensor(
        [log_nu_at_tie_rate(tie_rate), threshold_at_up_rate(up_rate), 0.0], dtype=torch.float64
    )


def choose_penalty(data: TraitData, start: Tensor) -> float:
    """The one of `PENALTIES` that predicts left-out questions best; infinite when none does better than no weights at all.

    By comparisons that somebody made, where there are enough: to tell answers to one question apart is what is asked of the score. Thumbs are of answers to different questions, and
    a demonstration differs from the answers beside it in ways that no two of these do; weighed by all, either can end in no weights where comparisons alone say a lot
    (lab log, 28 November). Fits learn from all.
    """
    told_by = data.compared if int(data.compared.sum()) >= LEAST_COMPARED else torch.ones_like(data.compared)
    best_penalty, best = math.inf, _cross_validated(data, math.inf, start, told_by)
    for penalty in PENALTIES:
        found = _cross_validated(data, penalty, start, told_by)
        if found > best + 1e-9:
            best_penalty, best = penalty, found
    return best_penalty


def _cross_validated(data: TraitData, penalty: float, start: Tensor, told_by: Tensor) -> float:
    """Log-likelihood, in nats, of those of each fold's judgements that a mask (N,) leaves, under a fit to all of the others."""
    total = 0.0
    for fold in range(FOLDS):
        inside = data.only((data.folds == fold) & told_by)
        if not (len(inside.pairs) or len(inside.ratings)):
            continue
        weights, scalars = fit_weights(data.only(data.folds != fold), penalty, start)
        with torch.no_grad():
            total += float(_log_likelihood(inside, weights, scalars))
    return total


def fit_weights(data: TraitData, penalty: float, start: Tensor) -> tuple[Tensor, Tensor]:
    """The most likely weights (F,) and scalars (3,): ln nu, threshold, ln slope. Convex but for the slope.

    Args:
        data: Standardised.
        penalty: Of the sum of squared weights; infinite leaves them 0.
        start: See `start_of`.
    """
    weights = torch.zeros(data.traits.shape[1], dtype=torch.float64)
    scalars = start.clone()
    learned = [scalars.requires_grad_(True)]
    if not math.isinf(penalty):
        learned.append(weights.requires_grad_(True))
    optimizer = torch.optim.LBFGS(learned, max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        # The scalars are held near their start: without a single tie the likelihood pulls ln nu to minus infinity.
        held = ((scalars - start) ** 2).sum()
        weighed = 0.0 if math.isinf(penalty) else penalty * (weights**2).sum()
        total: Tensor = held + weighed - _log_likelihood(data, weights, scalars)
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach(), scalars.detach()


def said_log_probs(data: TraitData, weights: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of what was said, in nats, weights of judgements left out: pairs (P,) and ratings (R,)."""
    scores = data.traits @ weights
    first, second = scores[data.pairs[:, 0]], scores[data.pairs[:, 1]]
    return (
        comparison_log_likelihood(first, second, data.pairs[:, 2], scalars[0]),
        rating_log_likelihood(scores[data.ratings], data.labels, scalars[1], scalars[2].exp()),
    )


def _log_likelihood(data: TraitData, weights: Tensor, scalars: Tensor) -> Tensor:
    said, rated = said_log_probs(data, weights, scalars)
    return (data.pair_weights * said).sum() + (data.rating_weights * rated).sum()
