"""The audit trail: who did what to what, when. Append-only; knows nothing of whether it was allowed.

Different from a log file: an event can be written in the very transaction of the act, so that neither exists without the other; and
it refuses details that look like secrets, because many people may read it. One thing is changed in it afterwards: the name of a person who is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from chatbot import tables
from chatbot.sign_in import KEY_PREFIX
from knowledge_base.database import Database, now

_SECRET_WORDS = {"password", "passphrase", "token", "secret", "cookie"}
_ABOUT_PEOPLE = {"user", "key", "rater"}
"""Things whose acts have a person's name as their subject."""
_SECRET_VALUE = re.compile(rf"{re.escape(KEY_PREFIX)}[A-Za-z0-9_-]{{20,}}|\$argon2")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One act."""

    id: int
    at: datetime
    actor: str
    """User name, `scheduler`, or `operator` at the command line."""
    action: str
    """Thing and verb: `user.add`, `policy.promote`."""
    subject: str
    """Name or id of what it was done to."""
    detail: dict[str, Any]


class AuditLog:
    """Writes and reads the trail."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._clock = clock

    def record(
        self, actor: str, action: str, subject: str, *, connection: Connection | None = None, **detail: Any
    ) -> None:
        """Write an event.

        Args:
            actor: Who.
            action: Did what, as `thing.verb`, at most 64 characters.
            subject: To what.
            connection: Join this transaction (then the event exists exactly when the act does); None for one of its own.
            **detail: More, in values that JSON can hold; never a password, token or key.

        Raises:
            ValueError: a detail is named like a secret or looks like one, or the action is too long: a mistake in our code.
        """
        if not 1 <= len(action) <= 64:
            raise ValueError(f"action {action!r} must have 1 to 64 characters")
        _refuse_secrets(subject, detail)
        row = {
            "at": self._clock(),
            "actor": actor,
            "action": action,
            "subject": subject,
            "detail": detail,
        }
        if connection is not None:
            connection.execute(sa.insert(tables.audit_events).values(row))
            return
        with self._db.write() as own:
            own.execute(sa.insert(tables.audit_events).values(row))

    def forget_name(self, name: str, pseudonym: str, *, connection: Connection) -> None:
        """Put a pseudonym in place of a person's name, so that the trail still tells which acts were one person's.

        Details of what was done to the person go: they may say anything of them.

        Args:
            name: The account's name; case does not matter, as in signing in.
            pseudonym: In its place.
            connection: Join this transaction.
        """
        events = tables.audit_events
        wanted = name.lower()
        is_theirs = sa.or_(sa.func.lower(events.c.actor) == wanted, sa.func.lower(events.c.subject) == wanted)
        for row in connection.execute(sa.select(events).where(is_theirs)).all():
            values: dict[str, Any] = {}
            if row.actor.lower() == wanted:
                values["actor"] = pseudonym
            if row.subject.lower() == wanted and row.action.split(".")[0] in _ABOUT_PEOPLE:
                values |= {"subject": pseudonym, "detail": {}}
            if values:
                connection.execute(sa.update(events).where(events.c.id == row.id).values(values))

    def list(
        self, limit: int = 100, *, action: str | None = None, actor: str | None = None
    ) -> Sequence[AuditEvent]:
        """The newest events, newest first.

        Args:
            limit: At most this many.
            action: Only this action; a thing alone (`policy`) stands for all its verbs.
            actor: Only by this person.
        """
        events = tables.audit_events
        chosen: sa.ColumnElement[bool] = sa.true()
        if action is not None:
            verbs = events.c.action.startswith(f"{action}.", autoescape=True)
            chosen = sa.and_(chosen, sa.or_(events.c.action == action, verbs))
        if actor is not None:
            chosen = sa.and_(chosen, events.c.actor == actor)
        with self._db.read() as connection:
            rows = connection.execute(
                sa.select(events).where(chosen).order_by(events.c.id.desc()).limit(limit)
            ).all()
        return [
            AuditEvent(
                id=row.id,
                at=row.at,
                actor=row.actor,
                action=row.action,
                subject=row.subject,
                detail=row.detail,
            )
            for row in rows
        ]


def _refuse_secrets(subject: str, detail: dict[str, Any]) -> None:
    for name, value in detail.items():
        if _SECRET_WORDS & set(name.lower().split("_")):
            raise ValueError(f"audit detail {name!r} is named like a secret: leave it out")
        if _SECRET_VALUE.search(repr(value)):
            raise ValueError(f"audit detail {name!r} holds a secret: leave it out")
    if _SECRET_VALUE.search(subject):
        raise ValueError("the audit subject is a secret: use an id")
