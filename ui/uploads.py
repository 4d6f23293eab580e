"""Files that an admin uploads: taken in at once, ingested by the worker, so that no page waits for parsing.

Knows nothing of formats; the loaders judge the file later and the job carries their verdict. Different from Gradio's own upload: the
file never lies in a cache that every signed-in person can read.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from chatbot.audit import AuditLog
from knowledge_base.database import new_id
from knowledge_base.errors import StorageError, UsageError
from knowledge_base.jobs import JobQueue
from knowledge_base.records import Job
from knowledge_base.store import KnowledgeStore

INGEST_JOB = "ingest"
_BLOCK = 1 << 20


class Uploads:
    """Accepts files and queues their ingest."""

    def __init__(
        self, directory: Path, jobs: JobQueue, knowledge: KnowledgeStore, audit: AuditLog, *, max_bytes: int
    ) -> None:
        """Keep waiting files in `directory`."""
        self._directory = directory
        self._jobs = jobs
        self._knowledge = knowledge
        self._audit = audit
        self._max_bytes = max_bytes

    def accept(self, *, name: str, stream: IO[bytes], collection: str, actor: str) -> Job:
        """Save the file and queue its ingest.

        Args:
            name: As the browser gave it; only its last part is used.
            stream: The bytes.
            collection: An existing collection.
            actor: Who uploads.

        Raises:
            NotFoundError: there is no such collection.
            UsageError: the file has no name or is too large.
            StorageError: it cannot be saved.
        """
        clean = safe_name(name)
        self._knowledge.get_collection(collection)
        upload_id = new_id()
        path = self.path(upload_id)
        try:
            self._save(stream, path)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageError(
                f"the upload cannot be saved: {error.strerror}; free some space and try again"
            ) from error
        except UsageError:
            path.unlink(missing_ok=True)
            raise
        job = self._jobs.enqueue(
            INGEST_JOB, {"upload": upload_id, "name": clean, "collection": collection, "actor": actor}
        )
        self._audit.record(actor, "document.upload", clean, collection=collection, job=job.id)
        return job

    def path(self, upload_id: str) -> Path:
        """Where a waiting file lies."""
        return self._directory / upload_id

    def discard(self, upload_id: str) -> None:
        """Forget a file that has been ingested or refused."""
        with contextlib.suppress(FileNotFoundError):
            self.path(upload_id).unlink()

    def _save(self, stream: IO[bytes], path: Path) -> None:
        size = 0
        with path.open("xb") as out:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > self._max_bytes:
                    raise UsageError(
                        f"the file is larger than {self._max_bytes / 1e6:.0f} MB: split it, or raise server.max_upload_bytes"
                    )
                out.write(block)
            out.flush()
            # The browser is told that the file is safe: it must be on the disk by then.
            os.fsync(out.fileno())


def safe_name(name: str) -> str:
    r"""The last part of a file name, whatever the browser's system.

    Raises:
        UsageError: nothing usable is left.

    >>> safe_name("C:\\docs\\Leave.pdf"), safe_name("../../etc/passwd")
    ('Leave.pdf', 'passwd')
    """
    last = PurePosixPath(PureWindowsPath(name).name).name.strip()
    if not last or last in {".", ".."} or "\x00" in last or len(last) > 200:
        raise UsageError("the file needs a name of 1 to 200 characters")
    return last
