"""Which files an ingest takes: folders are walked, named files are taken as they are, and what was named but refused is reported.

Inside a folder, hidden files, files of other kinds and symbolic links that lead out of it are passed over; a link could otherwise
publish any file that the server may read. Knows nothing of formats beyond the extensions it is given.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from knowledge_base.errors import UsageError
from knowledge_base.records import IngestFailure

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to ingest."""

    file: Path
    path: str
    """The document's path: relative to the named folder, or the name of a named file; forward slashes."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceList:
    """What the named paths come to."""

    files: tuple[SourceFile, ...]
    failed: tuple[IngestFailure, ...]
    """Named explicitly but refused, or in conflict with another."""


def find_sources(paths: Sequence[Path], suffixes: Collection[str]) -> SourceList:
    """List the files of an ingest, each folder's in the order of their paths.

    Args:
        paths: Files and folders as named.
        suffixes: Extensions that loaders exist for, lower case with the dot.

    Raises:
        UsageError: nothing is named, or a named path does not exist.
    """
    if not paths:
        raise UsageError("nothing to ingest: name a file or a folder")
    missing = next((path for path in paths if not os.path.lexists(path)), None)
    if missing is not None:
        raise UsageError(f"{missing} does not exist: check the path")
    files: dict[str, SourceFile] = {}
    failed: list[IngestFailure] = []
    for named in paths:
        reason = _refusal(named)
        if reason is not None:
            failed.append(IngestFailure(path=printable(named), error=reason))
            continue
        found = _walk(named.resolve(), suffixes, failed) if named.is_dir() else [(named, named.name)]
        for file, path in found:
            earlier = files.get(path)
            if not _is_text(path):
                failed.append(
                    IngestFailure(path=printable(path), error="its name is not valid UTF-8: rename the file")
                )
            elif earlier is None:
                files[path] = SourceFile(file=file, path=path, size_bytes=_size(file))
            elif earlier.file.resolve() != file.resolve():
                error = f"{earlier.file} has the same path in the collection: ingest them into two collections, or from their common folder"
                failed.append(IngestFailure(path=printable(file), error=error))
    return SourceList(files=tuple(files.values()), failed=tuple(failed))


def printable(path: Path | str) -> str:
    """A path that can be printed and stored, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _refusal(named: Path) -> str | None:
    if named.name.startswith(".") and named.name not in (".", ".."):
        return "it is hidden: rename or copy it to ingest it"
    if named.is_dir():
        return None
    if named.is_symlink():
        return "it is a symbolic link: name the file it leads to"
    if not named.is_file():
        return "it is not a regular file: name a document"
    return None


def _walk(folder: Path, suffixes: Collection[str], failed: list[IngestFailure]) -> list[tuple[Path, str]]:
    def unreadable(error: OSError) -> None:
        path = printable(error.filename or folder)
        failed.append(
            IngestFailure(
                path=path, error=f"the folder cannot be read ({error.strerror}): check its permissions"
            )
        )

    found: list[tuple[Path, str]] = []
    ignored = 0
    for directory, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(directory) / name for name in names):
            reason = _passed_over(file, folder, suffixes)
            if reason is None:
                found.append((file, file.relative_to(folder).as_posix()))
            else:
                ignored += 1
                log.debug("ignored", path=printable(file), reason=reason)
    if ignored:
        log.info("files passed over", folder=printable(folder), ignored=ignored)
    return sorted(found, key=lambda item: item[1])


def _passed_over(file: Path, folder: Path, suffixes: Collection[str]) -> str | None:
    if file.name.startswith("."):
        return "hidden"
    if file.suffix.lower() not in suffixes:
        return "no loader for this extension"
    if not file.is_file():
        return "not a regular file"
    return _link_refusal(file, folder) if file.is_symlink() else None


def _link_refusal(link: Path, folder: Path) -> str | None:
    target = link.resolve()
    if not target.is_relative_to(folder):
        return "symbolic link out of the folder"
    if any(part.startswith(".") for part in target.relative_to(folder).parts):
        return "symbolic link to something hidden"
    return None


def _is_text(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # reading it will say why
