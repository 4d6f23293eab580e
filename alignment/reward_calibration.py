"""Puts scores on the scale of what people say: how far apart two answers have to be before nine people of ten agree.

Knows nothing of models or text: scores in, five numbers out. What a reward model has seen it predicts too surely, so the numbers are fitted on
judgements of questions that it was not trained on.

Different from Platt scaling (Platt 1999, "Probabilistic outputs for support vector machines") and from a temperature (Guo et al. 2017, arXiv:1706.04599,
section 4.2), which know two outcomes or one number: judgements can be ties and thumbs, so the tie parameter and the threshold and slope of
thumbs are fitted beside the scale, and so is the share of clicks: of judgements that would have been made whatever the answers were. Without it a few judgements against a large
difference make all differences small, and where people agree in seven cases of ten a model says it is a toss-up.

Shapes: P judged pairs, R ratings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor

from alignment.reward_dataset import Element
from alignment.tie_likelihood import (
    TIE,
    comparison_log_likelihood,
    davidson_log_probs,
    rating_log_likelihood,
)

_FIRST_CLICKS = 0.05
_COST_OF_CLICKS = 5.0
_TINY = 1e-30
"""Keeps the logarithm of what can hardly be finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From scores to probabilities of what is said."""

    scale: float = 1.0
    """Nats of a difference in score."""
    log_nu: float
    """Tie parameter of Davidson's model."""
    threshold: float
    """The score, times `scale`, at which a thumb up is as likely as a thumb down."""
    slope: float = 1.0
    """How closely thumbs follow the score; see `tie_likelihood`."""
    clicks: float = 0.0
    """Share of judgements that have nothing to do with the answers."""
    tie_rate: float = 0.0
    """Share of ties among these; the rest prefers either with the same probability."""

    def outcome_log_probs(self, score_a: Tensor, score_b: Tensor) -> Tensor:
        """Log-probabilities (N, 3) of first wins, second wins and tie, for scores (N,)."""
        meant = davidson_log_probs(self.scale * score_a, self.scale * score_b, torch.tensor(self.log_nu))
        won = (1 - self.tie_rate) / 2
        clicked = torch.tensor([won, won, self.tie_rate], dtype=meant.dtype)
        return torch.log((1 - self.clicks) * meant.exp() + self.clicks * clicked)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedScores:
    """Scores of judged completions with what was said of them, all float64."""

    pairs: Tensor
    """(P, 2) scores of the first and the second."""
    outcomes: Tensor
    """(P,) int64, see `tie_likelihood`."""
    pair_weights: Tensor
    """(P,)"""
    rated: Tensor
    """(R,) scores."""
    labels: Tensor
    """(R,) +1 or -1."""
    rating_weights: Tensor
    """(R,)"""


def judged_scores(elements: Sequence[Element], scores: Sequence[Sequence[float]]) -> JudgedScores:
    """What was said of elements, with their completions' scores.

    Args:
        elements: Judged.
        scores: Of each element's completions.
    """
    both = list(zip(elements, scores, strict=True))
    pairs = [(score[p[0]], score[p[1]], p[2], p[3]) for element, score in both for p in element.pairs]
    ratings = [(score[r[0]], r[1], r[2]) for element, score in both for r in element.ratings]
    said = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 4)
    rated = torch.tensor(ratings, dtype=torch.float64).reshape(-1, 3)
    return JudgedScores(
        pairs=said[:, :2],
        outcomes=said[:, 2].long(),
        pair_weights=said[:, 3],
        rated=rated[:, 0],
        labels=rated[:, 1],
        rating_weights=rated[:, 2],
    )


def together(parts: Sequence[JudgedScores]) -> JudgedScores:
    """Several as one."""
    names = [field.name for field in fields(JudgedScores)]
    return JudgedScores(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def log_likelihood(judged: JudgedScores, calibration: Calibration) -> float:
    """Weighted sum of the log-likelihoods of what was said, in nats."""
    return float(_log_likelihood(judged, *torch.tensor(astuple(calibration), dtype=torch.float64).unbind()))


def fit_calibration(judged: JudgedScores, start: Calibration) -> Calibration:
    """The most likely calibration.

    All are held near their start, a change by a factor of e (or of the threshold by one) costs a nat, so that ten judgements cannot carry them off; a share of clicks c
    costs five nats times c (an exponential prior of mean 0.2). Ties among clicks are as frequent as among all judgements.

    Args:
        judged: Of questions that the scores were not learned from.
        start: Where to begin, and what is kept where there is nothing to learn from.
    """
    begin = torch.tensor(
        [math.log(start.scale), start.log_nu, start.threshold, math.log(start.slope)], dtype=torch.float64
    )
    moved = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    # Where it starts decides nothing but how long it takes; at 0 or 1 there would be no gradient.
    logit = torch.tensor(
        math.log(_FIRST_CLICKS / (1 - _FIRST_CLICKS)), dtype=torch.float64, requires_grad=True
    )
    tie_rate = _tie_rate(judged)
    optimizer = torch.optim.LBFGS([moved, logit], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_scale, log_nu, threshold, log_slope = begin + moved
        clicks = torch.sigmoid(logit)
        said = _log_likelihood(judged, log_scale.exp(), log_nu, threshold, log_slope.exp(), clicks, tie_rate)
        total: Tensor = (moved**2).sum() + _COST_OF_CLICKS * clicks - said
        total.backward()
        return total

    optimizer.step(loss)
    log_scale, log_nu, threshold, log_slope = (begin + moved.detach()).tolist()
    return Calibration(
        scale=math.exp(log_scale),
        log_nu=log_nu,
        threshold=threshold,
        slope=math.exp(log_slope),
        clicks=float(torch.sigmoid(logit.detach()))
        if len(judged.outcomes) + len(judged.labels)
        else start.clicks,
        tie_rate=float(tie_rate),
    )


def _tie_rate(judged: JudgedScores) -> Tensor:
    total = judged.pair_weights.sum()
    ties = judged.pair_weights[judged.outcomes == TIE].sum()
    return ties / total if total > 0 else torch.zeros((), dtype=torch.float64)


def _log_likelihood(
    judged: JudgedScores,
    scale: Tensor,
    log_nu: Tensor,
    threshold: Tensor,
    slope: Tensor,
    clicks: Tensor,
    tie_rate: Tensor,
) -> Tensor:
    first, second = (scale * judged.pairs).unbind(dim=1)
    said = comparison_log_likelihood(first, second, judged.outcomes, log_nu)
    rated = rating_log_likelihood(scale * judged.rated, judged.labels, threshold, slope)
    clicked = torch.where(judged.outcomes == TIE, tie_rate, (1 - tie_rate) / 2)
    pairs = torch.log((1 - clicks) * said.exp() + clicks * clicked + _TINY)
    ratings = torch.log((1 - clicks) * rated.exp() + clicks / 2 + _TINY)
    return (judged.pair_weights * pairs).sum() + (judged.rating_weights * ratings).sum()
