"""What reviewers decided about raters: taken out of quarantine, or put into it, whatever the estimate says. One row a person.

Knows nothing of estimates. Different from disabling an account: the person goes on asking and judging, and a decision can be taken back, after which
all their judgements count again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, cast, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alignment.tables import rater_reviews
from knowledge_base.database import Database, now
from knowledge_base.errors import UsageError

Verdict = Literal["trusted", "excluded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterReview:
    """A decision."""

    user_id: str
    verdict: Verdict
    note: str
    reviewed_at: datetime
    reviewed_by: str


def rename_reviewer(connection: Connection, name: str, new_name: str) -> None:
    """Put another name in place of the one who decided, in the caller's transaction."""
    theirs = rater_reviews.c.reviewed_by == name
    connection.execute(sa.update(rater_reviews).where(theirs).values(reviewed_by=new_name))


class RaterReviews:
    """Stores decisions."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._clock = clock

    def decide(self, user_id: str, verdict: Verdict, *, actor: str, note: str = "") -> RaterReview:
        """Trust or exclude somebody from the next cycle on; an earlier decision is replaced.

        Raises:
            UsageError: there is no such verdict.
        """
        if verdict not in get_args(Verdict):
            raise UsageError(f"{verdict!r} is no verdict: use trusted or excluded")
        review = RaterReview(
            user_id=user_id,
            verdict=verdict,
            note=note.strip()[:500],
            reviewed_at=self._clock(),
            reviewed_by=actor,
        )
        with self._db.write() as connection:
            connection.execute(sa.delete(rater_reviews).where(rater_reviews.c.user_id == user_id))
            connection.execute(sa.insert(rater_reviews).values(**asdict(review)))
        return review

    def take_back(self, user_id: str) -> bool:
        """Leave somebody to the estimate again; False when nothing was decided."""
        with self._db.write() as connection:
            gone = connection.execute(sa.delete(rater_reviews).where(rater_reviews.c.user_id == user_id))
        return bool(gone.rowcount)

    def all(self) -> dict[str, RaterReview]:
        """Decisions by person."""
        with self._db.read() as connection:
            rows = connection.execute(sa.select(rater_reviews)).mappings().all()
        return {
            row["user_id"]: RaterReview(**{**row, "verdict": cast("Verdict", row["verdict"])}) for row in rows
        }
