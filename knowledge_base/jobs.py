"""Background work: the database is the queue, so that nothing is lost when a process dies.

A worker claims a job by an UPDATE that only succeeds while the job is still queued; the row count says who won. While it works it
heartbeats. A job whose worker fell silent goes back to the queue, or fails with the reason once it has been tried often enough.
Knows nothing of what jobs do.

Cancelling a running job changes its state at once; its worker learns of it from the next heartbeat, which then returns False, and
whatever it reports afterwards is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import NotFoundError, UsageError
from knowledge_base.records import Job, JobState
from knowledge_base.tables import jobs

log = structlog.get_logger(__name__)


class JobQueue:
    """Jobs in the database, oldest first.

    Example:
        >>> from knowledge_base.schema import create_schema
        >>> db = Database("sqlite://")
        >>> create_schema(db)
        >>> queue = JobQueue(db)
        >>> job = queue.enqueue("ingest", {"path": "handbook"})
        >>> queue.claim(["ingest"], "worker-1").id == job.id, queue.claim(["ingest"], "worker-2")
        (True, None)
    """

    def __init__(self, db: Database) -> None:
        """Use this database; its tables must exist."""
        self._db = db

    def enqueue(self, kind: str, payload: dict[str, Any]) -> Job:
        """Add a job. The payload is anything JSON can hold."""
        row = {
            "id": new_id(), "kind": kind, "payload": payload, "state": "queued", "attempts": 0, "created_at": now(), "progress": {},
        }  # fmt: skip
        with self._db.write() as connection:
            connection.execute(jobs.insert().values(row))
        return self.get(str(row["id"]))

    def claim(self, kinds: Sequence[str], worker_id: str) -> Job | None:
        """Take the oldest queued job of these kinds, or None when there is none. No two workers ever get the same one."""
        waiting = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == "queued", jobs.c.kind.in_(kinds))
            .order_by(jobs.c.created_at, jobs.c.id)
            .limit(1)
        )
        while True:
            with self._db.read() as connection:
                job_id = connection.execute(waiting).scalar()
            if job_id is None:
                return None
            at = now()
            taken = (
                jobs.update()
                .where(jobs.c.id == job_id, jobs.c.state == "queued")
                .values(
                    state="running",
                    claimed_by=worker_id,
                    started_at=at,
                    heartbeat_at=at,
                    attempts=jobs.c.attempts + 1,
                )
            )
            if self._changed(taken):
                return self.get(job_id)
            log.debug("another worker got there first", job=job_id)

    def heartbeat(self, job_id: str, worker_id: str, progress: dict[str, Any] | None = None) -> bool:
        """Say that the worker lives, and how far it is.

        Returns:
            Whether the job is still this worker's. When False (cancelled, or given to another), stop working on it.
        """
        values: dict[str, Any] = {"heartbeat_at": now()}
        if progress is not None:
            values["progress"] = progress
        return self._changed(_held_by(job_id, worker_id).values(values))

    def finish(self, job_id: str, worker_id: str, result: dict[str, Any] | None = None) -> bool:
        """Record success. Returns False, changing nothing, when the job is no longer this worker's."""
        return self._end(job_id, worker_id, state="done", result=result)

    def fail(self, job_id: str, worker_id: str, error: str) -> bool:
        """Record failure with its one-line reason. Returns False, changing nothing, when the job is no longer this worker's."""
        return self._end(job_id, worker_id, state="failed", error=error)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that is queued or running; cancelling a cancelled one changes nothing.

        Raises:
            NotFoundError: no such job.
            UsageError: it has ended already.
        """
        ended = (
            jobs.update()
            .where(jobs.c.id == job_id, jobs.c.state.in_(["queued", "running"]))
            .values(state="cancelled", finished_at=now(), error="cancelled on request")
        )
        changed = self._changed(ended)
        job = self.get(job_id)
        if not changed and job.state != "cancelled":
            raise UsageError(f"job {job_id} is {job.state} already: there is nothing to cancel")
        return job

    def rename_actor(self, connection: Connection, name: str, new_name: str) -> None:
        """Put another name in place of the one that payloads give as their `actor`, in the caller's transaction."""
        for row in connection.execute(sa.select(jobs.c.id, jobs.c.payload)).all():
            if row.payload.get("actor") == name:
                connection.execute(
                    jobs.update()
                    .where(jobs.c.id == row.id)
                    .values(payload={**row.payload, "actor": new_name})
                )

    def requeue(self, job_id: str, worker_id: str) -> bool:
        """Put a job back unharmed, for a worker that shuts down. Returns False when it is no longer this worker's."""
        values = {
            "state": "queued",
            "claimed_by": None,
            "heartbeat_at": None,
            "attempts": jobs.c.attempts - 1,
        }
        return self._changed(_held_by(job_id, worker_id).values(values))

    def regain(self, job_id: str, worker_id: str) -> bool:
        """Take back a job that was queued again while its worker was silent. Returns False when another one has it, or it has ended."""
        waiting = jobs.update().where(jobs.c.id == job_id, jobs.c.state == "queued")
        return self._changed(waiting.values(state="running", claimed_by=worker_id, heartbeat_at=now()))

    def requeue_stale(
        self,
        older_than: timedelta,
        *,
        max_attempts: int = 3,
        spare: Callable[[Job], bool] = lambda _: False,
    ) -> list[Job]:
        """Deal with running jobs whose worker fell silent: queue them again, or fail those tried `max_attempts` times.

        Args:
            older_than: A heartbeat older than this means that the worker is dead.
            spare: Says of a silent job whether its worker is known to live all the same.
            max_attempts: Claims after which a job that keeps killing its worker is given up.

        Returns:
            The jobs that changed.
        """
        limit = now() - older_than
        silent = sa.select(jobs).where(jobs.c.state == "running", jobs.c.heartbeat_at < limit)
        with self._db.read() as connection:
            silent_jobs = [_job(row) for row in connection.execute(silent)]
        found = [job for job in silent_jobs if not spare(job)]
        changed = []
        for job in found:
            values: dict[str, Any] = {"state": "queued", "claimed_by": None, "heartbeat_at": None}
            if job.attempts >= max_attempts:
                reason = f"its worker stopped without a word {job.attempts} times: see the log, then start it again"
                values = {"state": "failed", "finished_at": now(), "error": reason}
            # The same heartbeat as seen: a worker that woke up meanwhile keeps its job.
            still = jobs.c.heartbeat_at == job.heartbeat_at
            if self._changed(_held_by(job.id, job.claimed_by).where(still).values(values)):
                log.warning(
                    "worker fell silent",
                    job=job.id,
                    kind=job.kind,
                    attempts=job.attempts,
                    now=values["state"],
                )
                changed.append(self.get(job.id))
        return changed

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            NotFoundError: no such job.
        """
        with self._db.read() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).first()
        if row is None:
            raise NotFoundError(f"there is no job {job_id[:40]!r}")
        return _job(row)

    def list_jobs(
        self, *, kinds: Sequence[str] | None = None, states: Sequence[JobState] | None = None, limit: int = 50
    ) -> list[Job]:
        """Jobs, newest first."""
        query = sa.select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        if kinds is not None:
            query = query.where(jobs.c.kind.in_(kinds))
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        with self._db.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def _end(self, job_id: str, worker_id: str, **values: Any) -> bool:
        return self._changed(_held_by(job_id, worker_id).values(finished_at=now(), **values))

    def _changed(self, statement: sa.Update) -> bool:
        with self._db.write() as connection:
            return connection.execute(statement).rowcount == 1


def _held_by(job_id: str, worker_id: str | None) -> sa.Update:
    return jobs.update().where(jobs.c.id == job_id, jobs.c.state == "running", jobs.c.claimed_by == worker_id)


def _job(row: sa.Row[Any]) -> Job:
    return Job(**row._mapping)  # noqa: SLF001 -- SQLAlchemy's public name for a row as a mapping
