"""Judging at the same moment: transactions that are run again when they collide, one person's speed, and reading without a long lock.

Knows nothing of what a judgement says or who was shown what. Different from locking the table: two people never wait for each other; who
loses a race for a revision's number tries again on the new state, and only one person's own judgements are counted one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from chatbot import tables
from chatbot.errors import FeedbackError
from chatbot.judgement_rows import from_row
from chatbot.records import Judgement
from knowledge_base.database import Database

log = structlog.get_logger(__name__)

T = TypeVar("T")

_ROWS_AT_ONCE = 500
_TRIES = 5


def run_again_on_collision(db: Database, action: Callable[[Connection], T]) -> T:
    """Run a transaction; when another one took the same revision, run it again on the new state.

    Args:
        db: Where.
        action: What to do; it may be called several times, and only the last one is kept.

    Raises:
        FeedbackError: it collided every time; trying again later helps.
    """
    for _ in range(_TRIES):
        try:
            with db.write() as connection:
                return action(connection)
        except IntegrityError as error:
            log.info("judgement_collided", error=type(error.orig).__name__)
    raise _too_soon("this was judged several times at once: try again")


def check_speed(connection: Connection, user_id: str, per_minute: int, clock: Callable[[], datetime]) -> None:
    """Turn a person away who judges too fast.

    Args:
        connection: Of the transaction that will store the judgement.
        user_id: Who.
        per_minute: How many a person may give in any minute.
        clock: Asked once it is this transaction's turn.

    Raises:
        FeedbackError: the limit is reached (waiting helps), or the account is gone.
    """
    # The account's row is locked so that judgements sent all at once are counted one after the other.
    locked = sa.select(tables.users.c.id).where(tables.users.c.id == user_id).with_for_update()
    if connection.execute(locked).one_or_none() is None:
        raise FeedbackError("your account no longer exists: sign in again")
    t = tables.judgements
    recent = sa.and_(t.c.user_id == user_id, t.c.created_at > clock() - timedelta(minutes=1))
    given = connection.execute(sa.select(sa.func.count()).select_from(t).where(recent)).scalar_one()
    if given >= per_minute:
        raise _too_soon(f"more than {per_minute} judgements in a minute: wait a moment")


def read_in_pieces(db: Database, ids: Sequence[str]) -> Iterator[Judgement]:
    """The judgements with these ids, in their order; ones erased meanwhile are left out."""
    # Rows never change, so reading them in pieces gives what one long transaction would, which would keep SQLite's log growing.
    t = tables.judgements
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        batch = ids[start : start + _ROWS_AT_ONCE]
        with db.read() as connection:
            rows = connection.execute(sa.select(t).where(t.c.id.in_(batch))).all()
        found = {row.id: row for row in rows}
        yield from (from_row(found[judgement_id]) for judgement_id in batch if judgement_id in found)


def _too_soon(message: str) -> FeedbackError:
    error = FeedbackError(message)
    error.permanent = False
    return error
