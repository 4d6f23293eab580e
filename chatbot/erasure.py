"""What is erased with an account or a document, in the caller's transaction: rows that go, and words that go out of rows which stay.

Knows the chatbot's tables; nothing of the audit trail, of files or of who may delete. Different from `ON DELETE CASCADE`: an answer is
also a count that operators watch, so its row stays with its numbers, under nobody's name and without a word.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from chatbot import tables
from knowledge_base.errors import NotFoundError, UsageError

DOCUMENT_GONE = "This answer rested on a document that was deleted, so its text was deleted too."
"""Stands in a conversation where such an answer stood."""


def lock_user(connection: Connection, user_id: str) -> str:
    """Hold a user's row until the transaction ends; returns the name.

    Raises:
        NotFoundError: there is no such user.
    """
    statement = sa.select(tables.users.c.name).where(tables.users.c.id == user_id).with_for_update()
    name = connection.execute(statement).scalar_one_or_none()
    if name is None:
        raise unknown_user(user_id)
    return str(name)


def unknown_user(user_id: str) -> NotFoundError:
    """The error for an id that nobody has."""
    return NotFoundError(f"there is no user with the id {user_id[:80]!r}: `tacit users list` shows everyone")


def check_not_last_admin(connection: Connection, user_id: str) -> None:
    """Make sure that somebody can still administrate without this account; one that is no administrator's may always go.

    Raises:
        UsageError: this is an administrator, and no other one is left who is not disabled.
    """
    users = tables.users
    admins = connection.execute(
        # In one order, so that two who do this at once wait for each other and never for ever.
        sa.select(users).where(users.c.role == "admin").order_by(users.c.id).with_for_update()
    ).all()
    name = next((row.name for row in admins if row.id == user_id), None)
    if name is not None and all(row.id == user_id or row.disabled_at is not None for row in admins):
        # One who is disabled already too: two who delete each other at once are both disabled before either is gone.
        raise UsageError(f"{name} is the last administrator: make or enable another one first")


def erase_account(connection: Connection, user_id: str) -> str:
    """Erase a person: account, sessions, keys, conversations, judgements, and the words of their questions and answers.

    Returns:
        The name that the account had.

    Raises:
        NotFoundError: there is no such user.
        UsageError: it is the last administrator.
    """
    name = lock_user(connection, user_id)
    check_not_last_admin(connection, user_id)
    _erase_words(connection, tables.answers.c.user_id == user_id, user_id=None, question="", text="")
    for owned in (tables.judgements, tables.conversations, tables.sessions, tables.api_keys):
        connection.execute(sa.delete(owned).where(owned.c.user_id == user_id))
    connection.execute(sa.delete(tables.login_attempts).where(tables.login_attempts.c.name == name.lower()))
    connection.execute(sa.delete(tables.users).where(tables.users.c.id == user_id))
    return name


def erase_document_words(connection: Connection, document_id: str) -> int:
    """Take a document's words out of what people were answered, and the judgements that rest on it with them.

    Questions stay, in the asker's own words. The judgements could not be learned from any more: nobody can tell what they judged.

    Returns:
        How many answers lost their text.
    """
    rests = _rests_on(tables.answers, document_id)
    ids = connection.execute(sa.select(tables.answers.c.id).where(rests)).scalars().all()
    connection.execute(
        sa.update(tables.messages)
        .where(tables.messages.c.answer_id.in_(sa.select(tables.answers.c.id).where(rests)))
        .values(content=DOCUMENT_GONE)
    )
    _erase_words(connection, rests, text=DOCUMENT_GONE, keep_documents=True)
    connection.execute(sa.delete(tables.judgements).where(_rests_on(tables.judgements, document_id)))
    return len(ids)


def erase_answer_words(connection: Connection, answer_id: str) -> None:
    """Take the words out of one answer, as of one that rested on a deleted document."""
    _erase_words(connection, tables.answers.c.id == answer_id, text=DOCUMENT_GONE, keep_documents=True)


def _rests_on(table: sa.Table, document_id: str) -> sa.ColumnElement[bool]:
    # Ids are 32 random digits: one cannot be part of another, so the list may be searched as text, the same on both databases.
    return sa.cast(table.c.document_ids, sa.Text).contains(document_id, autoescape=True)


def _erase_words(
    connection: Connection,
    condition: sa.ColumnElement[bool],
    *,
    keep_documents: bool = False,
    **values: str | None,
) -> None:
    """Empty answers of what was shown, read and quoted, and set the given columns; the numbers stay."""
    answers = tables.answers
    rows = connection.execute(sa.select(answers.c.id, answers.c.grounding).where(condition)).all()
    for row in rows:
        if row.grounding and row.grounding.get("dropped"):
            kept = {**row.grounding, "dropped": []}
            connection.execute(sa.update(answers).where(answers.c.id == row.id).values(grounding=kept))
    emptied: dict[str, object] = {"completion": "", "prompt": "", "citations": [], "evidence": []}
    if not keep_documents:
        # Else a judgement given later would not know that it rests on what is gone.
        emptied["document_ids"] = []
    connection.execute(sa.update(answers).where(condition).values(emptied | values))
