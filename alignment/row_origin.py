"""Which rows of a snapshot a judgement became: asked when it is taken back, and when a killed run goes on.

Knows rows and judgements, nothing of files. Different from a foreign key: rows are named by what is in them, so that snapshots written before
anybody asked can be answered for too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from alignment.records import PromptCompletion, RankedCompletions
from chatbot.prompt import is_refusal, strip_citations
from chatbot.records import Judgement
from knowledge_base.sentences import split_sentences


def is_said_in(judgement: Judgement, row: RankedCompletions) -> bool:
    """Whether a rating, comparison or ranking is one that this row may have been made of."""
    if judgement.kind == "demonstration" or judgement.user_id != row.labeler_id:
        return False
    if judgement.prompt and judgement.prompt != row.prompt:
        return False
    if not row.ranking and judgement.kind != "rating" and not judgement.both_bad:
        return False  # that both are bad says of each that it is
    if not row.ranking and row.label is not (judgement.label if judgement.kind == "rating" else False):
        return False  # the same answer, said something else of
    if row.ranking and judgement.kind == "rating":
        return False
    return {answer.text for answer in judgement.answers}.issuperset(row.completions)


def is_demonstrated_in(judgement: Judgement, row: PromptCompletion) -> bool:
    """Whether a demonstration is the one that this row was made of: its sentences, cited anew."""
    if judgement.kind != "demonstration" or row.labeler_id != judgement.user_id or not judgement.answers:
        return False
    text = judgement.answers[0].text
    if is_refusal(text) or is_refusal(row.completion):
        # All refusals read alike: the question tells them apart.
        same_question = _letters(judgement.question) in _letters(row.prompt)
        return is_refusal(text) and is_refusal(row.completion) and same_question
    return _sentences(text) == _sentences(row.completion)


class SaidBy:
    """What one person's judgements may have become; made once for the rows of a whole snapshot."""

    def __init__(self, judgements: Iterable[Judgement]) -> None:
        """Read them; all are one person's, and none is withdrawn."""
        self._votes: dict[str, list[Judgement]] = defaultdict(list)
        self._ideals: set[str] = set()
        self._refused: set[str] = set()
        for judgement in judgements:
            if judgement.kind != "demonstration":
                self._votes[judgement.prompt].append(judgement)
            elif judgement.answers and is_refusal(judgement.answers[0].text):
                self._refused.add(_letters(judgement.question))
            elif judgement.answers:
                self._ideals.add(_sentences(judgement.answers[0].text))

    def has_said(self, row: RankedCompletions) -> bool:
        """Whether a rating, comparison or ranking of theirs is one that this row may have been made of; see `is_said_in`."""
        # One that was imported came without a prompt, and may be of any.
        near = [*self._votes.get(row.prompt, ()), *(self._votes.get("", ()) if row.prompt else ())]
        return any(is_said_in(judgement, row) for judgement in near)

    def has_demonstrated(self, row: PromptCompletion) -> bool:
        """Whether a demonstration of theirs is the one that this row was made of; see `is_demonstrated_in`."""
        if not is_refusal(row.completion):
            return _sentences(row.completion) in self._ideals
        prompt = _letters(row.prompt)
        return any(question in prompt for question in self._refused)


def _sentences(text: str) -> str:
    # A mark inside a mark leaves a mark: cited anew, it was stripped twice.
    while (bare := strip_citations(text)) != text:
        text = bare
    return " ".join(" ".join(span.text.split()) for span in split_sentences(bare))


def _letters(text: str) -> str:
    # Rendering folds spaces and breaks up what a template could take for its own marks.
    return "".join(re.findall(r"\w", text))
