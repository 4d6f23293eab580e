"""Learns in which order a policy should read its evidence, from what a reward model says of quoting each sentence.

    every sentence of every prompt, quoted alone ─▶ reward ─▶ a linear fit to what can be seen of it ─▶ kept if it helps on held-out prompts

A reward model from a hundred judgements knows which sentence of the evidence people would rather read, and a small policy cannot be
taught to find it: after four passes over 277 best quotations it was hardly better at choosing (docs/lab-log.md, 26 November). But it reads
from the top, so the order is where the taste can go. Knows nothing of how rewards or turns are made.

Different from a reranker trained on clicks: the reward model is asked about every sentence, also those that were never shown to anybody,
so there is no position bias to correct. Relevance, the sum of similarities by which evidence is chosen, keeps a weight of its own (`cautions`), because taste alone prefers sentences that repeat the
question, and what a hundred judgements say of numbers or length is partly chance. How much weight is decided by the answers that are known: the
first sentence may not agree less with them than before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alignment.answer_metrics import overlap
from alignment.records import RewardFunction, RolloutPrompt
from chatbot.evidence_order import FEATURES, EvidenceOrder, describe_sentence
from chatbot.records import EvidenceSentence

_LEAST_DEVIATION = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TasteSettings:
    """How the order of the evidence is learned."""

    enabled: bool = True
    """False leaves the evidence in the order of relevance."""
    cautions: Sequence[float] = (1.0, 2.0, 4.0, 8.0)
    """Weights of relevance, by which evidence is chosen, beside taste, in rewards for a standard deviation of it, tried in turn: 0 orders by taste
    alone, at 8 hardly anything moves. The first is taken with which quoting the first sentence agrees with known answers as well as it does without any taste."""
    min_references: int = 20
    """With fewer known answers the last of `cautions` is taken."""
    penalty: float = 10.0
    """Of the squared weights in the fit (ridge regression), in sentences."""
    min_held_out: int = 20
    """With fewer held-out prompts nobody can say whether the order helps, and none is kept."""

    def __post_init__(self) -> None:
        """Reject what could not run."""
        if not 0 <= self.penalty < math.inf:
            raise ValueError(f"penalty={self.penalty} must be 0 or more")
        if not self.cautions or not all(0 <= caution < math.inf for caution in self.cautions):
            raise ValueError(f"cautions={self.cautions} must be one or more numbers, each 0 or more")
        if self.min_references < 1:
            raise ValueError(f"min_references={self.min_references} must be at least 1")
        if self.min_held_out < 2:
            raise ValueError(f"min_held_out={self.min_held_out} must be at least 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedOrder:
    """What came of it."""

    order: EvidenceOrder | None
    """None when it does not help, or nobody can say."""
    worth: dict[str, float]
    """What a standard deviation of each feature is worth, in rewards, similarity's caution left out; for people to read. Empty when
    nothing was fitted."""
    metrics: dict[str, float]
    """`first_before`, `first_after`: mean reward of quoting the first sentence of held-out prompts; `gain_low`: low end of the 95%
    interval of their difference; `explained`: share of the rewards' variance within a held-out prompt that the fit explains;
    `caution`; `agrees_before`, `agrees_after`: mean overlap of the first sentence with the known answers of the prompts learned from;
    `n_prompts`, `n_held_out`, `n_references`; `kept` (1 or 0)."""


def learn_order(
    reward: RewardFunction,
    prompts: Sequence[RolloutPrompt],
    held_out: Sequence[RolloutPrompt],
    settings: TasteSettings,
    *,
    passage_weight: float,
) -> LearnedOrder:
    """Fit an order and keep it if quoting the first sentence gets better by it, beyond luck, on prompts it was not fitted to, and no less right.

    Args:
        reward: Scores (prompt, completion); asked once for each sentence.
        prompts: To learn from, their evidence in the order of relevance; those with fewer than two sentences say nothing.
        held_out: To decide by.
        settings: See `TasteSettings`.
        passage_weight: What a passage's similarity adds to its sentences' when evidence is chosen (`evidence.passage_weight`).
    """
    train, test = _score(reward, prompts), _score(reward, held_out)
    metrics = {"n_prompts": float(len(train)), "n_held_out": float(len(test)), "kept": 0.0}
    if not train or len(test) < settings.min_held_out:
        return LearnedOrder(order=None, worth={}, metrics=metrics)
    fit = _fit(train, settings, passage_weight)
    metrics["explained"] = _explained(fit.taste, test)
    order, agreement = _cautious_enough(fit, train, settings)
    metrics |= agreement
    if order is None:
        return LearnedOrder(order=None, worth=fit.worth, metrics=metrics)
    before = np.array([turn.rewards[0] for turn in test])
    after = np.array([turn.rewards[turn.first_by(order)] for turn in test])
    gains = after - before
    low = float(gains.mean() - 1.96 * gains.std(ddof=1) / math.sqrt(len(gains)))
    kept = low > 0
    metrics |= {
        "first_before": float(before.mean()),
        "first_after": float(after.mean()),
        "gain_low": low,
        "kept": float(kept),
    }
    return LearnedOrder(order=order if kept else None, worth=fit.worth, metrics=metrics)


@dataclass(frozen=True, slots=True)
class _ScoredTurn:
    """One prompt's S sentences."""

    question: str
    evidence: Sequence[EvidenceSentence]
    features: Array  # (S, F)
    rewards: Array  # (S,)
    agrees: Array | None  # (S,)
    """Overlap of each sentence with the known answer; None where none is known."""

    def first_by(self, order: EvidenceOrder) -> int:
        """Place, from 0, of the sentence that an order puts first."""
        first = order.sort(self.question, self.evidence)[0]
        places = [(item.passage.chunk_id, item.start) for item in self.evidence]
        return places.index((first.passage.chunk_id, first.start))


def _score(reward: RewardFunction, prompts: Sequence[RolloutPrompt]) -> list[_ScoredTurn]:
    prompts = [prompt for prompt in prompts if len(prompt.prepared.evidence) > 1]
    quotations = [
        (prompt, f"{item.text} [{item.number}]") for prompt in prompts for item in prompt.prepared.evidence
    ]
    if not quotations:
        return []
    scores = iter(reward.score([prompt for prompt, _ in quotations], [text for _, text in quotations]))
    turns = []
    for prompt in prompts:
        asked, evidence = prompt.prepared.search_text, prompt.prepared.evidence
        turns.append(
            _ScoredTurn(
                question=asked,
                evidence=evidence,
                features=np.array([describe_sentence(asked, item) for item in evidence]),
                rewards=np.array([next(scores) for _ in evidence]),
                agrees=np.array([overlap(item.text, prompt.reference) for item in evidence])
                if prompt.reference
                else None,
            )
        )
    return turns


@dataclass(frozen=True, slots=True)
class _Fit:
    """A taste, of which an order comes with caution."""

    taste: Array  # (F,)
    worth: dict[str, float]
    relevance: Array  # (F,)
    """A standard deviation within a prompt is 1."""

    def order(self, caution: float) -> EvidenceOrder:
        """Taste and so much relevance."""
        return EvidenceOrder(weights=_by_name(self.taste + caution * self.relevance))


def _cautious_enough(
    fit: _Fit, turns: Sequence[_ScoredTurn], settings: TasteSettings
) -> tuple[EvidenceOrder | None, dict[str, float]]:
    """The order of the least caution whose first sentences agree with known answers as well as before; None when none does."""
    known = [turn for turn in turns if turn.agrees is not None]
    if len(known) < settings.min_references:
        caution = settings.cautions[-1]
        return fit.order(caution), {"caution": caution, "n_references": float(len(known))}
    before = _agreement(known, None)
    found = {"agrees_before": before, "n_references": float(len(known))}
    for caution in settings.cautions:
        order = fit.order(caution)
        after = _agreement(known, order)
        if after >= before:
            return order, found | {"caution": caution, "agrees_after": after}
    return None, found


def _agreement(turns: Sequence[_ScoredTurn], order: EvidenceOrder | None) -> float:
    """Mean overlap of first sentences with known answers."""
    return float(
        np.mean(
            [turn.agrees[turn.first_by(order) if order else 0] for turn in turns if turn.agrees is not None]
        )
    )


def _fit(turns: Sequence[_ScoredTurn], settings: TasteSettings, passage_weight: float) -> _Fit:
    """Learn what the features are worth.

    Ridge regression within prompts: how good a prompt's evidence is altogether says nothing about its order. The place a sentence had is
    a regressor as well and then left out, since a reward model may like low numbers, and numbers are what the order hands out.
    """
    places = [np.arange(len(turn.rewards), dtype=np.float64)[:, None] for turn in turns]
    seen = np.concatenate(
        [_centred(np.hstack([t.features, place])) for t, place in zip(turns, places, strict=True)]
    )
    rewards = np.concatenate([_centred(turn.rewards) for turn in turns])
    deviations = seen.std(axis=0)
    usable = deviations > _LEAST_DEVIATION
    divisors = np.where(usable, deviations, np.inf)  # what does not vary is worth nothing
    scaled = seen / divisors
    gram = scaled.T @ scaled + max(settings.penalty, _LEAST_DEVIATION) * np.eye(scaled.shape[1])
    worth = np.linalg.solve(gram, scaled.T @ rewards)[:-1]
    relevance = np.zeros(len(FEATURES))
    relevance[FEATURES.index("similarity")] = 1.0
    relevance[FEATURES.index("passage_similarity")] = passage_weight
    deviation = float((seen[:, :-1] @ relevance).std())
    return _Fit(
        taste=worth / divisors[:-1],
        worth=_by_name(worth),
        relevance=relevance / max(deviation, _LEAST_DEVIATION),
    )


def _by_name(values: Array) -> dict[str, float]:
    return dict(zip(FEATURES, map(float, values), strict=True))


def _explained(weights: Array, turns: Sequence[_ScoredTurn]) -> float:
    rewards = np.concatenate([_centred(turn.rewards) for turn in turns])
    fitted = np.concatenate([_centred(turn.features) @ weights for turn in turns])
    total = float((rewards**2).sum())
    return 1 - float(((rewards - fitted) ** 2).sum()) / total if total > 0 else 0.0


def _centred(values: Array) -> Array:
    centred: Array = values - values.mean(axis=0)
    return centred
