"""Whether a known answer was taught: a sentence of it stands in a target that training learns to write.

Knows nothing of keys or splits: texts in, a verdict out. Different from splitting by question alone: two questions of different ids may have one answer, a
section under a heading and a row of its table, or what an expert wrote to a colleague's question, and then the split measures memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from chatbot.prompt import is_refusal, strip_citations
from knowledge_base.sentences import split_sentences

_WORD = re.compile(r"\w+")
_FEWEST_WORDS = 5
"""Shorter sentences ("Ask your manager.") are said of many things."""


class TaughtSentences:
    """The sentences of training's targets."""

    def __init__(self, targets: Iterable[str]) -> None:
        """Read them; refusals teach no answer."""
        self._known = {
            sentence for target in targets if not is_refusal(target) for sentence in _sentences(target)
        }

    def cover(self, answer: str) -> bool:
        """Whether any sentence of an answer is taught, ignoring citations, case and punctuation.

        >>> TaughtSentences(["Call your manager before nine o'clock [1]."]).cover("Rest well. Call your MANAGER before nine o'clock. [2]")
        True
        """
        return any(sentence in self._known for sentence in _sentences(answer))


def _sentences(text: str) -> Iterable[str]:
    for span in split_sentences(strip_citations(text)):
        words = _WORD.findall(span.text.casefold())
        if len(words) >= _FEWEST_WORDS:
            yield " ".join(words)
