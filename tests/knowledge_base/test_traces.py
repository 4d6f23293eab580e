"""What is deleted leaves SQLite's files, at the latest when nobody is in the way any more; and nobody waits long for it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from knowledge_base.database import Database, sqlite_url

WORD = "zebrafinch"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of the database."""
    return tmp_path / "tacit.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    """With one table and a row that was deleted; the log still holds it."""
    database = Database(sqlite_url(file))
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE words (word TEXT)")
        connection.exec_driver_sql("INSERT INTO words VALUES (?), ('other')", (WORD,))
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM words WHERE word = ?", (WORD,))
    yield database
    database.dispose()


@contextmanager
def _long_reader(file: Path) -> Iterator[None]:
    """Another process in the middle of reading, as a backup is."""
    other = Database(sqlite_url(file))
    with other.read() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SELECT * FROM words").all()
        with Database(sqlite_url(file)).write() as writer:
            # Something that the reader does not see: else it would not be in the way.
            writer.exec_driver_sql("INSERT INTO words VALUES ('newer')")
        yield
        connection.exec_driver_sql("COMMIT")
    other.dispose()


def _holding(file: Path, word: str = WORD) -> list[str]:
    return [path.name for path in sorted(file.parent.iterdir()) if word.encode() in path.read_bytes()]


def _notes(file: Path) -> list[str]:
    return [path.name for path in sorted(file.parent.glob("*-due"))]


def test_what_was_deleted_is_in_no_file(database: Database, file: Path) -> None:
    """Neither in the database nor in its log."""
    assert _holding(file) == ["tacit.db-wal"]

    database.leave_no_trace()

    assert ([], []) == (_holding(file), _notes(file))


def test_a_long_reader_stops_no_writer(database: Database, file: Path) -> None:
    """Nor the one who deletes; the log is emptied once the reader is done."""
    with _long_reader(file):
        began = time.monotonic()
        database.leave_no_trace()
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO words VALUES ('newest')")
        assert time.monotonic() - began < 5
        assert ["tacit.db-log-due"] == _notes(file)

    assert database.remove_traces()
    assert ([], []) == (_holding(file), _notes(file))
    assert not database.remove_traces()


def test_a_connection_waits_for_other_writers_as_before(database: Database, file: Path) -> None:
    """Only the emptying of the log is impatient."""
    with _long_reader(file):
        database.leave_no_trace()

    with database.read() as connection:
        assert 30_000 == connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()


def test_a_rewrite_that_fails_is_no_error_and_made_good_later(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are gone: whoever deletes must not read that the deletion failed."""
    with database.write() as writer, monkeypatch.context() as patched:
        patched.setattr("knowledge_base.database.BUSY_TIMEOUT_SECONDS", 0.05)
        hasty = Database(sqlite_url(file))
        writer.exec_driver_sql("INSERT INTO words VALUES ('newest')")
        hasty.leave_no_trace(rewrite=True)
        hasty.dispose()
        assert "tacit.db-rewrite-due" in _notes(file)

    assert database.remove_traces()
    assert ([], []) == (_holding(file), _notes(file))


def test_a_full_disk_is_not_filled_by_a_rewrite(
    database: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the space from everybody who writes, again at every attempt."""
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        database.leave_no_trace(rewrite=True)
        assert ["tacit.db-rewrite-due"] == _notes(file)

    database.leave_no_trace(rewrite=True)
    assert [] == _notes(file)


def test_a_rewrite_reaches_what_was_not_overwritten(database: Database, file: Path) -> None:
    """Remains of a version that did not overwrite what it deleted."""
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA secure_delete=OFF")
        connection.exec_driver_sql("INSERT INTO words VALUES ('okapi')")
        connection.exec_driver_sql("DELETE FROM words WHERE word = 'okapi'")
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
    database.leave_no_trace()
    assert ["tacit.db"] == _holding(file, "okapi")

    database.leave_no_trace(rewrite=True)

    assert [] == _holding(file, "okapi")
