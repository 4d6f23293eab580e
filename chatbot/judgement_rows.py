"""Judgements in the database: made from stored answers, written as revisions, read back. Knows nothing of who may judge or how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from chatbot import tables
from chatbot.answers import StoredAnswer
from chatbot.errors import FeedbackError
from chatbot.judgements import judged_text
from chatbot.prompt import renumbered
from chatbot.records import JudgedAnswer, Judgement, JudgementKind
from knowledge_base.database import new_id, now
from knowledge_base.errors import NotFoundError


def judgement_of(
    answers: Sequence[StoredAnswer],
    user_id: str,
    *,
    kind: JudgementKind,
    subject: str,
    surface: str,
) -> Judgement:
    """A judgement of stored answers, with their lineage but without a verdict yet.

    Answers of policies that read the same evidence in another order get the numbers of one prompt. `extra` holds `prompts`, one an answer,
    when the answers were written for prompts that differ in more (other templates, other evidence), and `shown`, one an answer, when
    grounding changed what the model wrote.

    Raises:
        FeedbackError: there are no answers.
    """
    if not answers:
        raise FeedbackError("name at least two answers to compare")
    documents = [document for answer in answers for document in answer.document_ids]
    # Not the first: the same comparison named the other way round is the same judgement.
    prompt = min((answer.prompt for answer in answers if answer.prompt), default="")
    judged = [_as_judged(answer) for answer in answers]
    in_its_numbers = [
        renumbered(ours.text, answer.prompt, prompt) if answer.prompt else ours.text
        for ours, answer in zip(judged, answers, strict=True)
    ]
    extra: dict[str, Any] = {}
    if None in in_its_numbers:
        extra["prompts"] = [answer.prompt for answer in answers]
    else:
        judged = [replace(ours, text=text or "") for ours, text in zip(judged, in_its_numbers, strict=True)]
    if any(
        answer.grounding and (answer.grounding.fell_back or answer.grounding.dropped) for answer in answers
    ):
        extra["shown"] = [_as_shown(answer) for answer in answers]
    return Judgement(
        id=new_id(),
        kind=kind,
        user_id=user_id,
        subject=subject,
        question=answers[0].question,
        prompt=prompt,
        document_ids=tuple(dict.fromkeys(documents)),
        all_open=all(answer.all_open for answer in answers),
        answers=tuple(judged),
        surface=surface,
        extra=extra,
    )


def _as_judged(answer: StoredAnswer) -> JudgedAnswer:
    return JudgedAnswer(
        text=judged_text(
            answer.completion,
            answer.text,
            citations=answer.citations,
            numbers={(e.chunk_id, e.start, e.end): e.number for e in answer.evidence},
            report=answer.grounding,
        ),
        answer_id=answer.id,
        abstained=answer.abstained,
        policy_id=answer.policy_id,
    )


def _as_shown(answer: StoredAnswer) -> dict[str, Any]:
    """What grounding made of the completion: whoever trains on the judgement can leave out what people did not see."""
    report = answer.grounding
    return {
        "text": answer.text,
        "fell_back": report is not None and report.fell_back,
        "n_dropped": 0 if report is None else len(report.dropped),
    }


def insert_judgement(
    connection: Connection, judgement: Judgement, revision: int, created_at: datetime
) -> Judgement:
    """Write a revision, in the caller's transaction; IntegrityError when another one took the number."""
    row = to_row(judgement, judgement.id, revision, created_at)
    return from_row(
        connection.execute(sa.insert(tables.judgements).values(row).returning(tables.judgements)).one()
    )


def latest_judgement(
    connection: Connection, user_id: str, kind: JudgementKind, subject: str
) -> Judgement | None:
    """A person's newest revision of a subject, withdrawn or not; None when there is none."""
    t = tables.judgements
    row = connection.execute(
        sa.select(t).where(*_about(user_id, kind, subject)).order_by(t.c.revision.desc()).limit(1)
    ).first()
    return None if row is None else from_row(row)


def erase_words(connection: Connection, judgement: Judgement) -> None:
    """Empty all revisions of a judgement of what was said; that there were so many stays, for the numbering and the pace."""
    t = tables.judgements
    empty = replace(
        judgement, question="", prompt="", document_ids=(), answers=(), ranking=(), label=None, both_bad=False,
        reasons=(), comment="", displayed_order=(), extra={},
    )  # fmt: skip
    words = to_row(empty, judgement.id, 0, judgement.created_at or now())
    kept = {name: words[name] for name in ("question", "prompt", "document_ids", "payload")}
    connection.execute(
        sa.update(t).where(*_about(judgement.user_id, judgement.kind, judgement.subject)).values(kept)
    )


def _about(user_id: str, kind: JudgementKind, subject: str) -> list[sa.ColumnElement[bool]]:
    c = tables.judgements.c
    return [c.user_id == user_id, c.kind == kind, c.subject == subject]


def check_users(connection: Connection, user_ids: set[str]) -> None:
    """Make sure that accounts exist.

    Raises:
        NotFoundError: one does not.
    """
    c = tables.users.c
    known = set(connection.execute(sa.select(c.id).where(c.id.in_(sorted(user_ids)))).scalars())
    if missing := sorted(user_ids - known):
        raise NotFoundError(f"there is no user with the id {missing[0][:80]!r}: add the account first")


def to_row(judgement: Judgement, judgement_id: str, revision: int, created_at: datetime) -> dict[str, Any]:
    """A judgement as a row of the table."""
    payload = {
        "answers": [
            {
                "text": answer.text,
                "answer_id": answer.answer_id,
                "abstained": answer.abstained,
                "policy_id": answer.policy_id,
            }
            for answer in judgement.answers
        ],
        "ranking": [list(group) for group in judgement.ranking],
        "label": judgement.label,
        "both_bad": judgement.both_bad,
        "reasons": list(judgement.reasons),
        "comment": judgement.comment,
        "displayed_order": list(judgement.displayed_order),
        "extra": judgement.extra,
    }
    return {
        "id": judgement_id,
        "kind": judgement.kind,
        "user_id": judgement.user_id,
        "subject": judgement.subject,
        "revision": revision,
        "withdrawn": judgement.withdrawn,
        "question": judgement.question,
        "prompt": judgement.prompt,
        "document_ids": list(judgement.document_ids),
        "all_open": judgement.all_open,
        "payload": payload,
        "surface": judgement.surface,
        "created_at": created_at,
    }


def from_row(row: Row[Any]) -> Judgement:
    """A row of the table as a judgement."""
    payload: Mapping[str, Any] = row.payload
    return Judgement(
        id=row.id,
        kind=row.kind,
        user_id=row.user_id,
        subject=row.subject,
        question=row.question,
        prompt=row.prompt,
        document_ids=tuple(row.document_ids),
        all_open=row.all_open,
        answers=tuple(
            JudgedAnswer(
                text=answer["text"],
                answer_id=answer["answer_id"],
                abstained=answer["abstained"],
                policy_id=answer["policy_id"],
            )
            for answer in payload["answers"]
        ),
        ranking=tuple(tuple(group) for group in payload["ranking"]),
        label=payload["label"],
        both_bad=payload["both_bad"],
        reasons=tuple(payload["reasons"]),
        comment=payload["comment"],
        surface=row.surface,
        displayed_order=tuple(payload["displayed_order"]),
        revision=row.revision,
        withdrawn=row.withdrawn,
        created_at=row.created_at,
        extra=dict(payload["extra"]),
    )
