"""Fixtures for every package: databases of both kinds, and the cast of readers.

`database` gives each test a fresh database with all tables, once on SQLite (a file, as in real life) and once on PostgreSQL.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Before any library reads it: the tests of the command line look at every line on stderr.
os.environ.setdefault("TQDM_DISABLE", "1")
# Tiny models gain nothing from a second thread, and threads that spin at barriers slow servers, workers and tests beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import sqlalchemy as sa
from hypothesis import settings

from knowledge_base.database import Database, sqlite_url
from knowledge_base.records import Reader
from knowledge_base.schema import create_schema
from knowledge_base.store import KnowledgeStore
from tests.fakes import FakeEmbedder

# Machines are noisy: how long an example takes decides nothing.
settings.register_profile("tacit", deadline=None)
settings.load_profile("tacit")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database, made once: creating tables waits for the disk dozens of times."""
    path = tmp_path_factory.mktemp("template") / "tacit.db"
    database = Database(sqlite_url(path))
    create_schema(database)
    database.dispose()
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Database]:
    """A PostgreSQL server's database with all tables."""
    from tests import postgres

    try:
        with postgres.running_server() as folder:
            postgres.execute(folder, "CREATE DATABASE tacit")
            database = Database(postgres.database_url(folder, "tacit"))
            create_schema(database)
            yield database
            database.dispose()
    except postgres.NoPostgresError as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"PostgreSQL tests must run in CI: {error}")
        pytest.skip(f"POSTGRESQL IS NOT TESTED: {error}")


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """A fresh SQLite file."""
    shutil.copy(sqlite_template, tmp_path / "tacit.db")
    database = Database(sqlite_url(tmp_path / "tacit.db"))
    yield database
    database.dispose()


@pytest.fixture
def postgres_database(postgres_server: Database) -> Database:
    """The server's database, emptied: making a new one takes ten times as long."""
    with postgres_server.write() as connection:
        names = sa.inspect(connection).get_table_names()
        connection.exec_driver_sql(f"TRUNCATE {', '.join(names)} CASCADE")
    return postgres_server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    """A fresh database of each kind."""
    made: Database = request.getfixturevalue(f"{request.param}_database")
    return made


@pytest.fixture
def store(database: Database) -> KnowledgeStore:
    """An empty store on each kind of database."""
    return KnowledgeStore(database)


@pytest.fixture
def embedder() -> FakeEmbedder:
    """Bag of words."""
    return FakeEmbedder()


@pytest.fixture
def alice() -> Reader:
    """An employee without groups: reads what is open to all."""
    return Reader(name="alice")


@pytest.fixture
def heidi() -> Reader:
    """Of human resources: reads `pay` too."""
    return Reader(name="heidi", groups=frozenset({"hr"}))


@pytest.fixture
def igor() -> Reader:
    """Of the IT department: a stranger to `pay`."""
    return Reader(name="igor", groups=frozenset({"it"}))


@pytest.fixture
def operator() -> Reader:
    """At the command line: reads all."""
    return Reader(name="operator", reads_all=True)


@pytest.fixture(scope="session")
def tiny_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `tests.tiny_home`; made once, not to be opened by tests."""
    from tests.tiny_home import make_tiny_home

    return make_tiny_home(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(tiny_template: Path, tmp_path: Path) -> Path:
    """A copy of one's own; the model stays where it was made."""
    return shutil.copytree(tiny_template, tmp_path / "tiny", ignore=shutil.ignore_patterns("model"))
