"""How well retrieval finds the evidence: recall, reciprocal rank, nDCG, against questions whose evidence is known.

A retrieved chunk is relevant when it is of the question's document and contains the evidence or at least half of it. Evidence is
quoted in the document's raw markup while chunks are clean text, so both are folded to bare words first; "half" is counted in words
that stand in runs of at least five (or half the evidence, if that is less), in order: single words that any text shares count nothing.

Different from the textbook: a question has one piece of evidence, which may lie across two chunks; recall@k asks whether any relevant
chunk is among the first k, and nDCG's ideal counts the relevant chunks that the stored document really has.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from knowledge_base.protocols import Retriever
from knowledge_base.questions import EvaluationQuestion
from knowledge_base.records import Passage, Reader
from knowledge_base.store import KnowledgeStore

_DEPTH = 10
_MIN_RUN_WORDS = 5
_MARKUP = (
    (re.compile(r"<!--.*?-->", re.DOTALL), " "),
    (re.compile(r"\{[%{].*?[%}]\}", re.DOTALL), " "),
    (re.compile(r"!\[([^\]]*)\]\([^)]*\)"), r" \1 "),
    (re.compile(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),
    (re.compile(r"\{:?[#.:][^}\n]*\}"), " "),
    (re.compile(r"<(?:https?:|mailto:)([^>\s]*)>"), r" \1 "),
    (re.compile(r"</?[a-zA-Z][^>]*>"), " "),
    (re.compile(r"^\s*\d{1,3}[.)]\s", re.MULTILINE), " "),
    (re.compile(r"[*`~]|(?<![^\W_])_|_(?![^\W_])"), ""),
)
"""Comments, Liquid, images, links, attribute lists, autolinks, tags, list numbers, emphasis."""
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOutcome:
    """What retrieval found for one question."""

    question: EvaluationQuestion
    relevant_ranks: tuple[int, ...]
    """Ranks (from 1) of relevant passages among the first ten."""
    n_relevant: int
    """Relevant chunks that the document has in the searched collections; 0 when retrieval could not have succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalMetrics:
    """Means over the answerable questions; each in [0, 1]."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr_at_10: float
    ndcg_at_10: float
    n: int
    """Answerable questions."""
    outcomes: tuple[QuestionOutcome, ...]

    def as_dict(self) -> dict[str, float]:
        """The metrics under the names of the command line's contract."""
        return {
            "recall@1": self.recall_at_1, "recall@5": self.recall_at_5, "recall@10": self.recall_at_10,
            "mrr@10": self.mrr_at_10, "ndcg@10": self.ndcg_at_10,
        }  # fmt: skip


def evaluate_retrieval(
    questions: Sequence[EvaluationQuestion],
    retriever: Retriever,
    store: KnowledgeStore,
    reader: Reader,
    *,
    collections: Sequence[str] | None = None,
) -> RetrievalMetrics:
    """Retrieve for every answerable question and measure.

    Args:
        questions: Unanswerable ones are left out.
        retriever: What is measured.
        store: Tells which chunks the documents have.
        reader: Who asks.
        collections: Names to search in; None for all that the reader may read.

    Raises:
        NotFoundError: a collection does not exist or is not permitted.
    """
    names = [c.name for c in store.permitted_collections(reader, collections)]
    held = {name: {d.path: d.id for d in store.list_documents(name)} for name in names}
    outcomes = []
    for question in questions:
        if not question.answerable:
            continue
        passages = retriever.retrieve(question.question, reader, collections=names, top_k=_DEPTH)
        ids = [paths[question.document] for paths in held.values() if question.document in paths]
        texts = [chunk.text for document_id in ids for chunk in store.document_chunks(document_id)]
        outcomes.append(
            QuestionOutcome(
                question=question,
                relevant_ranks=tuple(p.rank for p in passages if is_relevant(p, question)),
                n_relevant=sum(holds_evidence(text, question.evidence) for text in texts),
            )
        )
    return summarise(outcomes)


def summarise(outcomes: Sequence[QuestionOutcome]) -> RetrievalMetrics:
    """Means over questions; all 0 when there are none."""

    def recall(k: int) -> float:
        return _mean([float(any(rank <= k for rank in o.relevant_ranks)) for o in outcomes])

    return RetrievalMetrics(
        recall_at_1=recall(1),
        recall_at_5=recall(5),
        recall_at_10=recall(10),
        mrr_at_10=_mean([1 / min(o.relevant_ranks) if o.relevant_ranks else 0.0 for o in outcomes]),
        ndcg_at_10=_mean([ndcg(o.relevant_ranks, o.n_relevant) for o in outcomes]),
        n=len(outcomes),
        outcomes=tuple(outcomes),
    )


def ndcg(relevant_ranks: Sequence[int], n_relevant: int, *, depth: int = _DEPTH) -> float:
    """Normalised discounted cumulative gain for yes/no relevance (Jarvelin and Kekalainen, TOIS 2002).

    DCG = sum of 1 / log2(1 + rank) over relevant ranks up to depth, divided by that of the best possible order.

    >>> round(ndcg([2], 1), 3)
    0.631
    """
    gained = sum(1 / math.log2(1 + rank) for rank in relevant_ranks if rank <= depth)
    possible = min(max(n_relevant, len(relevant_ranks)), depth)
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, possible + 1))
    return gained / ideal if ideal else 0.0


def is_relevant(passage: Passage, question: EvaluationQuestion) -> bool:
    """Whether a retrieved chunk counts as found evidence."""
    return passage.document == question.document and holds_evidence(passage.text, question.evidence)


def holds_evidence(text: str, evidence: str) -> bool:
    """Whether a chunk's text contains the evidence, or at least half of it.

    >>> holds_evidence("Check civilian, not contractor. We aren't contractors.", "Check **civilian**, not **contractor**")
    True
    """
    wanted = fold(evidence).split()
    if not wanted:
        return False
    half = (len(wanted) + 1) // 2
    shortest = min(_MIN_RUN_WORDS, half)
    matcher = SequenceMatcher(None, wanted, fold(text).split(), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks() if block.size >= shortest) >= half


def fold(text: str) -> str:
    """Bare words: no Markdown, Liquid or HTML, no punctuation, no accents, lower case, single spaces.

    >>> fold("See the [Travel  guide](https://example.org/a), it's **new**.")
    'see the travel guide it s new'
    """
    text = html.unescape(text)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    decomposed = unicodedata.normalize("NFKD", text.lower())
    return " ".join(_WORD.findall("".join(c for c in decomposed if not unicodedata.combining(c))))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
