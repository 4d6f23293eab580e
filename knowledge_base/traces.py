"""What stays of deleted rows in SQLite's files, and taking it out: the write-ahead log is emptied, the whole file written anew.

Both may be impossible at the moment: somebody reads, or the disk is full. That fails no deletion, because the rows are gone; a small file
beside the database says what is still due, for whoever comes next. Knows nothing of tables.

Different from SQLite's own way of emptying the log: it takes the lock of writers first and waits for readers then, so one long reader would
stop everybody who writes. Here it waits for a moment only.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

log = structlog.get_logger(__name__)

PATIENCE_MILLISECONDS = 200
"""How long emptying the log may keep writers waiting for a reader."""


class Traces:
    """What was deleted and may still lie in the files of one SQLite database."""

    def __init__(self, engine: Engine) -> None:
        """Of this database."""
        self._engine = engine

    def leave(self, *, rewrite: bool) -> None:
        """Leave none; what cannot be done now is noted as due.

        Args:
            rewrite: Write the file anew, too.
        """
        with self._engine.connect() as connection:
            if rewrite:
                self._note("rewrite")  # first: a process killed meanwhile has not done it
                self._rewrite(connection)
            self._empty_log(connection)

    def make_good(self) -> bool:
        """Do what is due. Returns whether something was."""
        is_rewrite_due, is_log_due = (self._due(what) for what in ("rewrite", "log"))
        if not is_rewrite_due and not is_log_due:
            return False
        with self._engine.connect() as connection:
            if is_rewrite_due:
                self._rewrite(connection)
            self._empty_log(connection)
        return True

    def _rewrite(self, connection: Connection) -> None:
        noted = self._due("rewrite")
        try:
            if not self._has_space():
                # Not tried: it would fill the disk for everybody else first.
                log.warning("database_not_rewritten", reason="less than twice its size is free on the disk")
                return
            connection.exec_driver_sql("VACUUM")
        except OperationalError as error:
            log.warning("database_not_rewritten", reason=str(error.orig))
            return
        self._strike_out("rewrite", noted)

    def _empty_log(self, connection: Connection) -> None:
        """The log holds pages as they were; the file itself is right before it is emptied."""
        noted = self._due("log")
        try:
            # Most of the work first, without the lock of writers.
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            with _impatient(connection):
                is_busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            reason = "somebody else reads or writes" if is_busy else ""
        except OperationalError as error:
            reason = str(error.orig)
        if reason:
            log.warning("write_ahead_log_not_emptied", reason=reason)
            self._note("log")
        else:
            self._strike_out("log", noted)

    def _file(self, what: str) -> Path | None:
        database = self._engine.url.database
        return Path(f"{database}-{what}-due") if database and database != ":memory:" else None

    def _due(self, what: str) -> str:
        """What the note says, if there is one: another one for each time."""
        file = self._file(what)
        if file is None or not file.exists():
            return ""
        try:
            return file.read_text("ascii")
        except OSError as error:
            return f"unreadable: {error.strerror}"

    def _note(self, what: str) -> None:
        file = self._file(what)
        if file is None:
            return
        try:
            file.write_text(uuid.uuid4().hex, "ascii")
        except OSError as error:
            log.warning("trace_not_noted", file=str(file), reason=str(error))

    def _strike_out(self, what: str, noted: str) -> None:
        # A deletion in another process may have noted it anew since: that one is still due.
        file = self._file(what)
        if file is None or self._due(what) != noted:
            return
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("trace_note_stays", file=str(file), reason=str(error))

    def _has_space(self) -> bool:
        database = self._engine.url.database
        if not database or database == ":memory:":
            return True
        file = Path(database)
        return shutil.disk_usage(file.parent).free > 2 * file.stat().st_size


@contextmanager
def _impatient(connection: Connection) -> Iterator[None]:
    patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    connection.exec_driver_sql(f"PRAGMA busy_timeout={PATIENCE_MILLISECONDS}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={patience}")
