"""What a judgement must be to count, what it is about, and its form in the database. Knows nothing of who may judge what.

Different from a table of thumbs: a rating, a choice of two, a ranking of many and an ideal answer are one record with one identity
rule (person, kind, subject), so that undo, revision and erasure work the same for all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, get_args

from chatbot.errors import FeedbackError
from chatbot.records import Answer, Citation, EvidenceSentence, GroundingReport, Judgement, JudgementKind

KINDS: tuple[JudgementKind, ...] = get_args(JudgementKind)

REASONS: tuple[str, ...] = (
    "wrong",
    "not in the documents",
    "incomplete",
    "outdated",
    "too long",
    "too short",
    "unclear",
    "should have answered",
    "should not have answered",
    "correct",
    "clear",
    "great source",
)
"""What people may tick beside a judgement; fixed, so that they can be counted."""

MAX_RANKED_ANSWERS = 16


def text_hash(*texts: str) -> str:
    """32 hexadecimal digits that name texts, ignoring case and white space.

    >>> text_hash("How many days?") == text_hash(" how  many DAYS? ")
    True
    """
    folded = "\x1f".join(" ".join(text.split()).casefold() for text in texts)
    return hashlib.sha256(folded.encode()).hexdigest()[:32]


_MARK = re.compile(r"\s*\[(\d{1,2})\]")


def judged_text(
    completion: str,
    text: str,
    *,
    citations: Sequence[Citation],
    numbers: dict[tuple[int, int, int], int],
    report: GroundingReport | None,
) -> str:
    """What a person judged, as a completion of the prompt: what the model wrote, unless grounding changed what they saw.

    A completion of which a part was dropped, or that was replaced by a quotation, was never read. Its judgement is about the text that
    was, so that text is what a reward model may learn from; else nonsense would be praised for the quotation shown in its place.

    Args:
        completion: As written, in the prompt's numbering; empty when the model was not asked.
        text: As shown, citations counted from 1.
        citations: Those of `text`.
        numbers: (chunk id, start, end) of each evidence sentence to its number in the prompt.
        report: Of the grounding check.
    """
    if not completion.strip():
        return text
    if report is None or not (report.dropped or report.fell_back):
        return completion
    in_prompt = {c.number: numbers.get((c.chunk_id, c.start, c.end)) for c in citations}

    def renumber(mark: re.Match[str]) -> str:
        number = in_prompt.get(int(mark[1]))
        return f" [{number}]" if number is not None else ""

    return _MARK.sub(renumber, text)


def numbers_of(evidence: Sequence[EvidenceSentence]) -> dict[tuple[int, int, int], int]:
    """Each sentence's number in the prompt by its place: chunk id, start, end."""
    return {(e.passage.chunk_id, e.start, e.end): e.number for e in evidence}


def judged_text_of(answer: Answer) -> str:
    """`judged_text` of an answer that is still in memory."""
    return judged_text(
        answer.completion,
        answer.text,
        citations=answer.citations,
        numbers=numbers_of(answer.prepared.evidence),
        report=answer.grounding,
    )


def kind_of_ranking(n_answers: int) -> JudgementKind:
    """Two answers make a comparison, more a ranking."""
    return "comparison" if n_answers == 2 else "ranking"


def check_judgement(judgement: Judgement) -> None:
    """Refuse what can not be learned from.

    Raises:
        FeedbackError: the kind, its answers, label or ranking do not fit together; the message says which and how it should be.
    """
    if judgement.kind not in KINDS:
        raise FeedbackError(f"{judgement.kind!r} is not a kind of judgement: use one of {', '.join(KINDS)}")
    if not judgement.question.strip():
        raise FeedbackError("a judgement needs the question that was answered")
    if not judgement.subject:
        raise FeedbackError("a judgement needs a subject: the answer's id or the question's hash")
    if any(not answer.text.strip() for answer in judgement.answers):
        raise FeedbackError("a judged answer can not be empty")
    _check_storable(judgement)
    check_reasons(judgement.reasons)
    if judgement.kind in ("comparison", "ranking"):
        _check_comparison(judgement)
        return
    if len(judgement.answers) != 1 or judgement.ranking or judgement.displayed_order:
        raise FeedbackError(f"a {judgement.kind} is about one answer and has no ranking")
    if (judgement.kind == "rating") != isinstance(judgement.label, bool):
        raise FeedbackError("a rating has a label, true or false; a demonstration has none")


def _check_storable(judgement: Judgement) -> None:
    texts = [judgement.question, judgement.prompt, judgement.comment, judgement.subject, judgement.surface]
    for text in (*texts, *(answer.text for answer in judgement.answers)):
        # PostgreSQL takes no null characters, no database takes half of a surrogate pair; JSON can smuggle in both.
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise FeedbackError("the text holds a character that can not be stored: remove it")


def check_reasons(reasons: Sequence[str]) -> None:
    """Refuse reasons that are not on the list.

    Raises:
        FeedbackError: one is not; the message lists the legal ones.
    """
    unknown = [reason for reason in reasons if reason not in REASONS]
    if unknown:
        raise FeedbackError(f"{unknown[0]!r} is not a reason: use {', '.join(REASONS)}; or write a comment")


def _check_comparison(judgement: Judgement) -> None:
    n = len(judgement.answers)
    most = 2 if judgement.kind == "comparison" else MAX_RANKED_ANSWERS
    if not 2 <= n <= most:
        raise FeedbackError(
            f"a comparison has 2 answers and a ranking 2 to {MAX_RANKED_ANSWERS}; this {judgement.kind} has {n}"
        )
    if judgement.label is not None:
        raise FeedbackError(f"a {judgement.kind} has a ranking, not a label")
    check_ranking(judgement.ranking, n)
    if judgement.displayed_order and sorted(judgement.displayed_order) != list(range(n)):
        raise FeedbackError(
            f"displayed_order {list(judgement.displayed_order)} must hold each of 0 to {n - 1} once"
        )


def check_ranking(ranking: Sequence[Sequence[int]], n_answers: int) -> None:
    """Refuse a ranking that leaves an answer out or names one twice; equals stand together.

    Raises:
        FeedbackError: naming the indices that are missing, doubled or unknown.

    >>> check_ranking([[2], [0, 1]], 3)
    """
    indices = [index for group in ranking for index in group]
    if any(not group for group in ranking) or sorted(indices) != list(range(n_answers)):
        shown = [list(group) for group in ranking]
        raise FeedbackError(
            f"the ranking {shown} must hold each of 0 to {n_answers - 1} exactly once, best first, equals together"
        )


def same_content(left: Judgement, right: Judgement) -> bool:
    """Whether two judgements of one subject say the same, whatever order their answers are listed in.

    Answers are told apart by their ids, or by their text where one side has no ids (an import).
    """
    by_id = all(answer.answer_id for judgement in (left, right) for answer in judgement.answers)
    return _content(left, by_id) == _content(right, by_id)


def _content(judgement: Judgement, by_id: bool) -> tuple[Any, ...]:
    texts = [answer.text for answer in judgement.answers]
    names = [answer.answer_id or "" for answer in judgement.answers] if by_id else texts
    ranks = tuple(tuple(sorted(names[index] for index in group)) for group in judgement.ranking)
    verdict = (judgement.label, judgement.both_bad, sorted(judgement.reasons), judgement.comment)
    return (judgement.kind, judgement.subject, sorted(texts), ranks, *verdict)
