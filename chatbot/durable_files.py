"""Files that are there completely or not at all, also after a power cut. Knows nothing of what is in them."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from knowledge_base.errors import StorageError

_PIECE_BYTES = 1 << 20


@contextmanager
def written_atomically(path: Path) -> Iterator[IO[str]]:
    """A text file to write to, which takes its place only when the block ends; when the block raises, the old file stays.

    Only its owner may read it: what is written this way holds people's words.

    Raises:
        StorageError: the folder does not exist or can not be written, or the disk is full.
    """
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
        temporary = Path(name)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        _discard(temporary)
        raise storage_failure(error, path) from error
    except BaseException:
        _discard(temporary)
        raise


def sync_file(path: Path) -> None:
    """Wait until a file's contents are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until a directory's entries (a rename, say) are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def storage_failure(error: OSError, path: Path) -> StorageError:
    """Say in one line what a failure of the file system means and what to do."""
    hints = {
        errno.ENOSPC: "the disk is full; free some space and try again",
        errno.EACCES: "give this account permission to write there",
        errno.EROFS: "the file system is read-only; choose another place",
        errno.ENOENT: "the folder does not exist; make it first",
        errno.ENOTDIR: "part of the path is a file; choose another place",
        errno.EISDIR: "that is a folder; name a file",
    }
    return StorageError(
        f"{path} can not be written: {hints.get(error.errno or 0, error.strerror or str(error))}"
    )


def _discard(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)
