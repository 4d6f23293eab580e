"""A fresh database with all tables, and a clock that stands still."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import knowledge_base.tables as kb_tables
from knowledge_base.database import Database, metadata, sqlite_url
from tests.chatbot.cast import DOCUMENTS, START, Clock


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, made once: creating them waits for the disk dozens of times."""
    path = tmp_path_factory.mktemp("empty") / "tacit.db"
    database = Database(sqlite_url(path))
    metadata.create_all(database.engine)
    _add_documents(database)
    database.dispose()
    return path


@pytest.fixture
def db(tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    """SQLite in a file, as in real life; or the server that TACIT_TEST_URL names, emptied."""
    url = os.environ.get("TACIT_TEST_URL")
    if url is None:
        shutil.copy(empty_database, tmp_path / "tacit.db")
    database = Database(url or sqlite_url(tmp_path / "tacit.db"))
    if url is not None:
        metadata.drop_all(database.engine)
        metadata.create_all(database.engine)
        _add_documents(database)
    yield database
    database.dispose()


def _add_documents(database: Database) -> None:
    """Those that answers in these tests rest on; without words, because they are read by nobody."""
    collection = {"id": "handbook", "name": "handbook", "is_open": True, "created_at": START}
    with database.write() as connection:
        connection.execute(sa.insert(kb_tables.collections).values(collection))
        rows = [
            {
                "id": document_id,
                "collection_id": "handbook",
                "path": f"{document_id}.md",
                "title": "",
                "media_type": "text/markdown",
                "content_hash": "",
                "size_bytes": 0,
                "text": "",
                "sections": [],
                "metadata": {},
                "pipeline_version": "",
                "created_at": START,
                "updated_at": START,
            }
            for document_id in DOCUMENTS
        ]
        connection.execute(sa.insert(kb_tables.documents), rows)


@pytest.fixture
def clock() -> Clock:
    """Shows `cast.START` until advanced."""
    return Clock()
