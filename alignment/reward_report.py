"""How well a reward model predicts judgements it was not trained on.

Knows nothing of training. Different from the usual accuracy: ties are kept apart (a tie has no right side), and the log-likelihood
per judgement is reported beside it, because it also notices a model that is right but far too sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from alignment.reward_calibration import Calibration, judged_scores, log_likelihood
from alignment.reward_dataset import Element, EncodedJudgements
from alignment.reward_model import RewardModel
from alignment.tie_likelihood import FIRST_WINS, TIE


def measure_judgements(
    model: RewardModel, encoded: EncodedJudgements, calibration: Calibration
) -> dict[str, float]:
    """Metrics `held_out_pair_accuracy`, `held_out_rating_accuracy`, `held_out_log_likelihood`, `held_out_tie_rate`, `n_held_out`.

    Args:
        model: Unscaled, so that the calibration fits its scores.
        encoded: Judgements of other questions than the training ones; none gives no metrics.
        calibration: Of these scores.

    Returns:
        The metrics that can be computed; an accuracy is missing where there is nothing to be right about.
    """
    elements = [element for element in encoded.elements if element.pairs or element.ratings]
    if not elements:
        return {}
    scores = mean_scores(model, elements)
    n_judgements = sum(element.n_judgements for element in elements)
    likelihood = log_likelihood(judged_scores(elements, scores), calibration)
    metrics = {
        "held_out_log_likelihood": likelihood / n_judgements,
        "held_out_tie_rate": encoded.tie_rate,
        "n_held_out": float(n_judgements),
    }
    pairs = [
        (_is_right(score, pair), pair[3])
        for element, score in zip(elements, scores, strict=True)
        for pair in element.pairs
        if pair[2] != TIE
    ]
    if any(weight for _, weight in pairs):
        metrics["held_out_pair_accuracy"] = _weighted_mean(pairs)
    ratings = [
        (float((calibration.scale * score[index] > calibration.threshold) == (label > 0)), weight)
        for element, score in zip(elements, scores, strict=True)
        for index, label, weight in element.ratings
    ]
    if any(weight for _, weight in ratings):
        metrics["held_out_rating_accuracy"] = _weighted_mean(ratings)
    return metrics


def _weighted_mean(values: Sequence[tuple[float, float]]) -> float:
    """Of (value, weight): a judgement counts as much here as in the likelihood beside it."""
    return sum(value * weight for value, weight in values) / sum(weight for _, weight in values)


def _is_right(scores: Sequence[float], pair: tuple[int, int, int, float]) -> float:
    first, second, outcome, _ = pair
    if scores[first] == scores[second]:
        return 0.5
    return float((scores[first] > scores[second]) == (outcome == FIRST_WINS))


def mean_scores(model: RewardModel, elements: Sequence[Element]) -> list[list[float]]:
    """The members' mean of each element's completions, in nats: the language model's score and the traits'."""
    learned = model.score_elements([(element.prompt, element.completions) for element in elements])
    return [
        [fmean(value) + fmean(offset) for value, offset in zip(values, element.offsets, strict=True)]
        for values, element in zip(learned, elements, strict=True)
    ]
