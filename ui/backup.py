"""Backups of a home directory: one tar file with a consistent database, the original documents and the policy bundles.

Training checkpoints are left out: they are large and can be made again. Different from copying the folder: the database is copied with
SQLite's own online backup, so that a running server does no harm. A PostgreSQL database is backed up by `pg_dump`, not by us.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from knowledge_base.errors import StorageError, UsageError
from ui.home import DATABASE_FILE, Home, open_home
from ui.settings import load_settings

_FOLDERS = ("files", "policies")


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
            archive.add(copy, arcname=DATABASE_FILE)
            for folder in _FOLDERS:
                _add_folder(archive, home, folder)
            if home.settings_file.exists():
                archive.add(home.settings_file, arcname=home.settings_file.name)
        partial.rename(out)
    except OSError as error:
        raise StorageError(f"the backup {out} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return out.stat().st_size


def _add_folder(archive: tarfile.TarFile, home: Home, folder: str) -> None:
    for path in sorted((home.path / folder).rglob("*")):
        name = path.relative_to(home.path)
        if any(part.startswith(".") or part.endswith(".part") for part in name.parts):
            continue  # being written at this moment, and in no row of the database copy
        # Deleted since it was listed: the copy of the database is older, and restoring says that the original is not kept.
        with contextlib.suppress(FileNotFoundError):
            archive.add(path, arcname=str(name), recursive=False)


@contextlib.contextmanager
def _database_copy(home: Home) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=home.path) as folder:
        copy = Path(folder) / DATABASE_FILE
        source_file = home.path / DATABASE_FILE
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
    if home_path.exists() and (not home_path.is_dir() or any(home_path.iterdir())):
        raise UsageError(f"{home_path} is not empty: restore into a new --home")
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    home_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home_path.parent, prefix=".restoring-") as folder:
        unpacked = Path(folder) / "home"
        _unpack(file, unpacked)
        # The home appears whole or not at all.
        unpacked.replace(home_path)


def _unpack(file: Path, into: Path) -> None:
    try:
        with tarfile.open(file) as archive:
            if DATABASE_FILE not in archive.getnames():
                raise UsageError(f"{file} is not a backup made by `tacit backup`")
            # The data filter refuses absolute paths, links out of the folder and device files.
            archive.extractall(into, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{file} is not a backup, or is damaged: {error}") from error
