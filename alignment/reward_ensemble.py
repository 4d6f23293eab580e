"""How the members of a reward model come to differ, and what their disagreement says.

Knows nothing of models or text. A policy that maximises a learned reward finds what the reward has wrong; where several rewards learned from the
same judgements disagree, the judgements do not decide, and a policy should not be paid for it (Coste et al. 2023, arXiv:2310.02743, eq. 5).

Different from their ensemble of whole models trained from several seeds: members are heads on one trunk and fits of the traits, and each has its own
weights of the questions (the Bayesian bootstrap, Rubin 1981, Annals of Statistics 9). Several cost what one costs, and they differ
where other judgements would have made another reward, not where another seed would.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def bootstrap_shares(question_ids: Sequence[str], members: int, seed: int) -> NDArray[np.float64]:
    """How much each member of an ensemble makes of each judgement; one member takes them as they are.

    Args:
        question_ids: Of N judgements; those of one question are weighed alike, since they are not independent.
        members: M.
        seed: Of the draws; their order is that of the sorted ids, not of the judgements.

    Returns:
        (N, M), exponential draws scaled to a mean of 1 over the questions, for each member.
    """
    if members == 1 or not question_ids:
        return np.ones((len(question_ids), members))
    ids = sorted(set(question_ids))
    draws = np.random.default_rng(seed).exponential(size=(len(ids), members))
    draws /= np.maximum(draws.mean(axis=0), 1e-12)
    row_of = {question_id: row for row, question_id in enumerate(ids)}
    return draws[[row_of[question_id] for question_id in question_ids]].reshape(len(question_ids), members)


def cautious_score(scores: Sequence[float], weight: float) -> float:
    """The members' mean less `weight` times their standard deviation; eq. 5 has the variance, which has another unit than a score.

    >>> cautious_score([0.0, 2.0], 0.5)
    0.5
    """
    return statistics.fmean(scores) - weight * statistics.pstdev(scores)
