"""When to retrain: by the clock (a cron expression, in UTC) or by the number of new judgements. Pure decisions and one stored row.

Knows nothing of workers or training; `ui/worker.py` acts on it.

Different from cron: a mark of the clock fires when a judgement was waiting at that moment, and is spent when none was. So a weekly schedule does not
train on Monday because somebody voted on Monday; that vote waits for the next mark. And as with anacron, a mark that passed while no worker ran, or while
a cycle was running, is made up for once, as soon as there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from alignment.tables import schedules
from knowledge_base.database import Database, now
from knowledge_base.errors import UsageError

_ROW_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The stored schedule. Both None: cycles start by hand only."""

    cron: str | None = None
    """Five cron fields, in UTC."""
    min_feedback: int | None = None
    """Start when at least this many judgements are newer than the last finished cycle's."""
    updated_at: datetime | None = None
    updated_by: str = ""

    def __post_init__(self) -> None:
        """Refuse an expression or a number that can never fire."""
        if self.min_feedback is not None and self.min_feedback < 1:
            raise UsageError(f"min-feedback is {self.min_feedback}: give 1 or more, or leave it out")
        if self.cron is not None:
            next_time(self.cron, now())


def next_time(cron: str, after: datetime) -> datetime:
    """The first moment after `after` at which the expression fires.

    Raises:
        UsageError: the expression is not five valid cron fields, or never fires.
    """
    from cronsim import CronSim, CronSimError

    try:
        fires = next(CronSim(cron, after))
    except (CronSimError, StopIteration) as error:
        raise UsageError(
            f"cron expression {cron!r} is not valid: use five fields, like '0 3 * * *' for 03:00 UTC daily"
        ) from error
    if not isinstance(fires, datetime):
        raise TypeError(f"cronsim gave {fires!r}")
    return fires


def due_reason(
    schedule: Schedule,
    *,
    n_new: int,
    waiting_since: datetime | None,
    last_started_at: datetime | None,
    at: datetime,
) -> str | None:
    """Why a cycle should start now, or None.

    Args:
        schedule: The stored schedule.
        n_new: Judgements newer than the last finished cycle's snapshot.
        waiting_since: When the oldest of them was given; None where there is none.
        last_started_at: When the last cycle, finished or not, started.
        at: The present.
    """
    if schedule.min_feedback is not None and n_new >= schedule.min_feedback:
        return f"{n_new} new judgements (at least {schedule.min_feedback})"
    if schedule.cron is None or waiting_since is None:
        # Without a single new judgement a cycle would only repeat the last one.
        return None
    # Counting from the latest of the three: a schedule set today must not fire for yesterday, nor a vote of today for yesterday's mark.
    since = max(t for t in (schedule.updated_at, last_started_at, waiting_since) if t is not None)
    if next_time(schedule.cron, since) <= at:
        return f"the schedule {schedule.cron!r} (UTC)"
    return None


def rename_actor(connection: Connection, name: str, new_name: str) -> None:
    """Put another name in place of the one who set the schedule, in the caller's transaction."""
    connection.execute(sa.update(schedules).where(schedules.c.updated_by == name).values(updated_by=new_name))


class ScheduleStore:
    """The one stored schedule."""

    def __init__(self, database: Database) -> None:
        """Read and write the row in `database`."""
        self._database = database

    def get(self) -> Schedule:
        """The schedule; an empty one when none was ever set."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(schedules).where(schedules.c.id == _ROW_ID)).one_or_none()
        if row is None:
            return Schedule()
        return Schedule(
            cron=row.cron, min_feedback=row.min_feedback, updated_at=row.updated_at, updated_by=row.updated_by
        )

    def set(self, *, cron: str | None, min_feedback: int | None, actor: str) -> Schedule:
        """Replace the schedule.

        Raises:
            UsageError: the expression or the number is not valid.
        """
        schedule = Schedule(cron=cron or None, min_feedback=min_feedback, updated_at=now(), updated_by=actor)
        values = {
            "cron": schedule.cron,
            "min_feedback": min_feedback,
            "updated_at": schedule.updated_at,
            "updated_by": actor,
        }
        with self._database.write() as connection:
            connection.execute(sa.delete(schedules))
            connection.execute(sa.insert(schedules).values(id=_ROW_ID, **values))
        return schedule
