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
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from alignment.answer_traits import TRAITS, describe
from alignment.records import RankedCompletions
from alignment.tie_likelihood import (
    TIE,
    comparison_log_likelihood,
    log_nu_at_tie_rate,
    pairs_of_ranking,
    rating_log_likelihood,
    threshold_at_up_rate,
)

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of the sum of squared weights, in nats; the one that predicts left-out questions best is taken."""
_FOLDS = 5
_LEAST_DEVIATION = 1e-3
"""A trait that varies less among the judged answers is left out: its weight would be a guess."""


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
    penalty: float
    """The one chosen; infinite when no weight helped."""

    def score(self, prompt: str, completion: str) -> float:
        """What a completion's traits are worth, in nats."""
        traits = describe(prompt, completion)
        return sum(
            weight * (value - mean) / deviation
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
            penalty=math.inf if value["penalty"] is None else value["penalty"],
        )


@dataclass(frozen=True, slots=True)
class _Judged:
    """Judgements as tensors: C completions, P pairs, R ratings."""

    traits: Tensor  # (C, F) float64
    pairs: Tensor  # (P, 3)
    pair_weights: Tensor  # (P,)
    pair_folds: Tensor  # (P,)
    ratings: Tensor  # (R,)
    labels: Tensor  # (R,)
    rating_weights: Tensor  # (R,)
    rating_folds: Tensor  # (R,)


def fit_traits(judgements: Sequence[RankedCompletions]) -> TraitModel:
    """Fit by penalised maximum likelihood, with the penalty that predicts left-out questions best.

    With no trait of any use, or too few questions to tell, all weights are 0.

    Args:
        judgements: Rankings and ratings; weights are relative.
    """
    judged, means, deviations = _standardise(_read(judgements))
    tie_rate, up_rate = _rates(judged)
    start = torch.tensor([log_nu_at_tie_rate(tie_rate), threshold_at_up_rate(up_rate)], dtype=torch.float64)
    nothing = torch.zeros(len(TRAITS), dtype=torch.float64)
    best_penalty, best = math.inf, _cross_validated(judged, math.inf, start)
    for penalty in PENALTIES:
        found = _cross_validated(judged, penalty, start)
        if found > best + 1e-9:
            best_penalty, best = penalty, found
    weights, scalars = (nothing, start) if math.isinf(best_penalty) else _fit(judged, best_penalty, start)
    return TraitModel(
        weights=tuple(weights.tolist()),
        means=tuple(means.tolist()),
        deviations=tuple(deviations.tolist()),
        log_nu=float(scalars[0]),
        threshold=float(scalars[1]),
        penalty=best_penalty,
    )


def _read(judgements: Sequence[RankedCompletions]) -> _Judged:
    traits: list[tuple[float, ...]] = []
    pairs: list[tuple[int, int, int]] = []
    ratings: list[int] = []
    labels, pair_weights, rating_weights, pair_folds, rating_folds = [], [], [], [], []
    total = sum(judgement.weight for judgement in judgements)
    scale = len(judgements) / total if total > 0 else 1.0
    for judgement in judgements:
        at = len(traits)
        traits += [describe(judgement.prompt, text) for text in judgement.completions]
        fold = zlib.crc32(judgement.question_id.encode()) % _FOLDS
        if judgement.ranking:
            for pair in pairs_of_ranking(judgement.ranking):
                pairs.append((at + pair.first, at + pair.second, pair.outcome))
                pair_weights.append(pair.weight * judgement.weight * scale)
                pair_folds.append(fold)
        else:
            ratings.append(at)
            labels.append(1.0 if judgement.label else -1.0)
            rating_weights.append(judgement.weight * scale)
            rating_folds.append(fold)
    return _Judged(
        traits=torch.tensor(traits, dtype=torch.float64).reshape(-1, len(TRAITS)),
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 3),
        pair_weights=torch.tensor(pair_weights, dtype=torch.float64),
        pair_folds=torch.tensor(pair_folds, dtype=torch.long),
        ratings=torch.tensor(ratings, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.float64),
        rating_weights=torch.tensor(rating_weights, dtype=torch.float64),
        rating_folds=torch.tensor(rating_folds, dtype=torch.long),
    )


def _standardise(judged: _Judged) -> tuple[_Judged, Tensor, Tensor]:
    means = judged.traits.mean(dim=0)
    spread = judged.traits.std(dim=0, unbiased=False)
    # An infinite deviation makes a trait that did not vary worth nothing; JSON has no infinity.
    deviations = torch.where(spread > _LEAST_DEVIATION, spread, torch.full_like(spread, 1e12))
    return replace(judged, traits=(judged.traits - means) / deviations), means, deviations


def _rates(judged: _Judged) -> tuple[float, float]:
    """Weighted shares of ties and of thumbs up."""
    pairs, ratings = float(judged.pair_weights.sum()), float(judged.rating_weights.sum())
    ties = float(judged.pair_weights[judged.pairs[:, 2] == TIE].sum())
    ups = float(judged.rating_weights[judged.labels > 0].sum())
    return ties / pairs if pairs else 0.0, ups / ratings if ratings else 0.5


def _cross_validated(judged: _Judged, penalty: float, start: Tensor) -> float:
    """Log-likelihood of each fold's judgements under a fit to the others, in nats."""
    total = 0.0
    for fold in range(_FOLDS):
        pair_in, rating_in = judged.pair_folds == fold, judged.rating_folds == fold
        if not (pair_in.any() or rating_in.any()):
            continue
        weights, scalars = _fit(_choose(judged, ~pair_in, ~rating_in), penalty, start)
        with torch.no_grad():
            total += float(_log_likelihood(_choose(judged, pair_in, rating_in), weights, scalars))
    return total


def _choose(judged: _Judged, pairs: Tensor, ratings: Tensor) -> _Judged:
    return replace(
        judged,
        pairs=judged.pairs[pairs],
        pair_weights=judged.pair_weights[pairs],
        pair_folds=judged.pair_folds[pairs],
        ratings=judged.ratings[ratings],
        labels=judged.labels[ratings],
        rating_weights=judged.rating_weights[ratings],
        rating_folds=judged.rating_folds[ratings],
    )


def _fit(judged: _Judged, penalty: float, start: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (F,) and scalars (2,): log nu, threshold. The problem is convex, so where it starts decides nothing."""
    weights = torch.zeros(judged.traits.shape[1], dtype=torch.float64)
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
        total: Tensor = held + weighed - _log_likelihood(judged, weights, scalars)
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach(), scalars.detach()


def _log_likelihood(judged: _Judged, weights: Tensor, scalars: Tensor) -> Tensor:
    scores = judged.traits @ weights
    first, second = scores[judged.pairs[:, 0]], scores[judged.pairs[:, 1]]
    said = comparison_log_likelihood(first, second, judged.pairs[:, 2], scalars[0])
    rated = rating_log_likelihood(scores[judged.ratings], judged.labels, scalars[1])
    return (judged.pair_weights * said).sum() + (judged.rating_weights * rated).sum()
