"""The order in which a policy reads its evidence: which of the chosen sentences employees would rather be quoted.

A policy bundle may hold an order, learned from judgements by `alignment.evidence_taste`: one weight for each of a few things that anyone
can see of a sentence beside a question. Similarity chooses the sentences (`evidence.py`); the order only says which of them gets the
number 1, where a small model begins. Knows nothing of how weights are learned.

Different from a learned reranker: the set of sentences stays as it was chosen, so access rules, abstention and what can be cited are
untouched; the score is a sum that a person can read; it takes microseconds and no model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from chatbot.bundles import read_part
from chatbot.records import EvidenceSentence
from chatbot.statement import take_apart
from chatbot.text_form import ends_whole, share, starts_whole

ORDER_FILE = "evidence_order.json"
"""Its name in a policy bundle."""

FEATURES: Final = (
    "similarity",
    "passage_similarity",
    "takes_up_question",
    "keeps_to_question",
    "heading_takes_up_question",
    "log_words",
    "words_over_25",
    "words_over_50",
    "has_number",
    "starts_whole",
    "ends_whole",
)
"""Names of the numbers that `describe_sentence` returns, in order.

`similarity`, `passage_similarity`: cosine of the question with the sentence and with its passage. `takes_up_question`,
`heading_takes_up_question`: share of the question's content words in the sentence, in its heading. `keeps_to_question`: share of the
sentence's content words in the question. `log_words`, `words_over_25`, `words_over_50`: ln(1 + words), and those beyond 25 and 50 in
hundreds. `has_number`, `starts_whole` (with a capital or a digit), `ends_whole` (with a stop): form."""

_WORD = re.compile(r"\w+")


def describe_sentence(question: str, item: EvidenceSentence) -> tuple[float, ...]:
    """What can be seen of a sentence beside a question: one number for each of `FEATURES`."""
    asked, said, above = (
        take_apart(question).topics,
        take_apart(item.text).topics,
        take_apart(item.heading).topics,
    )
    text = item.text.strip()
    n_words = len(_WORD.findall(text))
    return (
        item.similarity,
        item.passage.similarity,
        share(len(asked & said), len(asked)),
        share(len(asked & said), len(said)),
        share(len(asked & above), len(asked)),
        math.log1p(n_words),
        max(0, n_words - 25) / 100,
        max(0, n_words - 50) / 100,
        float(any(character.isdigit() for character in text)),
        float(starts_whole(text)),
        float(ends_whole(text)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceOrder:
    """A learned order."""

    weights: Mapping[str, float]
    """Worth of one unit of each of `FEATURES`; only differences between the sentences of one turn count."""

    def __post_init__(self) -> None:
        """Reject an order of other features than this version's."""
        if set(self.weights) != set(FEATURES):
            odd = sorted(set(self.weights) ^ set(FEATURES))
            raise ValueError(
                f"an evidence order weighs exactly the features of this version; wrong: {', '.join(odd)}"
            )
        if not all(math.isfinite(weight) for weight in self.weights.values()):
            raise ValueError("an evidence order's weights must be finite")

    def sort(self, question: str, evidence: Sequence[EvidenceSentence]) -> list[EvidenceSentence]:
        """The same sentences, best first and numbered anew; in whatever order they come, the result is the same.

        Args:
            question: What was searched for.
            evidence: Chosen sentences.
        """

        def key(item: EvidenceSentence) -> tuple[float, float, int, int]:
            return (-self._score(question, item), -item.similarity, item.passage.chunk_id, item.start)

        return [replace(item, number=n) for n, item in enumerate(sorted(evidence, key=key), start=1)]

    def _score(self, question: str, item: EvidenceSentence) -> float:
        described = zip(FEATURES, describe_sentence(question, item), strict=True)
        return sum(self.weights[name] * value for name, value in described)

    def save(self, directory: Path) -> None:
        """Write it beside a policy's weights."""
        text = json.dumps({"weights": dict(self.weights)}, indent=1, sort_keys=True)
        (directory / ORDER_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> EvidenceOrder | None:
        """The order of a policy's directory; None when it has none.

        Raises:
            GenerationError: there is one, and it cannot be used.
        """
        return read_part(directory / ORDER_FILE, lambda stored: cls(weights=stored["weights"]))
