"""The one database: engine, transactions, shared metadata. SQLite in WAL mode by default, PostgreSQL by URL.

Each package declares its own tables on `metadata` in its `tables.py`; the Alembic history lives in `ui/migrations`, the only
layer that sees them all. This module knows nothing of any table.

Different from the textbook: SQLite runs with `synchronous=FULL`, because an acknowledged vote or upload must survive a power cut;
writers take the lock at the start of a transaction (`BEGIN IMMEDIATE`), so that two never read, then deadlock on the upgrade; and what is
deleted is overwritten (`secure_delete`), because a deletion that leaves the words in the file is none.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import TypeDecorator

from knowledge_base.errors import StorageError
from knowledge_base.traces import Traces

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BUSY_TIMEOUT_SECONDS = 30
"""How long a writer waits for another before it gives up."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on both databases; SQLite has no time zones, so they are stored as UTC and labelled on the way out."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Refuse naive times, store UTC without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: pass an aware one")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Label the stored time as UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """A random id, 32 hexadecimal digits; ids are never guessable (predictable file ids leaked documents elsewhere)."""
    return uuid.uuid4().hex


class Database:
    """A connection pool and its transactions.

    Example:
        >>> db = Database("sqlite://")
        >>> with db.read() as connection:
        ...     connection.execute(sa.text("select 1")).scalar_one()
        1
    """

    def __init__(self, url: str) -> None:
        """Open the database.

        Args:
            url: SQLAlchemy URL: `sqlite:////abs/path/tacit.db`, `sqlite://` (in memory, for tests), `postgresql+psycopg://...`.

        Raises:
            StorageError: the URL cannot be understood or its driver is not installed.
        """
        self.url = url
        self.engine = _make_engine(url)
        self._traces = Traces(self.engine)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (FTS5, files) rather than PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading; sees one consistent state of the database."""
        with self._translate_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed when the block ends, rolled back when it raises.

        Raises:
            StorageError: the database is locked for too long, read-only, full or unreachable.
        """
        with self._translate_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with _commit_or_roll_back(connection):
                yield connection

    def leave_no_trace(self, *, rewrite: bool = False) -> None:
        """Take what was deleted out of SQLite's files too, where copies of old pages lie; PostgreSQL's own vacuum does that there.

        The deletion itself is done by then: what cannot be done now is noted beside the file for `remove_traces`, and no error.

        Args:
            rewrite: Write the whole file anew, which also reaches what lay in it before deletions were overwritten: seconds for a large one.
        """
        if self.is_sqlite:
            with self._translate_errors():
                self._traces.leave(rewrite=rewrite)

    def remove_traces(self) -> bool:
        """Do what `leave_no_trace` could not, in this process or another. Returns whether there was something to do."""
        with self._translate_errors():
            return self.is_sqlite and self._traces.make_good()

    def dispose(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise storage_error(error) from error


@contextmanager
def _commit_or_roll_back(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def storage_error(error: OperationalError) -> StorageError:
    """Say in one line what a database failure means and what to do."""
    text = str(error.orig).strip().splitlines()[0] if error.orig is not None else str(error)
    hints = {
        "disk is full": "free some space and run the command again; nothing already saved is lost",
        "disk I/O error": "check the disk; nothing already saved is lost",
        "readonly": "give this account write permission to the home directory",
        "unable to open": "check that the home directory exists and is writable",
        "locked": "another process is writing; try again in a moment",
        "no such table": "run `tacit init` first",
        "connection": "check that the database server runs and that the URL is right",
    }
    hint = next((value for key, value in hints.items() if key in text), "see the log for details")
    failure = StorageError(f"the database cannot be used ({text}): {hint}")
    failure.permanent = "locked" not in text and "connection" not in text
    return failure


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.resolve()}"


def _make_engine(url: str) -> Engine:
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(parsed)
        return sa.create_engine(parsed, pool_pre_ping=True, pool_size=10)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise StorageError(
            f"database URL not understood: {error}; use sqlite:///PATH or postgresql+psycopg://..."
        ) from error
    except ModuleNotFoundError as error:
        raise StorageError(
            f"the database driver is missing ({error.name}): pip install 'tacit[postgres]'"
        ) from error


def _sqlite_engine(url: sa.URL) -> Engine:
    in_memory = not url.database or url.database == ":memory:"
    options: dict[str, Any] = {"poolclass": sa.StaticPool} if in_memory else {}
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}, **options
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # We say BEGIN ourselves (Database.write): the driver's implicit one is deferred and cannot wait for the lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
            f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine
