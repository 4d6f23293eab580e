"""Training runs as rows: what was started, how far it is, how it ended. Knows nothing of training itself.

The row is the truth for the pages and the command line; checkpoints lie in the run's directory. A cancelled run is a row whose state
another process changed: the next progress report notices it.

Different from a job's heartbeat: whoever works on a run holds its lease (`run_lease`), and writes nothing without. So a run that was
abandoned is known to be, and never has two workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from alignment.records import GateResult, Run, StageProgress
from alignment.run_holds import RunHolds, held_elsewhere, locked
from alignment.run_lease import RunLock
from alignment.run_scrub import without_examples
from alignment.tables import runs
from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import NotFoundError, StorageError, UsageError

log = structlog.get_logger(__name__)

ACTIVE_STATES = ("queued", "running")
CANCELLED_BY_PERSON = "cancelled by a person"
CANCELLED_BY_DELETION = "something that it learned from was deleted or taken back"
"""Why a run was cancelled that did nothing wrong: its schedule does not take it for a failure."""
RESUMABLE_STATES = ("failed", "cancelled", *ACTIVE_STATES)
PATIENCE_SECONDS = 1.0
"""How long whoever wants to work on a run tries for its lock: those who only look at the run hold it for a moment too."""


class RunStore:
    """Create, follow and end runs."""

    def __init__(self, database: Database, directory: Path, *, clock: Callable[[], datetime] = now) -> None:
        """Keep rows in `database` and each run's files in a folder of `directory`."""
        self._database = database
        self._directory = directory
        self._clock = clock
        self._holds = RunHolds(database, clock)

    def create(self, kind: str, settings: dict[str, Any]) -> Run:
        """A new queued run with its own empty directory.

        Raises:
            UsageError: another one is waiting or running: there is one at a time.
        """
        run_id = new_id()[:12]
        directory = self._directory / run_id
        directory.mkdir(parents=True, exist_ok=False)
        row: dict[str, Any] = {
            "id": run_id,
            "kind": kind,
            "state": "queued",
            "settings": settings,
            "progress": {},
            "metrics": {},
            "gates": [],
            "policy_id": None,
            "promoted": False,
            "reason": "",
            "directory": str(directory),
            "created_at": self._clock(),
        }
        with self._database.write() as connection:
            if not self._database.is_sqlite:
                # SQLite's write transactions are alone anyway; elsewhere two could each see no active run.
                connection.execute(sa.text("LOCK TABLE runs IN EXCLUSIVE MODE"))
            active = connection.execute(sa.select(runs).where(runs.c.state.in_(ACTIVE_STATES))).first()
            if active is not None:
                directory.rmdir()
                raise UsageError(
                    f"run {active.id} is {active.state}: one at a time; wait for it, or `tacit runs cancel {active.id}`"
                )
            connection.execute(sa.insert(runs).values(row))
        return self.get(run_id)

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self._database.read() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no run {run_id!r}: `tacit runs list` shows them")
        return self._to_run(row)

    def list(self, limit: int = 50) -> Sequence[Run]:
        """The newest runs first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(runs).order_by(runs.c.created_at.desc()).limit(limit)).all()
        return [self._to_run(row) for row in rows]

    def active(self) -> Run | None:
        """The run that is running or waiting, if any: there is one at a time."""
        query = sa.select(runs).where(runs.c.state.in_(ACTIVE_STATES)).order_by(runs.c.created_at)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else self._to_run(row)

    def last_feedback_until(self) -> datetime | None:
        """The newest judgement that a finished cycle has learned from, promoted or not."""
        query = sa.select(sa.func.max(runs.c.feedback_until)).where(
            runs.c.state == "done", runs.c.kind == "cycle"
        )
        with self._database.read() as connection:
            value = connection.execute(query).scalar_one()
        return value if value is None or isinstance(value, datetime) else None

    def start(self, run_id: str) -> Run:
        """Mark a queued, failed, cancelled or interrupted run as running.

        Raises:
            UsageError: it has ended well, or another process holds it.
        """
        begun = {"state": "running", "started_at": self._clock(), "finished_at": None, "reason": ""}
        with self._database.write() as connection:
            row = locked(connection, run_id)
            if row.state not in RESUMABLE_STATES:
                raise UsageError(
                    f"run {run_id} is {row.state}; expected one of: {', '.join(RESUMABLE_STATES)}"
                )
            if not self._holds.is_own(row):
                raise held_elsewhere(run_id)
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(begun))
        return self.get(run_id)

    @contextmanager
    def working_on(self, run_id: str) -> Iterator[None]:
        """Hold the run while the block lasts; the hold ends with the process, however that ends.

        Raises:
            NotFoundError: there is no such run.
            UsageError: another process works on it.
            StorageError: this user may not write its lock.
        """
        directory = self.get(run_id).directory
        directory.mkdir(parents=True, exist_ok=True)
        lock = RunLock(directory)
        with lock.held(patience=PATIENCE_SECONDS) as is_held:
            if not is_held:
                raise held_elsewhere(run_id)
            self._holds.take(run_id, lock)
            try:
                with self._holds.beating(run_id):
                    yield
            finally:
                self._holds.release(run_id)

    def is_worked_on(self, run_id: str) -> bool:
        """Whether a living process works on this run, or one elsewhere that was heard of in the last minute."""
        run = self.get(run_id)
        with _seen(run.directory) as (is_free, lock):
            return not is_free or not self._holds.is_abandoned(run, lock)

    def fail_abandoned(self, run_id: str, reason: str) -> bool:
        """Record that a run cannot go on unless somebody works on it. Returns whether it did."""
        with _seen(self._directory / run_id) as (is_free, lock), self._database.write() as connection:
            row = locked(connection, run_id)
            if (
                not is_free
                or row.state not in ACTIVE_STATES
                or not self._holds.is_abandoned(self._to_run(row), lock)
            ):
                return False
            ended = {"state": "failed", "reason": reason, "finished_at": self._clock()}
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(ended))
            return True

    def report(self, run_id: str, progress: StageProgress) -> None:
        """Store progress.

        Raises:
            RunCancelled: somebody cancelled the run meanwhile, or took it over while this process was silent.
        """
        shown = dataclasses.asdict(progress) | {"at": self._clock().isoformat()}
        with self._database.write() as connection:
            self._holds.own(connection, run_id)
            lease = self._holds.lease(run_id)
            values = {"progress": shown | (lease.to_json() if lease else {})}
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(values))

    def note_feedback(self, run_id: str, until: datetime) -> None:
        """Remember the newest judgement in the run's snapshot."""
        self._update(run_id, feedback_until=until)

    def check_own(self, connection: Connection, run_id: str) -> None:
        """Make sure, in the caller's transaction, that the run goes on and is this process's.

        Raises:
            RunCancelled: the run was cancelled, or taken over.
        """
        self._holds.own(connection, run_id)

    def note_promotion(self, connection: Connection, run_id: str) -> None:
        """Remember that the run's policy serves, in the transaction that lets it: a cancelled run promotes nothing, one that has promoted ends well.

        Raises:
            RunCancelled: the run was cancelled, or taken over.
        """
        self._holds.own(connection, run_id)
        connection.execute(sa.update(runs).where(runs.c.id == run_id).values(promoted=True))

    def finish(
        self,
        run_id: str,
        *,
        policy_id: str | None,
        gates: Sequence[GateResult],
        promoted: bool,
        reason: str,
        metrics: dict[str, Any],
    ) -> Run:
        """Record the outcome of a run that went through; a rejected candidate is an outcome, not a failure."""
        values = {
            "state": "done",
            "policy_id": policy_id,
            "gates": [dataclasses.asdict(gate) for gate in gates],
            "promoted": promoted,
            "reason": reason,
            "metrics": metrics,
            "finished_at": self._clock(),
        }
        self._update(run_id, **values)
        return self.get(run_id)

    def fail(self, run_id: str, reason: str) -> None:
        """Record why a run that this process works on could not go on; it can be resumed. One that is not its own any more stays as it is."""
        with self._database.write() as connection:
            row = locked(connection, run_id)
            if row.state in ACTIVE_STATES and self._holds.is_own(row):
                ended = {"state": "failed", "reason": reason, "finished_at": self._clock()}
                connection.execute(sa.update(runs).where(runs.c.id == run_id).values(ended))

    def cancel(self, run_id: str, *, reason: str = CANCELLED_BY_PERSON) -> Run:
        """Ask a queued or running run to stop; it keeps its checkpoints and can be resumed. Needs nobody who works on it.

        Args:
            run_id: Which.
            reason: Why, for who looks at the run.

        Raises:
            NotFoundError: there is none of this id.
            UsageError: it has already ended, or its policy serves already.
        """
        run = self.get(run_id)
        with self._database.write() as connection:
            row = locked(connection, run_id)
            if row.state not in ACTIVE_STATES:
                raise UsageError(f"run {run_id} is already {run.state}: there is nothing to cancel")
            if row.promoted:
                raise UsageError(
                    f"run {run_id} has promoted its policy already: `tacit policies rollback` goes back to the one before"
                )
            ended = {"state": "cancelled", "reason": reason, "finished_at": self._clock()}
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(ended))
        return self.get(run_id)

    def forget_rater(self, user_id: str) -> None:
        """Take the estimate of a person who is deleted out of what cycles found."""

        def without(metrics: dict[str, Any]) -> dict[str, Any]:
            if "raters" not in metrics:
                return metrics
            kept = [rater for rater in metrics["raters"] if rater.get("labeler_id") != user_id]
            return {**metrics, "raters": kept}

        self._change_metrics(without)

    def forget_words(self) -> None:
        """Take the words out of what cycles of earlier versions recorded of their traps."""

        def without(metrics: dict[str, Any]) -> dict[str, Any]:
            return {**metrics, "gates": without_examples(metrics["gates"])} if "gates" in metrics else metrics

        self._change_metrics(without)

    def _change_metrics(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with self._database.write() as connection:
            for row in connection.execute(sa.select(runs.c.id, runs.c.metrics)).all():
                if (changed := change(row.metrics)) != row.metrics:
                    connection.execute(sa.update(runs).where(runs.c.id == row.id).values(metrics=changed))

    def _update(self, run_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            self._holds.own(connection, run_id)
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(values))

    def _to_run(self, row: sa.Row[Any]) -> Run:
        values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's documented public name for it
        # Where the home lies now, which is not where it lay when the run was made if it was moved or restored.
        return Run(**(values | {"directory": self._directory / values["id"]}))


@contextmanager
def _seen(directory: Path) -> Iterator[tuple[bool, RunLock | None]]:
    """Look at the lock of a run's folder: whether it is free, and the lock; None where this user may not, and the lease alone tells."""
    lock = RunLock(directory)
    with ExitStack() as stack:
        try:
            found: tuple[bool, RunLock | None] = stack.enter_context(lock.held()), lock
        except StorageError as error:
            log.warning("run_lock_not_seen", error=str(error))
            found = True, None
        yield found
