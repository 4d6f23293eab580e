"""Judgements as tensors of visible traits, for what learns from them: the trait model and the reliability of raters.

Knows `RankedCompletions` and nothing of fits. Different from a table of comparisons: every row keeps the number of its judgement, so that what a
ranking's pairs say can be added up again, and its fold by question, so that a judgement can be predicted by a fit that has not seen its question.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from alignment.answer_traits import TRAITS, describe
from alignment.records import RankedCompletions
from alignment.tie_likelihood import TIE, pairs_of_ranking

FOLDS = 5
REFUSES = TRAITS.index("refuses")
FARTHEST = 3.0
"""Standard deviations beyond which more of a trait is worth no more: nobody judged such answers, so nothing is known of them, and a single
answer of thirty lines would decide what a line is worth."""
_LEAST_DEVIATION = 1e-3
"""A trait that varies less among the judged answers is left out: its weight would be a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitData:
    """N judgements of C completions: P pairs of rankings, R ratings, F traits."""

    traits: Tensor
    """(C, F) float64."""
    pairs: Tensor
    """(P, 3) int64: first, second (rows of `traits`), outcome."""
    pair_shares: Tensor
    """(P,): 1 / C(K, 2), the pair's part of its judgement."""
    pair_owners: Tensor
    """(P,) int64: the judgement."""
    ratings: Tensor
    """(R,) int64: rows of `traits`."""
    labels: Tensor
    """(R,): +1 or -1."""
    rating_owners: Tensor
    """(R,) int64."""
    weights: Tensor
    """(N,) of the judgements, 1 on average."""
    free: Tensor
    """(N,) how many of a judgement's outcomes can be chosen freely: K completions make C(K, 2) pairs, but only K - 1 of them can; 1 for a rating."""
    folds: Tensor
    """(N,) int64 in [0, `FOLDS`), by question."""
    compared: Tensor
    """(N,) bool: somebody saw several answers to one question and said which is better."""

    @property
    def pair_weights(self) -> Tensor:
        """(P,) a pair's share of its judgement's weight, which for a ranking of K counts K - 1 times: so much it says."""
        return self.pair_shares * (self.weights * self.free)[self.pair_owners]

    @property
    def rating_weights(self) -> Tensor:
        """(R,)."""
        return self.weights[self.rating_owners]

    def only(self, chosen: Tensor) -> TraitData:
        """What a mask (N,) over the judgements leaves; judgements keep their numbers."""
        pairs, ratings = chosen[self.pair_owners], chosen[self.rating_owners]
        return replace(
            self,
            pairs=self.pairs[pairs],
            pair_shares=self.pair_shares[pairs],
            pair_owners=self.pair_owners[pairs],
            ratings=self.ratings[ratings],
            labels=self.labels[ratings],
            rating_owners=self.rating_owners[ratings],
        )

    def rates(self) -> tuple[float, float]:
        """Weighted shares of ties among pairs (0 without pairs) and of thumbs up among ratings (0.5 without)."""
        pairs, ratings = float(self.pair_weights.sum()), float(self.rating_weights.sum())
        ties = float(self.pair_weights[self.pairs[:, 2] == TIE].sum())
        ups = float(self.rating_weights[self.labels > 0].sum())
        return ties / pairs if pairs else 0.0, ups / ratings if ratings else 0.5


def read_traits(judgements: Sequence[RankedCompletions]) -> TraitData:
    """Look at every judged completion."""
    traits: list[tuple[float, ...]] = []
    pairs: list[tuple[int, int, int]] = []
    shares: list[float] = []
    pair_owners, ratings, labels, rating_owners = [], [], [], []
    for number, judgement in enumerate(judgements):
        at = len(traits)
        traits += [describe(judgement.prompt, text) for text in judgement.completions]
        if judgement.ranking:
            for pair in pairs_of_ranking(judgement.ranking):
                pairs.append((at + pair.first, at + pair.second, pair.outcome))
                shares.append(pair.weight)
                pair_owners.append(number)
        else:
            ratings.append(at)
            labels.append(1.0 if judgement.label else -1.0)
            rating_owners.append(number)
    weights = torch.tensor([judgement.weight for judgement in judgements], dtype=torch.float64)
    total = float(weights.sum())
    return TraitData(
        traits=torch.tensor(traits, dtype=torch.float64).reshape(-1, len(TRAITS)),
        pairs=torch.tensor(pairs, dtype=torch.long).reshape(-1, 3),
        pair_shares=torch.tensor(shares, dtype=torch.float64),
        pair_owners=torch.tensor(pair_owners, dtype=torch.long),
        ratings=torch.tensor(ratings, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.float64),
        rating_owners=torch.tensor(rating_owners, dtype=torch.long),
        weights=weights * (len(judgements) / total) if total > 0 else weights,
        free=torch.tensor([max(len(j.completions) - 1, 1) for j in judgements], dtype=torch.float64),
        folds=torch.tensor([fold_of(j.question_id, FOLDS) for j in judgements], dtype=torch.long),
        compared=torch.tensor([bool(j.ranking) and j.seen for j in judgements], dtype=torch.bool),
    )


def fold_of(question_id: str, folds: int) -> int:
    """Which of so many parts a question's judgements belong to, together; a function of its id alone."""
    return zlib.crc32(question_id.encode()) % folds


def standardise(data: TraitData) -> tuple[TraitData, Tensor, Tensor]:
    """Traits of mean 0 and deviation 1, none farther out than `FARTHEST`, with the means (F,) and deviations (F,) they had.

    A refusal has no length and cites nothing, which says nothing about lengths and citations: its other traits are those of the average answer, so that what
    refusing is worth is one number by itself.
    """
    refuses = data.traits[:, REFUSES] > 0
    answers = data.traits[~refuses] if not refuses.all() else data.traits
    means, spread = answers.mean(dim=0), answers.std(dim=0, unbiased=False)
    # Whether a text refuses varies over all texts; among answers it does not.
    means[REFUSES], spread[REFUSES] = 0.0, float(refuses.any())
    # An infinite deviation makes a trait that did not vary worth nothing; JSON has no infinity.
    deviations = torch.where(spread > _LEAST_DEVIATION, spread, torch.full_like(spread, 1e12))
    standard = ((data.traits - means) / deviations).clamp(-FARTHEST, FARTHEST)
    others = torch.arange(standard.shape[1]) != REFUSES
    standard[refuses[:, None] & others] = 0.0
    return replace(data, traits=standard), means, deviations
