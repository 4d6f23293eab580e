"""A policy's figures on held-out questions, as the gates compare them: a few numbers of what `evaluation` knows of each answer.

Knows nothing of bars or of other policies. Different from an evaluation's summary: what no question can tell is None, so that a gate can leave it out instead of passing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alignment.evaluation import QuestionResult, mean, summarise
from chatbot.prompt import strip_citations


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMetrics:
    """What gates compare between a candidate and its parent, measured on the same questions."""

    n_questions: int
    key_fact_recall: float | None
    """None when no question has key facts."""
    overlap: float | None
    """Mean overlap coefficient with reference answers; None when no question has one. Not F1: a gate that means to see wrong answers must
    not see short ones, and length has a gate of its own."""
    groundedness: float
    abstention_f1: float | None
    """None when no question is known to be unanswerable."""
    n_unanswerable: int
    """Questions known to have no answer."""
    mean_words: float
    """Words of an answer that did not abstain; 0 when all did."""
    abstained_share: float


def policy_metrics(results: Sequence[QuestionResult]) -> PolicyMetrics:
    """A policy's figures for the gates."""
    has_facts = any(r.has_key_facts is not None for r in results)
    has_references = any(r.overlap is not None for r in results)
    n_unanswerable = sum(r.question.answerable is False for r in results)
    figures = summarise(results)
    spoken = [strip_citations(r.answer.text) for r in results if not r.answer.abstained]
    return PolicyMetrics(
        n_questions=len(results),
        key_fact_recall=figures["answers"]["key_fact_recall"] if has_facts else None,
        overlap=mean([r.overlap for r in results if r.overlap is not None]) if has_references else None,
        groundedness=figures["answers"]["groundedness"],
        abstention_f1=figures["abstention"]["f1"] if n_unanswerable else None,
        n_unanswerable=n_unanswerable,
        mean_words=mean([float(len(text.split())) for text in spoken]),
        abstained_share=mean([float(r.answer.abstained) for r in results]),
    )
