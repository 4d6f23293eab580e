"""Whether the evidence is strong enough to ask the model at all, and what a refusal looks like.

Support is a probability from two numbers of the evidence, by a logistic formula whose coefficients were fitted on public question
sets. Knows nothing of models and prompts; the model may still refuse on its own.

Different from the textbook (one cosine threshold): a high cosine means "the same topic", not "answered here", so words of the
question that occur in the evidence count too. It remains a coarse sieve: it stops questions about things the documents never
mention; a question next to the topic is for the model to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatbot.answerability import sigmoid
from chatbot.prompt import REFUSAL
from chatbot.records import EvidenceSentence
from chatbot.settings import AbstentionSettings
from chatbot.statement import take_apart
from knowledge_base.records import Passage

_NEAREST_DOCUMENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceStrength:
    """What support is computed from."""

    sentence: float
    """Best cosine of question and evidence sentence."""
    overlap: float
    """Share of the question's content words, numbers and names found in the evidence or its headings, in [0, 1]."""


def measure(question: str, evidence: Sequence[EvidenceSentence]) -> EvidenceStrength:
    """The strength of the evidence for a question; all zero without evidence."""
    if not evidence:
        return EvidenceStrength(sentence=0.0, overlap=0.0)
    asked = take_apart(question)
    sought = asked.topics
    found: set[str] = set()
    for item in evidence:
        for text in (item.heading, item.text):
            found |= take_apart(text).topics
    return EvidenceStrength(
        sentence=max(item.similarity for item in evidence),
        overlap=len(sought & found) / len(sought) if sought else 0.0,
    )


def support(question: str, evidence: Sequence[EvidenceSentence], settings: AbstentionSettings) -> float:
    """How likely the evidence holds the answer, in [0, 1]; 0 without evidence."""
    if not evidence:
        return 0.0
    strength = measure(question, evidence)
    score = settings.intercept + settings.sentence * strength.sentence + settings.overlap * strength.overlap
    return sigmoid(score)


def render_refusal(passages: Sequence[Passage], owners: Mapping[str, str]) -> str:
    """The refusal as shown: the fixed sentence, then the nearest documents and whom to ask.

    Args:
        passages: What was retrieved for the reader, best first.
        owners: Collection name to its owner; collections without one may be missing.

    >>> render_refusal([], {})
    "I don't know. The documents I can read don't answer this."
    """
    nearest: dict[str, Passage] = {}
    for passage in passages:
        nearest.setdefault(passage.document_id, passage)
    shown = list(nearest.values())[:_NEAREST_DOCUMENTS]
    text = REFUSAL
    if shown:
        text += f" The nearest documents: {'; '.join(p.title or p.document for p in shown)}."
    asked = dict.fromkeys(owners[p.collection] for p in shown if owners.get(p.collection))
    if asked:
        text += f" You could ask {' or '.join(asked)}."
    return text
