"""Judges a policy's answers on questions whose right answers are known.

Knows nothing of retrieval metrics (`knowledge_base.evaluation`), of training or of how answers are made: a function from question to
answer comes in. Definitions, where the names leave room:

* An abstained answer has no key facts, no overlap and no citations, whatever its text.
* `citation_precision` counts citations of answers to answerable questions that lead to what is known to answer (see
  `answer_metrics.citation_supports`): whether people are sent to the right place.
* `citation_support` is the share of citations, as the policy wrote them, that support the sentence which carries them (the citation precision of
  ALCE, Gao et al. 2023): whether what is cited says what is said, right or wrong.
* `groundedness` is the share of sentences that the policy wrote and the grounding check supported, before anything was dropped: what
  people see is grounded by construction, so the text they see cannot tell policies apart.
* In `abstention` the positive class is "abstained" and the truth is "the documents do not answer this".
* A share with nothing to divide by is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from alignment.answer_metrics import (
    citation_supports,
    has_all_key_facts,
    overlap,
    percentile,
    precision_recall_f1,
    rouge_l,
    token_f1,
)
from alignment.records import RolloutPrompt
from chatbot.grounding import citation_support
from chatbot.prompt import strip_citations
from chatbot.records import Answer
from knowledge_base.evaluation import holds_evidence

Cause = Literal[
    "right",
    "not retrieved",
    "wrong evidence chosen",
    "wrong answer from the right evidence",
    "needless abstention",
    "missing abstention",
    "not judged",
]
"""Why an answer came out as it did; every failure has one cause, the earliest in the turn."""
_GOOD_F1 = 0.5
"""A question without key facts counts as answered from this token F1 on."""


class JudgedQuestion(Protocol):
    """A question with what is known of its answer; `knowledge_base.questions.EvaluationQuestion` is such, and `ReferenceQuestion`."""

    @property
    def id(self) -> str:
        """Names the question in reports."""

    @property
    def question(self) -> str:
        """As typed."""

    @property
    def answerable(self) -> bool | None:
        """None when nobody has said."""

    @property
    def answer(self) -> str | None:
        """A human answer; empty or None when there is none."""

    @property
    def document(self) -> str | None:
        """Path of the document with the evidence; may be empty."""

    @property
    def evidence(self) -> str | None:
        """The passage that answers, verbatim; may be empty."""

    @property
    def key_facts(self) -> Sequence[str]:
        """`a|b` alternatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceQuestion:
    """A question with what is known of its answer."""

    id: str
    question: str
    answerable: bool | None = None
    answer: str = ""
    document: str = ""
    evidence: str = ""
    key_facts: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionResult:
    """One question, its answer and the verdict."""

    question: JudgedQuestion
    answer: Answer
    has_key_facts: bool | None
    """None when there are none to have."""
    token_f1: float | None
    """None without a human answer."""
    rouge_l: float | None
    overlap: float | None
    n_citations: int
    n_right_citations: int
    cause: Cause


def evaluate_answers(
    questions: Sequence[JudgedQuestion],
    answer_fn: Callable[[str], Answer],
    progress: Callable[[int, int], None] | None = None,
    report_dir: Path | None = None,
) -> dict[str, Any]:
    """Answer all questions and measure.

    Args:
        questions: Any mix of answerable and unanswerable ones.
        answer_fn: Question as typed to answer.
        progress: Called with (answered, all) after each answer.
        report_dir: Where to write what `evaluation_report.write_report` writes; None for nowhere.

    Returns:
        `{"answers": {"key_fact_recall", "token_f1", "rouge_l", "citation_precision", "citation_support", "groundedness"},
        "abstention": {"precision", "recall", "f1"}, "seconds": {"p50", "p95"}, "n"}`.
    """
    results = judge_answers(questions, answer_fn, progress)
    summary = summarise(results)
    if report_dir is not None:
        from alignment.evaluation_report import write_report

        write_report(results, summary, report_dir)
    return summary


def judge_answers(
    questions: Sequence[JudgedQuestion],
    answer_fn: Callable[[str], Answer],
    progress: Callable[[int, int], None] | None = None,
) -> list[QuestionResult]:
    """Answer all questions; one result each, in order."""
    results = []
    for done, question in enumerate(questions, start=1):
        results.append(judge_answer(question, answer_fn(question.question)))
        if progress is not None:
            progress(done, len(questions))
    return results


def judge_answer(question: JudgedQuestion, answer: Answer) -> QuestionResult:
    """Hold one answer against what is known of the question."""
    spoken = "" if answer.abstained else strip_citations(answer.text)
    judged = question.answerable is not False
    has_facts = has_all_key_facts(spoken, question.key_facts) if judged and question.key_facts else None
    f1 = rouge = shared = None
    if judged and question.answer:
        f1, rouge, shared = (
            0.0 if answer.abstained else measure(spoken, question.answer)
            for measure in (token_f1, rouge_l, overlap)
        )
    right = [
        citation_supports(citation.text, question.evidence or "", question.key_facts)
        for citation in answer.citations
    ]
    counted = question.answerable is True and not answer.abstained
    return QuestionResult(
        question=question,
        answer=answer,
        has_key_facts=has_facts,
        token_f1=f1,
        rouge_l=rouge,
        overlap=shared,
        n_citations=len(right) if counted else 0,
        n_right_citations=sum(right) if counted else 0,
        cause=_find_cause(question, answer, has_facts, f1),
    )


def _find_cause(question: JudgedQuestion, answer: Answer, has_facts: bool | None, f1: float | None) -> Cause:
    if question.answerable is False:
        return "right" if answer.abstained else "missing abstention"
    if has_facts is None and f1 is None:
        return "not judged"
    is_right = has_facts if has_facts is not None else f1 is not None and f1 >= _GOOD_F1
    if is_right:
        return "right"
    prepared = answer.prepared
    if question.evidence and not any(holds_evidence(p.text, question.evidence) for p in prepared.passages):
        return "not retrieved"
    shown = (item.text for item in prepared.evidence)
    if question.evidence and not any(
        citation_supports(text, question.evidence, question.key_facts) for text in shown
    ):
        return "wrong evidence chosen"
    return "needless abstention" if answer.abstained else "wrong answer from the right evidence"


def summarise(results: Sequence[QuestionResult]) -> dict[str, Any]:
    """The figures of `tacit evaluate`, without those of retrieval."""
    facts = [r.has_key_facts for r in results if r.has_key_facts is not None]
    precision, recall, f1 = _abstention(results)
    seconds = [result.answer.seconds for result in results]
    return {
        "answers": {
            "key_fact_recall": mean([float(has) for has in facts]),
            "token_f1": mean([r.token_f1 for r in results if r.token_f1 is not None]),
            "rouge_l": mean([r.rouge_l for r in results if r.rouge_l is not None]),
            "citation_precision": _share(
                sum(r.n_right_citations for r in results), sum(r.n_citations for r in results)
            ),
            "citation_support": _citation_support(results),
            "groundedness": _groundedness(results),
        },
        "abstention": {"precision": precision, "recall": recall, "f1": f1},
        "seconds": {"p50": percentile(seconds, 0.5), "p95": percentile(seconds, 0.95)},
        "n": len(results),
    }


def question_of(prompt: RolloutPrompt) -> ReferenceQuestion:
    """A held-out prompt as a question to evaluate on.

    Let the policy complete the prompt's own `prepared` turn, and judge with `judge_answer`: an unanswerable prompt is so because of the
    evidence it shows, and asking the question again would retrieve what answers it.
    """
    return ReferenceQuestion(
        id=prompt.id,
        question=prompt.question,
        answerable=prompt.answerable,
        answer=prompt.reference or "" if prompt.answerable is not False else "",
        key_facts=prompt.key_facts,
    )


def _abstention(results: Sequence[QuestionResult]) -> tuple[float, float, float]:
    known = [r for r in results if r.question.answerable is not None]
    abstained = [r for r in known if r.answer.abstained]
    right = sum(r.question.answerable is False for r in abstained)
    return precision_recall_f1(right, len(abstained), sum(r.question.answerable is False for r in known))


def _groundedness(results: Sequence[QuestionResult]) -> float:
    reports = [
        r.answer.grounding for r in results if r.answer.grounding is not None and not r.answer.abstained
    ]
    return _share(sum(r.n_supported for r in reports), sum(r.n_sentences for r in reports))


def _citation_support(results: Sequence[QuestionResult]) -> float:
    counts = [
        citation_support(r.answer.completion, r.answer.prepared.evidence)
        for r in results
        if not r.answer.abstained
    ]
    return _share(sum(n for n, _ in counts), sum(n for _, n in counts))


def mean(values: Sequence[float]) -> float:
    """Of some numbers; 0 without any."""
    return sum(values) / len(values) if values else 0.0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
