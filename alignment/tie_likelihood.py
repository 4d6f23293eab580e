"""One likelihood for every kind of judgement: comparisons with ties, rankings and thumbs, as functions of reward scores.

Pure torch; knows nothing of models, text or training. Different from the textbook, which trains a reward model with Bradley-Terry
on strict preferences and throws ties away (that biases how strong a preference looks, arXiv:2410.05328):

1. A comparison follows Davidson (1970), Journal of the American Statistical Association 65, eq. 2.5, with the tie parameter nu
   learned: P(a wins) : P(b wins) : P(tie) = exp(r_a) : exp(r_b) : nu exp((r_a + r_b) / 2).
2. A ranking of K completions is a composite likelihood: each of its C(K, 2) pairs with the weight 1 / C(K, 2), so that ranking
   four answers is one judgement and not six.
3. A thumb is a logistic term against a learned threshold b on the same score, with a learned slope s: P(up) = sigmoid(s (r - b)). A thumb says how
   an answer did, question and all; a comparison says which of two answers to one question is better. Where thumbs follow the score less
   closely than comparisons do, s falls, and they teach it less.

Shapes: N judged pairs or ratings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

FIRST_WINS: Final = 0
SECOND_WINS: Final = 1
TIE: Final = 2
"""Outcomes of a pair; they index the last axis of `davidson_log_probs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOutcome:
    """What a ranking says about two of its completions."""

    first: int
    second: int
    outcome: int
    """`FIRST_WINS`, `SECOND_WINS` or `TIE`."""
    weight: float
    """1 / C(K, 2), so that a ranking's pairs weigh 1 together."""


def davidson_log_probs(score_a: Tensor, score_b: Tensor, log_nu: Tensor) -> Tensor:
    """Log-probabilities of the three outcomes of comparing two scores.

    Davidson (1970), eq. 2.5, written as a log-softmax over [r_a, r_b, ln nu + (r_a + r_b) / 2], which does not overflow.

    Args:
        score_a: (N,) scores of the first completions.
        score_b: (N,) scores of the second completions.
        log_nu: () the logarithm of the tie parameter; higher means more ties.

    Returns:
        (N, 3) log-probabilities of first wins, second wins, tie.

    >>> davidson_log_probs(torch.zeros(1), torch.zeros(1), torch.zeros(())).exp()
    tensor([[0.3333, 0.3333, 0.3333]])
    """
    tie = log_nu + (score_a + score_b) / 2
    return torch.log_softmax(torch.stack([score_a, score_b, tie], dim=-1), dim=-1)


def comparison_log_likelihood(score_a: Tensor, score_b: Tensor, outcome: Tensor, log_nu: Tensor) -> Tensor:
    """Log-likelihood of what was said about pairs.

    Args:
        score_a: (N,) scores.
        score_b: (N,) scores.
        outcome: (N,) int64: `FIRST_WINS`, `SECOND_WINS` or `TIE`.
        log_nu: () tie parameter.

    Returns:
        (N,) log-likelihoods in nats.
    """
    return davidson_log_probs(score_a, score_b, log_nu).gather(-1, outcome[:, None])[:, 0]


def rating_log_likelihood(
    score: Tensor, label: Tensor, threshold: Tensor, slope: Tensor | float = 1.0
) -> Tensor:
    """Log-likelihood of thumbs: ln sigmoid(label * s * (r - b)).

    Args:
        score: (N,) scores.
        label: (N,) +1 for thumbs up, -1 for thumbs down.
        threshold: () the score b at which both are equally likely.
        slope: () s, above 0.

    Returns:
        (N,) log-likelihoods in nats.
    """
    return logsigmoid(label * slope * (score - threshold))


def pairs_of_ranking(ranking: Sequence[Sequence[int]]) -> list[PairOutcome]:
    """All pairs of a ranking with ties.

    Args:
        ranking: Indices best first, equals together.

    Raises:
        ValueError: an index appears twice, or fewer than two are ranked.

    >>> [(p.first, p.second, p.outcome) for p in pairs_of_ranking([[2], [0, 1]])]
    [(2, 0, 0), (2, 1, 0), (0, 1, 2)]
    """
    place = {index: rank for rank, group in enumerate(ranking) for index in group}
    ordered = [index for group in ranking for index in group]
    if len(place) != len(ordered) or len(ordered) < 2:
        raise ValueError(f"ranking={ranking!r} must name at least two completions, each once")
    weight = 1 / math.comb(len(ordered), 2)
    pairs = []
    for at, first in enumerate(ordered):
        for second in ordered[at + 1 :]:
            outcome = TIE if place[first] == place[second] else FIRST_WINS
            pairs.append(PairOutcome(first=first, second=second, outcome=outcome, weight=weight))
    return pairs


def log_nu_at_tie_rate(tie_rate: float) -> float:
    """Where the tie parameter starts: the ln nu that gives this share of ties between equal scores, ln(2p / (1 - p)).

    At r_a = r_b Davidson's P(tie) is nu / (2 + nu). The share is kept within [0.02, 0.9], so that data without a single tie does
    not start at minus infinity.
    """
    share = min(max(tie_rate, 0.02), 0.9)
    return math.log(2 * share / (1 - share))


def threshold_at_up_rate(up_rate: float) -> float:
    """Where the rating threshold starts: the b that gives this share of thumbs up at score 0; the share is kept within [0.05, 0.95]."""
    share = min(max(up_rate, 0.05), 0.95)
    return -math.log(share / (1 - share))
