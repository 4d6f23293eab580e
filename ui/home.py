"""The home directory: where it lies, that it is ours, writable, and of a version we understand; its schema brought up to date.

Layout: `tacit.db` (or a PostgreSQL URL in `settings.toml`), `files/` (originals of documents), `policies/` (bundles), `runs/` (training).
Knows nothing of what the tables hold.

Different from the textbook: the schema version is read with one plain query and Alembic is imported only when there is something to
migrate, because every command passes through here and must start quickly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog

from knowledge_base.database import Database, sqlite_url
from knowledge_base.errors import NotFoundError, StorageError

log = structlog.get_logger(__name__)

HEAD_REVISION = "0003"
"""The newest migration in `ui/migrations/versions`; a test keeps it true."""
DATABASE_FILE = "tacit.db"
MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The directories of one installation."""

    path: Path

    @property
    def files(self) -> Path:
        """Originals of ingested documents."""
        return self.path / "files"

    @property
    def uploads(self) -> Path:
        """Files waiting to be ingested."""
        return self.path / "uploads"

    @property
    def policies(self) -> Path:
        """Policy bundles."""
        return self.path / "policies"

    @property
    def runs(self) -> Path:
        """Training runs: snapshots, checkpoints, metrics."""
        return self.path / "runs"

    @property
    def settings_file(self) -> Path:
        """The optional settings file."""
        return self.path / "settings.toml"


def open_home(path: Path, *, create: bool) -> Home:
    """Check the home directory, make it when allowed.

    Raises:
        NotFoundError: it does not exist and `create` is False.
        StorageError: it cannot be used: a file of that name, no permission, no space.
    """
    # Absolute: runs and bundles remember their paths, and the next command may be started elsewhere.
    home = Home(path=path.resolve())
    try:
        if path.exists() and not path.is_dir():
            raise StorageError(f"{path} is a file, not a directory: give another --home")
        if not create and not _is_home(home):
            # Any other directory must not be littered with ours by a mistyped --home.
            raise NotFoundError(
                f"there is no Tacit home at {path}: run `tacit init --home {path}` or `tacit demo`"
            )
        for folder in (path, home.files, home.uploads, home.policies, home.runs):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the home directory {path} cannot be made: {error.strerror}; give another --home"
        ) from error
    if not os.access(path, os.W_OK):
        raise StorageError(
            f"the home directory {path} is not writable for this account: change its owner or give another --home"
        )
    return home


def _is_home(home: Home) -> bool:
    has_data = (home.path / DATABASE_FILE).exists() or home.settings_file.exists()
    return has_data or (home.path.is_dir() and "TACIT_DATABASE_URL" in os.environ)


def open_database(home: Home, url: str | None) -> Database:
    """Open the database and bring its schema up to date.

    Raises:
        StorageError: it was written by a newer version, or cannot be opened.
    """
    database = Database(url or sqlite_url(home.path / DATABASE_FILE))
    try:
        _bring_up_to_date(database, home)
    except sa.exc.DatabaseError as error:
        database.dispose()
        raise StorageError(
            f"the database of {home.path} cannot be read ({error.orig}): restore a backup with `tacit restore`, or give another --home"
        ) from error
    except BaseException:
        database.dispose()
        raise
    return database


def _bring_up_to_date(database: Database, home: Home) -> None:
    revision = current_revision(database)
    if revision == HEAD_REVISION:
        return
    if revision is not None and revision not in known_revisions():
        raise StorageError(
            f"{home.path} was written by a newer version of Tacit (schema {revision}, this one knows {HEAD_REVISION}): "
            "upgrade Tacit, or give another --home"
        )
    migrate(database)
    log.info("schema_migrated", before=revision, after=HEAD_REVISION)


def current_revision(database: Database) -> str | None:
    """The schema's revision; None for an empty database."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        value = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if value is None else str(value)


def known_revisions() -> set[str]:
    """Revisions of all migrations that this version carries."""
    return {path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}


def migrate(database: Database) -> None:
    """Run all missing migrations in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
