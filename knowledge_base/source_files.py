"""The original files, kept so that a reader can open what an answer cites, under names that cannot be guessed.

A file is stored under its document's random id, without its own name, so that no path of anybody's choosing is ever opened; the
checked download route asks the store for the document's name and rights. Knows nothing of rights itself.
"""

from __future__ import annotations

import errno
import hashlib
import re
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from knowledge_base.errors import DocumentError, NotFoundError, StorageError

_BLOCK_BYTES = 1 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class SourceFiles:
    """Originals in one directory."""

    def __init__(self, directory: Path) -> None:
        """Keep files here; the directory is made when first needed."""
        self.directory = directory

    def path(self, document_id: str) -> Path:
        """Where a document's original lies.

        Raises:
            NotFoundError: it is not kept, or the id is none.
        """
        path = self._place(document_id)
        if not path.is_file():
            raise NotFoundError("the original of this document is not kept: ingest it again")
        return path

    def has(self, document_id: str) -> bool:
        """Whether a document's original is kept."""
        return self._place(document_id).is_file()

    def keep(self, document_id: str, source: Path, *, content_hash: str) -> None:
        """Copy a file into place, whole or not at all.

        Raises:
            DocumentError: it changed since its hash was taken.
            StorageError: the disk is full or not writable; what was kept before stays.
        """
        place = self._place(document_id)
        with self._write(place) as temporary:
            found = _copy(source, temporary)
            if found != content_hash:
                raise DocumentError(f"{source.name} changed while it was read: ingest it again")

    def remove(self, document_id: str) -> None:
        """Forget a document's original, if it is kept."""
        self._place(document_id).unlink(missing_ok=True)

    def move(self, document_id: str, to_id: str) -> None:
        """Give an original to another document."""
        with storage_errors(self.directory):
            self._place(document_id).replace(self._place(to_id))

    def remove_others(self, known: Collection[str], *, older_than: timedelta) -> int:
        """Remove what belongs to none of these documents and has not been touched for a while. Returns how many."""
        limit = time.time() - older_than.total_seconds()
        removed = 0
        for path in self.directory.glob("[0-9a-f]*") if self.directory.is_dir() else ():
            if path.is_file() and path.stem not in known and path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    @contextmanager
    def incoming(self, name: str, data: bytes) -> Iterator[Path]:
        """A temporary file of this name with this content, for an upload; removed afterwards.

        Raises:
            StorageError: the disk is full or not writable.
        """
        with storage_errors(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.directory)
        with folder as made:
            path = Path(made) / name
            with storage_errors(self.directory):
                path.write_bytes(data)
            yield path

    def _place(self, document_id: str) -> Path:
        if not _ID.fullmatch(document_id):
            raise NotFoundError("there is no such document")
        return self.directory / document_id

    @contextmanager
    def _write(self, place: Path) -> Iterator[Path]:
        temporary = place.with_suffix(".part")
        try:
            with storage_errors(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
                yield temporary
                temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Say what a failure to write into our own directory means."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"the disk of {directory} is full: free some space and run the command again; nothing already saved is lost"
            ) from error
        raise StorageError(
            f"{directory} cannot be written ({error.strerror}): give this account permission"
        ) from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        DocumentError: it cannot be read.
    """
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with target.open("wb") as copy:
        for block in _blocks(source):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    # Only reading is guarded here: a failure to write belongs to the target's disk.
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        while True:
            try:
                block = file.read(_BLOCK_BYTES)
            except OSError as error:
                raise _unreadable(path, error) from error
            if not block:
                return
            yield block


def _unreadable(path: Path, error: OSError) -> DocumentError:
    return DocumentError(f"{path.name} cannot be read ({error.strerror}): check its permissions")
