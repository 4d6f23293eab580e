"""Answers as stored: what a person was shown, from which evidence, by which policy. Knows nothing of how answers are made.

Different from a chat log: an answer remembers everything that a later judgement of it needs (the very prompt, the completion, its
log-probability, the versions behind it, the documents whose text the model saw), so that it can be trained on or left out rightly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from chatbot import tables
from chatbot.answer_json import (
    StoredEvidence,
    citation_to_json,
    citations_from_json,
    evidence_from_json,
    evidence_to_json,
    grounding_from_json,
    grounding_to_json,
    sampling_from_json,
    sampling_to_json,
)
from chatbot.erasure import DOCUMENT_GONE, erase_answer_words
from chatbot.records import Answer, Citation, GroundingReport, Sampling
from knowledge_base.database import Database, now
from knowledge_base.errors import NotFoundError, UsageError
from knowledge_base.tables import documents


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """An answer as it comes back from the database: `Answer` without the retrieval's inner workings."""

    id: str
    user_id: str | None
    """Whom it was shown to; None for the operator at the command line, and after that person was erased."""
    question: str
    text: str
    abstained: bool
    citations: Sequence[Citation]
    policy_id: str
    completion: str
    prompt: str
    logprob: float | None
    sampling: Sampling
    grounding: GroundingReport | None
    support: float
    versions: dict[str, str]
    evidence: Sequence[StoredEvidence]
    document_ids: Sequence[str]
    """Documents whose text is in the prompt, through evidence or earlier answers."""
    all_open: bool
    """Whether all of that text comes from collections that every employee may read."""
    seconds_to_first_token: float | None
    seconds: float
    surface: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """Counts over answers, for operators."""

    n: int
    per_day: Sequence[tuple[str, int]]
    """(`2026-01-31`, count), oldest first, days in UTC without any left out."""
    abstention_rate: float | None
    """Share of answers that say "I don't know"; None without answers."""
    fallback_rate: float | None
    """Share of answers where nothing supported was left and the best evidence was quoted."""
    median_seconds: float | None


class AnswerStore:
    """Keeps answers; an answer never changes once saved."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._clock = clock

    def save(
        self,
        answer: Answer,
        user_id: str | None,
        surface: str,
        *,
        earlier_answer_ids: Sequence[str] = (),
    ) -> StoredAnswer:
        """Keep an answer; without its words if a document that it rests on was deleted while it was written.

        Args:
            answer: As shown.
            user_id: Whom it was shown to; only this person may judge it.
            surface: Where: chat, compare, api, simulation.
            earlier_answer_ids: Answers whose text stands in the prompt as history. What they rest on counts for this answer too,
                else a follow-up question could carry restricted text into training.

        Raises:
            NotFoundError: an earlier answer is unknown.
            UsageError: an answer with this id is already kept.
        """
        with self._db.write() as connection:
            if connection.execute(_select_one(tables.answers.c.id, answer.id)).first() is not None:
                raise UsageError(f"answer {answer.id} is already stored: answers do not change")
            earlier = [_load(connection, answer_id, None) for answer_id in dict.fromkeys(earlier_answer_ids)]
            connection.execute(sa.insert(tables.answers).values(_to_row(answer, user_id, surface, earlier)))
            if _rests_on_what_is_gone(connection, answer, earlier):
                erase_answer_words(connection, answer.id)
            return _load(connection, answer.id, None)

    def get(self, answer_id: str, user_id: str | None = None) -> StoredAnswer:
        """Look an answer up.

        Args:
            answer_id: Which.
            user_id: When given, only an answer shown to this user: pass it wherever a person asks.

        Raises:
            NotFoundError: there is none, or it was shown to somebody else.
        """
        with self._db.read() as connection:
            return _load(connection, answer_id, user_id)

    def recent(self, limit: int = 50, *, policy_id: str | None = None) -> Sequence[StoredAnswer]:
        """The newest answers, newest first, of all people: for operators."""
        answers = tables.answers
        condition = sa.true() if policy_id is None else answers.c.policy_id == policy_id
        order = (answers.c.created_at.desc(), answers.c.id)
        with self._db.read() as connection:
            rows = connection.execute(sa.select(answers).where(condition).order_by(*order).limit(limit)).all()
        return [_from_row(row) for row in rows]

    def figures(self, since: datetime | None = None, *, policy_id: str | None = None) -> AnswerFigures:
        """Counts over the answers given after a time, of one policy or all."""
        answers = tables.answers
        conditions: list[sa.ColumnElement[bool]] = [sa.true()]
        if since is not None:
            conditions.append(answers.c.created_at > since)
        if policy_id is not None:
            conditions.append(answers.c.policy_id == policy_id)
        chosen = sa.and_(*conditions)
        fell_back = answers.c.grounding["fell_back"].as_boolean()
        with self._db.read() as connection:
            n, abstained, quoted = connection.execute(
                sa.select(
                    sa.func.count(),
                    sa.func.sum(sa.case((answers.c.abstained, 1), else_=0)),
                    sa.func.sum(sa.case((fell_back, 1), else_=0)),
                )
                .select_from(answers)
                .where(chosen)
            ).one()
            return AnswerFigures(
                n=n,
                per_day=count_per_day(connection, answers.c.created_at, chosen),
                abstention_rate=int(abstained) / n if n else None,
                fallback_rate=int(quoted) / n if n else None,
                median_seconds=_median(connection, answers.c.seconds, chosen, n),
            )


def count_per_day(
    connection: Connection, column: sa.Column[datetime], condition: sa.ColumnElement[bool]
) -> Sequence[tuple[str, int]]:
    """How many rows per UTC day, oldest first; days without rows are left out."""
    day = sa.func.date(column)
    rows = connection.execute(sa.select(day, sa.func.count()).where(condition).group_by(day).order_by(day))
    # SQLite gives text, PostgreSQL a date; both read 2026-01-31.
    return [(str(at), int(count)) for at, count in rows.all()]


def _median(
    connection: Connection, column: sa.Column[float], condition: sa.ColumnElement[bool], n: int
) -> float | None:
    if n == 0:
        return None
    middle = sa.select(column).where(condition).order_by(column).offset((n - 1) // 2).limit(2 - n % 2)
    values = [float(value) for value in connection.execute(middle).scalars()]
    return sum(values) / len(values)


def _select_one(column: sa.Column[str], answer_id: str) -> sa.Select[Any]:
    return sa.select(column).where(tables.answers.c.id == answer_id)


def _load(connection: Connection, answer_id: str, user_id: str | None) -> StoredAnswer:
    answers = tables.answers
    condition = answers.c.id == answer_id
    if user_id is not None:
        condition = sa.and_(condition, answers.c.user_id == user_id)
    row = connection.execute(sa.select(answers).where(condition)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no answer {answer_id[:80]!r}: use the answer_id that came with the answer"
        )
    return _from_row(row)


def _rests_on_what_is_gone(connection: Connection, answer: Answer, earlier: Sequence[StoredAnswer]) -> bool:
    """Whether the prompt shows what has been deleted since it was made."""
    read = {sentence.passage.document_id for sentence in answer.prepared.evidence}
    # Locked where rows can be: a deletion that comes now waits, and then finds the answer.
    known = sa.select(documents.c.id).where(documents.c.id.in_(read)).with_for_update(read=True)
    if read and len(connection.execute(known).all()) < len(read):
        return True
    # An earlier answer whose text went before this question was asked is in the prompt without it.
    shown = [message.content for message in answer.prepared.messages if message.role == "assistant"]
    repeated = earlier[-len(shown) :] if shown else []
    return sum(before.text == DOCUMENT_GONE for before in repeated) > shown.count(DOCUMENT_GONE)


def _to_row(
    answer: Answer, user_id: str | None, surface: str, earlier: Sequence[StoredAnswer]
) -> dict[str, Any]:
    evidence = answer.prepared.evidence
    documents = [sentence.passage.document_id for sentence in evidence]
    documents += [document for before in earlier for document in before.document_ids]
    grounding = answer.grounding
    return {
        "id": answer.id,
        "user_id": user_id,
        "question": answer.question,
        "text": answer.text,
        "abstained": answer.abstained,
        "policy_id": answer.policy_id,
        "completion": answer.completion,
        "prompt": answer.prompt,
        "logprob": answer.logprob,
        "sampling": sampling_to_json(answer.sampling),
        "grounding": sa.null() if grounding is None else grounding_to_json(grounding),
        "support": answer.prepared.support,
        "versions": dict(answer.prepared.versions),
        "citations": [citation_to_json(citation) for citation in answer.citations],
        "evidence": [evidence_to_json(sentence) for sentence in evidence],
        "document_ids": list(dict.fromkeys(documents)),
        "all_open": all(s.passage.collection_is_open for s in evidence) and all(b.all_open for b in earlier),
        "seconds_to_first_token": answer.seconds_to_first_token,
        "seconds": answer.seconds,
        "surface": surface,
        "created_at": answer.created_at,
    }


def _from_row(row: Row[Any]) -> StoredAnswer:
    return StoredAnswer(
        id=row.id,
        user_id=row.user_id,
        question=row.question,
        text=row.text,
        abstained=row.abstained,
        citations=citations_from_json(row.citations),
        policy_id=row.policy_id,
        completion=row.completion,
        prompt=row.prompt,
        logprob=row.logprob,
        sampling=sampling_from_json(row.sampling),
        grounding=None if row.grounding is None else grounding_from_json(row.grounding),
        support=row.support,
        versions=dict(row.versions),
        evidence=evidence_from_json(row.evidence),
        document_ids=tuple(row.document_ids),
        all_open=row.all_open,
        seconds_to_first_token=row.seconds_to_first_token,
        seconds=row.seconds,
        surface=row.surface,
        created_at=row.created_at,
    )
