"""Rewards that are not learned, and sums of rewards.

Knows nothing of PPO. A preference reward alone pays for lies that look right: on the first policy-gradient run a "not" was lost from
a correct sentence and the score rose. So the grounding check that serving applies is a reward as well, and part of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from alignment.answer_metrics import token_f1
from alignment.records import RewardFunction, RolloutPrompt
from alignment.reward_ensemble import cautious_score
from chatbot.grounding import check
from chatbot.judgements import judged_text, numbers_of
from chatbot.prompt import is_refusal, strip_citations
from chatbot.settings import GroundingSettings


class GroundednessReward:
    """Share of a completion's sentences that its evidence supports, by the very check that serving applies."""

    def __init__(self, settings: GroundingSettings | None = None, *, refusal: float = 0.5) -> None:
        """Use serving's thresholds.

        Args:
            settings: Of the check.
            refusal: What a refusal is worth where nobody has said whether the documents hold the answer: as much as an answer of
                which half is supported. Where it is known, a due refusal is worth 1 and a needless one 0, and so is an answer
                to a question that cannot be answered.
        """
        if not 0 <= refusal <= 1:
            raise ValueError(f"refusal={refusal} must be in [0, 1]")
        self._settings = settings
        self._refusal = refusal

    @property
    def name(self) -> str:
        """For metrics and manifests."""
        return "groundedness"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One number in [0, 1] per completion."""
        return [self._score(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]

    def _score(self, prompt: RolloutPrompt, completion: str) -> float:
        if is_refusal(completion):
            return self._refusal if prompt.answerable is None else float(not prompt.answerable)
        if prompt.answerable is False or not prompt.prepared.evidence:
            return 0.0
        _, _, report = check(completion, prompt.prepared.evidence, self._settings)
        return report.n_supported / report.n_sentences if report.n_sentences else 0.0


class ReferenceReward:
    """Agreement with the answer that is known: token F1 of what people would be shown and a demonstration, or the section a question was made of.

    What people like and what is right are not the same, and a reward model learns the first: on its own it made answers shorter and
    lost facts that they had held (docs/lab-log.md, 26 November). Where nothing is known every completion is worth the same.
    """

    def __init__(self, settings: GroundingSettings | None = None) -> None:
        """Use serving's thresholds of the grounding check."""
        self._settings = settings

    @property
    def name(self) -> str:
        """For metrics and manifests."""
        return "reference"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One number in [0, 1] per completion."""
        return [self._score(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]

    def _score(self, prompt: RolloutPrompt, completion: str) -> float:
        if not prompt.reference or not prompt.prepared.evidence or is_refusal(completion):
            return 0.0
        shown, _, report = check(completion, prompt.prepared.evidence, self._settings)
        return 0.0 if report.fell_back else token_f1(strip_citations(shown), prompt.reference)


class RewardOfShownText:
    """A learned reward, asked about what people would be shown: the completion after the grounding check.

    People judge what they see, so that is what a reward model has read. Nonsense that would never be shown is unknown to it, and its scores
    of it are chance: of two completions it found the better one in 70 of 100 cases, of the two texts shown in 77. What the
    check removes costs groundedness, which is a reward of its own. Where the check leaves nothing, the quotation that is shown is not the
    policy's work and earns it nothing: on the first run the policy learned to write nothing and be praised for the quotation.
    """

    def __init__(
        self, reward: RewardFunction, settings: GroundingSettings | None = None, *, rejected: float = -2.0
    ) -> None:
        """Wrap a reward.

        Args:
            reward: Scores (prompt, completion).
            settings: Serving's.
            rejected: What a completion gets at most of which nothing was supported.
        """
        self._reward = reward
        self._settings = settings
        self._rejected = rejected

    @property
    def name(self) -> str:
        """That of the reward."""
        return self._reward.name

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One number per completion."""
        shown = [self._show(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        scores = self._reward.score(prompts, [text for text, _ in shown])
        return [
            min(score, self._rejected) if rejected else score
            for score, (_, rejected) in zip(scores, shown, strict=True)
        ]

    def _show(self, prompt: RolloutPrompt, completion: str) -> tuple[str, bool]:
        """What people would see, and whether nothing of it is the policy's."""
        evidence = prompt.prepared.evidence
        if is_refusal(completion) or not evidence:
            return completion, False
        text, citations, report = check(completion, evidence, self._settings)
        shown = judged_text(
            completion, text, citations=citations, numbers=numbers_of(evidence), report=report
        )
        return shown, report.fell_back


class CautiousOnRefusals:
    """A learned reward that may not praise refusals it has hardly seen.

    People mostly judge answers. What a reward model trained on them says of a refusal is chance, and a policy finds out: on the first cycles
    it gave up answering within a dozen steps.
    """

    def __init__(self, reward: RewardFunction, *, most: float) -> None:
        """Wrap a reward.

        Args:
            reward: Scores (prompt, completion).
            most: What a refusal gets at most, on prompts not known to have no answer.
        """
        self._reward = reward
        self._most = most

    @property
    def name(self) -> str:
        """That of the reward."""
        return self._reward.name

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One number per completion."""
        scores = self._reward.score(prompts, completions)
        return [
            min(score, self._most) if is_refusal(text) and prompt.answerable is not False else score
            for prompt, text, score in zip(prompts, completions, scores, strict=True)
        ]


class EnsembleReward(Protocol):
    """A learned reward of M members; `RewardModel` is one."""

    @property
    def name(self) -> str:
        """For metrics and manifests."""

    def score_members(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """(N, M) each member's score of rendered prompts and completions."""


class CautiousReward:
    """A reward model that pays less where its members disagree: a policy that is paid for what the judgements do not decide finds its errors."""

    def __init__(self, reward: EnsembleReward, *, uncertainty_weight: float) -> None:
        """Wrap a reward model.

        Args:
            reward: An ensemble; with a single member nothing is subtracted.
            uncertainty_weight: Of the members' standard deviation, subtracted from their mean (`reward_ensemble.py`).

        Raises:
            ValueError: the weight is negative.
        """
        if uncertainty_weight < 0:
            raise ValueError(f"uncertainty_weight={uncertainty_weight} must be 0 or more")
        self._reward = reward
        self._weight = uncertainty_weight

    @property
    def name(self) -> str:
        """That of the reward."""
        return self._reward.name

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One number per completion."""
        members = self._reward.score_members([prompt.prompt for prompt in prompts], completions)
        return [cautious_score(scores, self._weight) for scores in members]


class WeightedReward:
    """A weighted sum of rewards."""

    def __init__(self, parts: Sequence[tuple[RewardFunction, float]]) -> None:
        """Sum rewards; a reward of weight 0 is left out and costs nothing.

        Args:
            parts: (reward, weight); a reward model's scores have deviation 1, so weights compare with that.

        Raises:
            ValueError: nothing is left, a weight is not finite, or two parts have one name.
        """
        kept = [(reward, weight) for reward, weight in parts if weight != 0]
        names = [reward.name for reward, _ in kept]
        if not kept or not all(math.isfinite(weight) for _, weight in kept):
            raise ValueError(
                f"a sum of rewards needs finite weights, at least one of them not 0: {dict(zip(names, (w for _, w in kept), strict=True))}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"rewards must have different names, not {names}")
        self._parts = kept

    @property
    def name(self) -> str:
        """Weights and names: `1*reward_model + 0.5*groundedness`."""
        return " + ".join(f"{weight:g}*{reward.name}" for reward, weight in self._parts)

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """The sum for each completion."""
        by_part = self.score_parts(prompts, completions)
        return [
            sum(weight * by_part[reward.name][at] for reward, weight in self._parts)
            for at in range(len(completions))
        ]

    def score_parts(
        self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]
    ) -> dict[str, list[float]]:
        """Each part's own scores, unweighted, by name; for metrics."""
        return {reward.name: reward.score(prompts, completions) for reward, _ in self._parts}
