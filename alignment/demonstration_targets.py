"""What a person wrote as a target for imitation: with the prompt's own numbers, where the evidence says so.

Knows nothing of judgements or of training. Different from imitating the text as it is: what the evidence does not say would teach a policy to make things up.
"""

from __future__ import annotations

from chatbot.grounding import supports
from chatbot.prompt import strip_citations
from chatbot.records import EvidenceSentence, PreparedTurn
from knowledge_base.sentences import split_sentences

_LEAST_SUPPORTED = 0.5
"""Share of a demonstration's sentences that its evidence must support."""


def cite_anew(text: str, prepared: PreparedTurn) -> str | None:
    """A demonstration with the prompt's numbers after the sentences its evidence supports; None when too few are.

    Args:
        text: As written by a person, with or without marks.
        prepared: The evidence it will be shown with.
    """
    sentences = [span.text for span in split_sentences(strip_citations(text))]
    cited = []
    n_supported = 0
    for sentence in sentences:
        number = next(
            (item.number for item in prepared.evidence if supports(_as_known(item), sentence)), None
        )
        n_supported += number is not None
        cited.append(f"{sentence} [{number}]" if number is not None else sentence)
    if not sentences or n_supported < _LEAST_SUPPORTED * len(sentences):
        return None
    return " ".join(cited)


def _as_known(item: EvidenceSentence) -> str:
    # As the grounding check reads it: the heading belongs to the sentence, on a line of its own.
    return f"{item.heading}\n{item.text}" if item.heading else item.text
