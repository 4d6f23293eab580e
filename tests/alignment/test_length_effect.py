"""What a score makes of mere length, and taking it out."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from alignment.length_effect import LengthEffect, fit_length_effect
from chatbot.prompt import REFUSAL


def text(n_words: int) -> str:
    """Of so many words."""
    return " ".join(["word"] * n_words)


_RNG = random.Random(5)
LENGTHS = [_RNG.randint(1, 150) for _ in range(300)]


def test_a_bent_wish_for_length_is_found() -> None:
    """A score that rises to fifty words and falls afterwards is length's altogether."""
    scores = [[min(n, 50) / 10 - max(0, n - 50) / 40] for n in LENGTHS]

    effect = fit_length_effect([text(n) for n in LENGTHS], scores)
    left = [score[0] - effect.of(text(n))[0] for n, score in zip(LENGTHS, scores, strict=True)]

    assert np.std(left) < 0.05 * np.std(scores)


def test_what_length_does_not_explain_stays() -> None:
    """A quality that goes with length: what is left has nothing to do with length, and still knows the quality among answers of one length."""
    rng = np.random.default_rng(2)
    own = rng.normal(size=len(LENGTHS))
    scores = [[n / 30 + quality] for n, quality in zip(LENGTHS, own, strict=True)]

    effect = fit_length_effect([text(n) for n in LENGTHS], scores)
    left = np.array([score[0] - effect.of(text(n))[0] for n, score in zip(LENGTHS, scores, strict=True)])

    assert abs(np.corrcoef(left, LENGTHS)[0, 1]) < 0.01
    assert np.corrcoef(left, own)[0, 1] > 0.98


def test_longer_answers_than_any_judged_are_worth_no_more() -> None:
    """A line drawn on would pay four hundred words without bound, or punish them."""
    for sign in (1, -1):
        effect = fit_length_effect([text(n) for n in LENGTHS], [[sign * n / 30] for n in LENGTHS])

        assert effect.of(text(2000)) == effect.of(text(max(LENGTHS)))
        assert effect.of("") == effect.of(text(min(LENGTHS)))


def test_members_are_fitted_one_by_one() -> None:
    """One likes long answers, one short ones."""
    scores = [[n / 30, -n / 30] for n in LENGTHS]

    effect = fit_length_effect([text(n) for n in LENGTHS], scores)

    likes, dislikes = effect.of(text(140))
    assert likes > 1
    assert dislikes < -1


def test_a_refusal_is_left_alone() -> None:
    """It has one length, and whether it was due is another matter."""
    texts = [*(text(n) for n in LENGTHS), REFUSAL]
    effect = fit_length_effect(texts, [*([n / 30] for n in LENGTHS), [50.0]])

    assert effect.of(REFUSAL) == (0.0,)
    assert effect == fit_length_effect(texts[:-1], [[n / 30] for n in LENGTHS])


@pytest.mark.parametrize("texts", [[], [REFUSAL], [text(7)] * 20])
def test_without_different_lengths_there_is_no_effect(texts: list[str]) -> None:
    """No answer, no answer but refusals, one length only."""
    effect = fit_length_effect(texts, [[float(at)] for at in range(len(texts))])

    assert effect.of(text(7)) == pytest.approx((0.0,))


def test_it_comes_back_from_json() -> None:
    """As it was."""
    effect = fit_length_effect([text(n) for n in LENGTHS], [[n / 30, 1.0] for n in LENGTHS])

    assert LengthEffect.from_json(json.loads(json.dumps(effect.to_json()))) == effect
