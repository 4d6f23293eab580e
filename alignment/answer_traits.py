"""What anyone can see of an answer without understanding it: how long it is, whether it cites, how much of the question it takes up.

Numbers for `trait_model.py`, which learns from judgements what they are worth. Pure text in, numbers out; knows nothing of models, of
judgements, or of whether an answer is true. Different from the features of an essay scorer: they are read off the completion and its
prompt alone, the same ones for every company, and none says what is good. A person can read each in a report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from chatbot.prompt import ReadPrompt, cited_numbers, is_refusal, read_prompt, strip_citations
from chatbot.statement import take_apart
from chatbot.text_form import ends_whole, share, starts_whole

TRAITS: Final = (
    "refuses",
    "log_words",
    "words",
    "words_over_25",
    "words_over_50",
    "takes_up_question",
    "keeps_to_question",
    "cites_nothing",
    "citations",
    "first_citation_rank",
    "repeats",
    "own_words",
    "has_number",
    "lines",
    "ends_whole",
    "starts_whole",
)
"""Names of the numbers that `describe` returns, in order.

`refuses`: 1 for the refusal; all others are then 0. `log_words`, `words`, `words_over_25`, `words_over_50`: ln(1 + words), words in hundreds,
and those beyond 25 and 50 in hundreds; together they can like any length best. `takes_up_question`: share of the question's content words in
the answer. `keeps_to_question`: share of the answer's content words in the question. `cites_nothing`, `citations`, `first_citation_rank`:
no citation; how many sentences are cited; how far down the evidence the first of them stands, 0 to 1. `repeats`: share of three-word runs
said before. `own_words`: share of content words that neither evidence nor question has. `has_number`, `lines` (line breaks), `ends_whole`
(with a stop), `starts_whole` (with a capital or a digit): form."""

_WORD = re.compile(r"\w+")
_NO_PROMPT = ReadPrompt(question="", evidence={})


def describe(prompt: str, completion: str) -> tuple[float, ...]:
    """The traits of a completion.

    Args:
        prompt: Rendered, as `chatbot.prompt` makes it; of any other only the completion is looked at.
        completion: In the prompt's numbering of evidence.

    Returns:
        One number for each of `TRAITS`.
    """
    if is_refusal(completion):
        return (1.0, *([0.0] * (len(TRAITS) - 1)))
    read = _read(prompt)
    text = strip_citations(completion)
    words = _WORD.findall(text.lower())
    asked, said, known = (
        take_apart(read.question).topics,
        take_apart(text).topics,
        _known(tuple(read.evidence.values())),
    )
    cited = cited_numbers(completion)
    # A number that leads nowhere is repaired or dropped before anybody sees it; as a rank it would be farther out than any.
    ranks = [number - 1 for number in cited if 1 <= number <= len(read.evidence)]
    return (
        0.0,
        math.log1p(len(words)),
        len(words) / 100,
        max(0, len(words) - 25) / 100,
        max(0, len(words) - 50) / 100,
        share(len(asked & said), len(asked)),
        share(len(asked & said), len(said)),
        float(not cited),
        float(len(cited)),
        share(min(ranks, default=0), max(len(read.evidence) - 1, 1)),
        _repeated(words),
        share(len(said - known - asked), len(said)),
        float(bool(re.search(r"\d", text))),
        float(text.count("\n")),
        float(ends_whole(text)),
        float(starts_whole(text)),
    )


@lru_cache(maxsize=512)
def _read(prompt: str) -> ReadPrompt:
    return read_prompt(prompt) or _NO_PROMPT


@lru_cache(maxsize=512)
def _known(evidence: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(take_apart(text).topics for text in evidence)) if evidence else frozenset()


def _repeated(words: Sequence[str]) -> float:
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
