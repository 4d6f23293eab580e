"""Training runs as rows: what was started, how far it is, how it ended. Knows nothing of training itself.

The row is the truth for the pages and the command line; checkpoints lie in the run's directory. A cancelled run is a row whose state
another process changed: the next progress report notices it.

Different from a heartbeat: whoever works on a run holds a lock on a file in its directory, and the operating system lets go of it when
the process dies, however it dies. So a run is known to be abandoned at once and for sure, and never has two workers.
"""

from __future__ import annotations

import dataclasses
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from alignment.errors import RunCancelled
from alignment.records import GateResult, Run, StageProgress
from alignment.tables import runs
from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import NotFoundError, UsageError

ACTIVE_STATES = ("queued", "running")
RESUMABLE_STATES = ("failed", "cancelled", *ACTIVE_STATES)
LOCK_FILE = "lock"


class RunStore:
    """Create, follow and end runs."""

    def __init__(self, database: Database, directory: Path) -> None:
        """Keep rows in `database` and each run's files in a folder of `directory`."""
        self._database = database
        self._directory = directory

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
            "created_at": now(),
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
        """Mark a queued, failed, cancelled or interrupted run as running."""
        self._update(run_id, RESUMABLE_STATES, state="running", started_at=now(), finished_at=None, reason="")
        return self.get(run_id)

    @contextmanager
    def working_on(self, run_id: str) -> Iterator[None]:
        """Hold the run while the block lasts; the hold ends with the process, however that ends.

        Raises:
            NotFoundError: there is no such run.
            UsageError: another process works on it.
        """
        directory = self.get(run_id).directory
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / LOCK_FILE).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"run {run_id} is being worked on by another process: wait for it, or `tacit runs cancel {run_id}`"
                ) from error
            yield

    def is_worked_on(self, run_id: str) -> bool:
        """Whether a living process works on this run. A run whose directory is not here is another machine's, and taken to be."""
        directory = self._directory / run_id
        if not directory.is_dir():
            return True
        with (directory / LOCK_FILE).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def report(self, run_id: str, progress: StageProgress) -> None:
        """Store progress.

        Raises:
            RunCancelled: somebody cancelled the run meanwhile.
        """
        changed = self._try_update(
            run_id, ("running",), progress=dataclasses.asdict(progress) | {"at": now().isoformat()}
        )
        if not changed:
            raise RunCancelled(f"run {run_id} was cancelled")

    def note_feedback(self, run_id: str, until: datetime) -> None:
        """Remember the newest judgement in the run's snapshot."""
        self._update(run_id, ("running",), feedback_until=until)

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
            "finished_at": now(),
        }
        self._update(run_id, ("running",), **values)
        return self.get(run_id)

    def fail(self, run_id: str, reason: str) -> None:
        """Record why a run could not go on; it can be resumed."""
        self._try_update(run_id, ACTIVE_STATES, state="failed", reason=reason, finished_at=now())

    def cancel(self, run_id: str) -> Run:
        """Ask a queued or running run to stop; it keeps its checkpoints and can be resumed.

        Raises:
            NotFoundError: there is none of this id.
            UsageError: it has already ended.
        """
        run = self.get(run_id)
        reason = "cancelled by a person"
        if not self._try_update(run_id, ACTIVE_STATES, state="cancelled", reason=reason, finished_at=now()):
            raise UsageError(f"run {run_id} is already {run.state}: there is nothing to cancel")
        return self.get(run_id)

    def _update(self, run_id: str, states: Sequence[str], **values: Any) -> None:
        if not self._try_update(run_id, states, **values):
            state = self.get(run_id).state
            if state == "cancelled":
                raise RunCancelled(f"run {run_id} was cancelled")
            raise UsageError(f"run {run_id} is {state}; expected one of: {', '.join(states)}")

    def _try_update(self, run_id: str, states: Sequence[str], **values: Any) -> bool:
        statement = sa.update(runs).where(runs.c.id == run_id, runs.c.state.in_(states)).values(**values)
        with self._database.write() as connection:
            return bool(connection.execute(statement).rowcount)

    def _to_run(self, row: sa.Row[Any]) -> Run:
        values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's documented public name for it
        # Where the home lies now, which is not where it lay when the run was made if it was moved or restored.
        return Run(**(values | {"directory": self._directory / values["id"]}))
