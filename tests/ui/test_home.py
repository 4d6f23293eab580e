"""The home directory and its schema."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import alignment.tables
import chatbot.tables
import knowledge_base.tables  # noqa: F401 -- declares its tables
from knowledge_base.database import metadata
from knowledge_base.errors import NotFoundError, StorageError
from ui.home import HEAD_REVISION, current_revision, known_revisions, open_database, open_home

LEXICAL = ("chunks_fts", "chunk_words")
assert alignment.tables.runs is not None
assert chatbot.tables.users is not None


def test_a_missing_home_says_how_to_make_one(tmp_path: Path) -> None:
    """Reading from nowhere names the command that makes a home."""
    with pytest.raises(NotFoundError, match="tacit init"):
        open_home(tmp_path / "none", create=False)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The line says that it is a file."""
    (tmp_path / "home").write_text("")

    with pytest.raises(StorageError, match="is a file"):
        open_home(tmp_path / "home", create=True)


def test_a_new_home_gets_the_newest_schema(tmp_path: Path) -> None:
    """Opening an empty home migrates it to the head."""
    database = open_database(open_home(tmp_path, create=True), None)

    assert HEAD_REVISION == current_revision(database)
    assert HEAD_REVISION == max(known_revisions())


def test_the_migrations_make_exactly_the_declared_tables(tmp_path: Path) -> None:
    """A table or column that somebody forgot to migrate is noticed here."""
    database = open_database(open_home(tmp_path, create=True), None)

    with database.read() as connection:
        context = MigrationContext.configure(connection)
        differences = [d for d in compare_metadata(context, metadata) if not str(d[1]).startswith(LEXICAL)]

    assert [] == [d for d in differences if not (d[0] == "remove_table" and d[1].name.startswith(LEXICAL))]


def test_a_home_of_a_newer_version_is_refused_unharmed(tmp_path: Path) -> None:
    """The schema of the future is named, nothing is changed."""
    home = open_home(tmp_path, create=True)
    database = open_database(home, None)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StorageError, match="newer version"):
        open_database(home, None)

    assert "9999" == current_revision(database)
