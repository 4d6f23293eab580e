"""Taking, keeping and letting go of runs' leases, in the rows of runs; the rule is `run_lease`'s.

Every question about a row is asked with the row locked, in the transaction that writes. Knows nothing of what a run does or how it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from alignment.errors import RunCancelled
from alignment.records import Run
from alignment.run_lease import BEAT_SECONDS, SILENT_AFTER, Lease, RunLock
from alignment.tables import runs
from knowledge_base.database import Database, new_id
from knowledge_base.errors import TacitError, UsageError
from knowledge_base.heartbeat import beating

log = structlog.get_logger(__name__)


class RunHolds:
    """The runs that this process works on."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        """Hold nothing yet."""
        self._database = database
        self._clock = clock
        self._tokens: dict[str, str] = {}

    def take(self, run_id: str, lock: RunLock) -> None:
        """Put this process's token into the row.

        Args:
            run_id: Which.
            lock: Of its folder; held.

        Raises:
            UsageError: somebody else holds the run.
        """
        token = new_id()
        lock.sign(token)  # first: killed between the two, the old token still stands in both
        with self._database.write() as connection:
            row = locked(connection, run_id)
            holder = Lease.of(row.progress)
            if holder is not None and not self._is_dead(holder, lock):
                raise held_elsewhere(run_id)
            self._tokens[run_id] = token
            self._write_lease(connection, row)

    def beating(self, run_id: str) -> AbstractContextManager[None]:
        """Say again and again, while the block lasts, that this process lives."""
        return beating(lambda: self.beat(run_id), seconds=BEAT_SECONDS, name=f"lease-{run_id[:6]}")

    def beat(self, run_id: str) -> None:
        """Say that this process lives and works on the run; does nothing when it is another's by now, as the next report will tell."""
        with self._database.write() as connection:
            row = locked(connection, run_id)
            if self.is_own(row):
                self._write_lease(connection, row)

    def release(self, run_id: str) -> None:
        """Let go of a run: nobody needs to wait until the lease runs out."""
        try:
            with self._database.write() as connection:
                row = locked(connection, run_id)
                own = self.is_own(row)
                self._tokens.pop(run_id)
                if own:
                    self._write_lease(connection, row)
        except TacitError as error:
            # What ended the work is what matters; the lease runs out by itself.
            log.warning("run_release_failed", run=run_id, error=str(error))

    def lease(self, run_id: str) -> Lease | None:
        """This process's lease of a run, as of now; None where it works on no such run."""
        token = self._tokens.get(run_id)
        return Lease(token=token, beat=self._clock()) if token else None

    def _write_lease(self, connection: Connection, row: sa.Row[Any]) -> None:
        lease = self.lease(row.id)
        kept = {name: value for name, value in row.progress.items() if name not in {"lease", "beat"}}
        values = {"progress": kept | (lease.to_json() if lease else {})}
        connection.execute(sa.update(runs).where(runs.c.id == row.id).values(values))

    def _is_dead(self, holder: Lease, lock: RunLock) -> bool:
        return lock.has_signed(holder.token) or self._is_silent(holder)

    def _is_silent(self, holder: Lease) -> bool:
        return self._clock() - holder.beat >= SILENT_AFTER

    def is_abandoned(self, run: Run, lock: RunLock | None) -> bool:
        """Whether nobody works on a run; asked while nobody holds the lock of its folder.

        Args:
            run: Which, as its row says.
            lock: Of its folder; None where it cannot be looked at, so that only silence tells.
        """
        holder = Lease.of(run.progress)
        if holder is not None:
            return self._is_dead(holder, lock) if lock else self._is_silent(holder)
        # Not taken yet, or let go. Without its folder here it is another machine's, which gets a moment to take it up.
        is_here = lock is not None and run.directory.is_dir()
        return is_here or self._clock() - (run.started_at or run.created_at) >= SILENT_AFTER

    def is_own(self, row: sa.Row[Any]) -> bool:
        """Whether the row bears this process's token; a run that nobody holds is everybody's."""
        holder = Lease.of(row.progress)
        return (holder.token if holder else None) == self._tokens.get(row.id)

    def own(self, connection: Connection, run_id: str) -> None:
        """Lock a run's row in the caller's transaction, and refuse to go on unless it is running and this process's.

        Raises:
            RunCancelled: it was cancelled, taken over, or given up for dead.
        """
        row = locked(connection, run_id)
        if row.state == "cancelled":
            raise RunCancelled(f"run {run_id} was cancelled")
        if not self.is_own(row):
            raise RunCancelled(f"run {run_id} was taken over by another process while this one was silent")
        if row.state != "running":
            raise RunCancelled(
                f"run {run_id} was marked {row.state} while this process was silent: `tacit runs resume {run_id}` goes on with it"
            )


def locked(connection: Connection, run_id: str) -> sa.Row[Any]:
    """A run's row, held until the transaction ends."""
    return connection.execute(sa.select(runs).where(runs.c.id == run_id).with_for_update()).one()


def held_elsewhere(run_id: str) -> UsageError:
    """Says that another process works on a run."""
    return UsageError(
        f"run {run_id} is being worked on by another process: wait for it, or `tacit runs cancel {run_id}`"
    )
