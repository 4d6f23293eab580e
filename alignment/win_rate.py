"""How often a new policy's answers are preferred over an old one's, with an interval.

Knows nothing of policies: answers to the same questions come in pairs. Different from counting wins:

1. A tie is half a win, and two equal texts are a tie without asking the judge.
2. The interval is a percentile bootstrap over questions, not over pairs: two answers to one question are not independent.
3. Where the bootstrap cannot see any spread (all outcomes equal), or with fewer than `SMALL` questions, Wilson's interval
   (Wilson 1927, JASA 22) widens it: a bootstrap of ten wins in ten says [1, 1], which is not true.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from alignment.preferences import PreferenceFunction, rank
from alignment.records import RewardFunction, RolloutPrompt
from alignment.reward_functions import EnsembleReward
from chatbot.judgements import judged_text_of, text_hash
from chatbot.prompt import Message
from chatbot.records import Answer

SMALL = 40
"""Below this many questions the bootstrap's interval is too narrow."""
_Z = 1.959964  # of a two-sided 95% interval


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often new beat old."""

    win_rate: float
    """In [0, 1]; ties count half."""
    interval: tuple[float, float]
    """95%."""
    n: int
    """Questions."""
    judge: str
    ties: int = 0


class AnswerJudge(Protocol):
    """Says which of two answers to one question is better."""

    @property
    def name(self) -> str:
        """For reports and gates."""

    def outcomes(self, new: Sequence[Answer], old: Sequence[Answer]) -> list[float]:
        """1 where the new answer is better, 0 where the old one is, 0.5 for a tie; answers are paired by position."""


class PreferenceJudge:
    """A preference function as judge, shown the two answers in a random order each time."""

    def __init__(self, prefer: PreferenceFunction, *, name: str = "preferences", seed: int = 0) -> None:
        """Wrap a function loaded with `preferences.load_preferences`."""
        self._prefer = prefer
        self._name = name
        self._seed = seed

    @property
    def name(self) -> str:
        """For reports and gates."""
        return self._name

    def outcomes(self, new: Sequence[Answer], old: Sequence[Answer]) -> list[float]:
        """See `AnswerJudge`.

        Raises:
            UsageError: the function returned something that is not a ranking.
        """
        rng = random.Random(self._seed)  # noqa: S311 -- reproducible, not secret
        found = []
        for ours, theirs in zip(new, old, strict=True):
            ranking = rank(self._prefer, ours.question, [ours, theirs], rng)
            found.append(0.5 if len(ranking) == 1 else float(ranking[0] == (0,)))
        return found


class RewardJudge:
    """A reward model as judge: the higher score wins."""

    def __init__(
        self, reward: RewardFunction, render: Callable[[Sequence[Message]], str], *, tie_margin: float = 0.0
    ) -> None:
        """Wrap a reward function.

        Args:
            reward: Scores (prompt, completion).
            render: Messages to the prompt in the template that the reward model was trained on; for answers whose policy was
                not asked and so have no prompt, and for policies with another template.
            tie_margin: Scores closer than this are a tie.
        """
        self._reward = reward
        self._render = render
        self._tie_margin = tie_margin

    @property
    def name(self) -> str:
        """For reports and gates."""
        return self._reward.name

    def outcomes(self, new: Sequence[Answer], old: Sequence[Answer]) -> list[float]:
        """See `AnswerJudge`."""
        answers = [*new, *old]
        prompts = [prompt_of(answer, self._render) for answer in answers]
        # As in training: about the text that people see, which grounding may have changed.
        scores = self._reward.score(prompts, [judged_text_of(answer) for answer in answers])
        return [
            0.5 if abs(ours - theirs) <= self._tie_margin else float(ours > theirs)
            for ours, theirs in zip(scores[: len(new)], scores[len(new) :], strict=True)
        ]


def prompt_of(answer: Answer, render: Callable[[Sequence[Message]], str]) -> RolloutPrompt:
    """What a reward is asked about an answer with: its turn, in the template of the reward model."""
    return RolloutPrompt(
        id=text_hash(answer.question),
        question=answer.question,
        prompt=render(answer.prepared.messages),
        prepared=answer.prepared,
    )


def win_rate(
    new_answers: Sequence[Answer],
    old_answers: Sequence[Answer],
    judge: AnswerJudge,
    *,
    seed: int = 0,
    resamples: int = 4000,
    groups: Sequence[str] | None = None,
) -> WinRate:
    """Compare answers to the same questions, paired by position.

    Args:
        new_answers: Of the policy whose win rate this is.
        old_answers: Of the other one.
        judge: Asked only where the texts differ.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        groups: What each question is about: phrasings of one question count as one. None takes the question's text.

    Raises:
        ValueError: the lists differ in length or in their questions, or are empty.
    """
    if not new_answers or len(new_answers) != len(old_answers):
        raise ValueError(f"{len(new_answers)} new and {len(old_answers)} old answers cannot be paired")
    for ours, theirs in zip(new_answers, old_answers, strict=True):
        if ours.question != theirs.question:
            raise ValueError(
                f"answers to different questions cannot be paired: {ours.question!r}, {theirs.question!r}"
            )
    differing = [at for at in range(len(new_answers)) if new_answers[at].text != old_answers[at].text]
    outcomes = [0.5] * len(new_answers)
    judged = judge.outcomes([new_answers[at] for at in differing], [old_answers[at] for at in differing])
    for at, outcome in zip(differing, judged, strict=True):
        outcomes[at] = outcome
    by_question: dict[str, list[float]] = {}
    groups = groups or [text_hash(answer.question) for answer in new_answers]
    for group, outcome in zip(groups, outcomes, strict=True):
        by_question.setdefault(group, []).append(outcome)
    means = [sum(values) / len(values) for values in by_question.values()]
    return WinRate(
        win_rate=sum(means) / len(means),
        interval=mean_interval(means, seed=seed, resamples=resamples),
        n=len(means),
        judge=judge.name,
        ties=sum(outcome == 0.5 for outcome in outcomes),
    )


def member_win_rates(
    new_answers: Sequence[Answer],
    old_answers: Sequence[Answer],
    reward: EnsembleReward,
    render: Callable[[Sequence[Message]], str],
) -> list[float]:
    """(M,) the win rate of new over old by each member of an ensemble; ties, equal texts among them, count half. Empty where all texts are equal.

    Args:
        new_answers: Of the policy whose win rates these are; one to each question.
        old_answers: Of the other one, paired by position.
        reward: The ensemble.
        render: Messages to the prompt in the reward model's template.
    """
    pairs = list(zip(new_answers, old_answers, strict=True))
    differing = [pair for pair in pairs if pair[0].text != pair[1].text]
    answers = [answer for side in zip(*differing, strict=True) for answer in side]
    scores = reward.score_members(
        [prompt_of(answer, render).prompt for answer in answers],
        [judged_text_of(answer) for answer in answers],
    )
    n = len(differing)
    ties = 0.5 * (len(pairs) - n)
    return [
        (ties + sum(_outcome(*both) for both in zip(member[:n], member[n:], strict=True))) / len(pairs)
        for member in zip(*scores, strict=True)
    ]


def _outcome(ours: float, theirs: float) -> float:
    return 0.5 if ours == theirs else float(ours > theirs)


def mean_interval(outcomes: Sequence[float], *, seed: int = 0, resamples: int = 4000) -> tuple[float, float]:
    """95% interval of the mean of outcomes in [0, 1]; see the module's docstring for how.

    >>> mean_interval([1.0] * 10)
    (0.7224..., 1.0)
    """
    values = np.asarray(outcomes, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(values), size=(resamples, len(values)))
    low, high = (float(bound) for bound in np.quantile(values[draws].mean(axis=1), [0.025, 0.975]))
    if len(values) < SMALL or float(values.min()) == float(values.max()):
        wilson_low, wilson_high = _wilson(float(values.mean()), len(values))
        low, high = min(low, wilson_low), max(high, wilson_high)
    return low, high


def _wilson(mean: float, n: int) -> tuple[float, float]:
    """Wilson's score interval, as if each outcome were a win or a loss; with ties it is a little too wide, never too narrow."""
    centre = mean + _Z**2 / (2 * n)
    half = _Z * math.sqrt(mean * (1 - mean) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
