"""What fits into a model's context: how much history, whether one more evidence sentence, whether the question at all.

Counts the rendered prompt with the model's own tokenizer, never an estimate of it. Knows nothing of retrieval or ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatbot.prompt import Message, NumberedEvidence, build_messages
from chatbot.protocols import Generator
from chatbot.records import EvidenceSentence
from knowledge_base.errors import UsageError


class PromptBudget:
    """The tokens one model has for a prompt that leaves room for an answer."""

    def __init__(self, generator: Generator, max_new_tokens: int) -> None:
        self._generator = generator
        self._room = generator.context_tokens - max_new_tokens

    def cut_history(self, question: str, history: Sequence[Message]) -> list[Message]:
        """Drop the oldest turns until question and history leave half of the room to the evidence.

        Raises:
            UsageError: not even the question alone fits.
        """
        kept = list(history)
        while kept and self._count(question, (), kept) > self._room // 2:
            kept.pop(0)
            while kept and kept[0].role != "user":
                kept.pop(0)
        needed = self._count(question, (), kept)
        if needed > self._room:
            raise UsageError(
                f"the question takes {needed:,} of the model's {self._generator.context_tokens:,} tokens and leaves too few "
                "to answer: shorten it, or put the text into a document and ingest it"
            )
        return kept

    def fits(self, question: str, evidence: Sequence[EvidenceSentence], history: Sequence[Message]) -> bool:
        """Whether a prompt of these leaves room for an answer."""
        return self._count(question, evidence, history) <= self._room

    def _count(self, question: str, evidence: Sequence[EvidenceSentence], history: Sequence[Message]) -> int:
        messages = build_messages(question, as_numbered(evidence), history)
        return self._generator.count_tokens(self._generator.render(messages))


def as_numbered(evidence: Sequence[EvidenceSentence]) -> list[NumberedEvidence]:
    """Evidence as the prompt shows it."""
    return [NumberedEvidence(number=e.number, heading=e.heading, text=e.text) for e in evidence]
