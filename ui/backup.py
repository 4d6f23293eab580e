"""Backups of a home directory: one tar file with a consistent database, the original documents and the policy bundles.

Training checkpoints are left out: they are large and can be made again. Different from copying the folder: the database is copied with
SQLite's own online backup, so that a running server does no harm. A PostgreSQL database is backed up by `pg_dump`, not by us.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from knowledge_base.errors import StorageError, UsageError
from ui.home import Home, open_home
from ui.settings import load_settings

_FOLDERS = ("files", "policies")
_DATABASE = "tacit.db"


def write_backup(home_path: Path, out: Path) -> int:
    """Write a backup.

    Returns:
        Its size in bytes.

    Raises:
        UsageError: the file exists already, or the database is not SQLite.
    """
    home = open_home(home_path, create=False)
    if load_settings(home).database.url:
        raise UsageError("this home keeps its data in PostgreSQL: use pg_dump, and copy files/ and policies/")
    if out.exists():
        raise UsageError(f"{out} exists already: give another file name")
    partial = out.with_name(out.name + ".part")
    try:
        with _database_copy(home) as copy, tarfile.open(partial, "w:gz") as archive:
            archive.add(copy, arcname=_DATABASE)
            for folder in _FOLDERS:
                archive.add(home.path / folder, arcname=folder)
            if home.settings_file.exists():
                archive.add(home.settings_file, arcname=home.settings_file.name)
        partial.rename(out)
    except OSError as error:
        raise StorageError(f"the backup {out} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return out.stat().st_size


@contextlib.contextmanager
def _database_copy(home: Home) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=home.path) as folder:
        copy = Path(folder) / _DATABASE
        source_file = home.path / _DATABASE
        with (
            contextlib.closing(sqlite3.connect(source_file)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        yield copy


def restore_backup(file: Path, home_path: Path) -> None:
    """Make a home from a backup.

    Raises:
        UsageError: the home is not empty, or the file is not a backup.
    """
    if home_path.exists() and any(home_path.iterdir()):
        raise UsageError(f"{home_path} is not empty: restore into a new --home")
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    home_path.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(file) as archive:
            if _DATABASE not in archive.getnames():
                raise UsageError(f"{file} is not a backup made by `tacit backup`")
            # The data filter refuses absolute paths, links out of the folder and device files.
            archive.extractall(home_path, filter="data")
    except (tarfile.TarError, EOFError) as error:
        shutil.rmtree(home_path)
        raise UsageError(f"{file} is not a backup, or is damaged: {error}") from error
