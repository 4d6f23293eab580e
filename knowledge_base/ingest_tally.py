"""Counts what an ingest does and estimates how long it still takes. Knows nothing of how files are read or stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from knowledge_base.errors import DocumentError
from knowledge_base.records import IngestFailure, IngestProgress, IngestReport
from knowledge_base.source_walk import SourceFile, SourceList

log = structlog.get_logger(__name__)

ProgressCallback = Callable[[IngestProgress], None]


@dataclass(slots=True, kw_only=True)
class IngestTally:
    """What an ingest has done so far."""

    sources: SourceList
    progress: ProgressCallback | None
    started: float = field(default_factory=time.monotonic)
    documents: int = 0
    chunks: int = 0
    skipped: int = 0
    finished: int = 0
    worked_bytes: int = 0
    left_bytes: int = 0
    failed: list[IngestFailure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.failed.extend(self.sources.failed)
        self.left_bytes = sum(source.size_bytes for source in self.sources.files)

    def stored(self, source: SourceFile, n_chunks: int) -> None:
        """Count a document that was committed."""
        self.documents += 1
        self.chunks += n_chunks
        self.worked_bytes += source.size_bytes
        self._finish(source)

    def skip(self, source: SourceFile) -> None:
        """Count a file that is stored already."""
        # Not counted as worked: files skipped in no time would make the estimate of the others far too short.
        self.skipped += 1
        self._finish(source)

    def fail(self, source: SourceFile, error: DocumentError) -> None:
        """Count a file that was not taken in, with the reason."""
        log.warning("document failed", path=source.path, error=str(error))
        self.failed.append(IngestFailure(path=source.path, error=str(error)))
        self.worked_bytes += source.size_bytes
        self._finish(source)

    def _finish(self, source: SourceFile) -> None:
        self.finished += 1
        self.left_bytes -= source.size_bytes
        if self.progress is None:
            return
        eta = None
        if self.worked_bytes:
            eta = (time.monotonic() - self.started) * self.left_bytes / self.worked_bytes
        total = len(self.sources.files)
        self.progress(IngestProgress(done=self.finished, total=total, eta_seconds=eta, path=source.path))

    def report(self) -> IngestReport:
        """The report of what was counted, so far."""
        return IngestReport(
            documents=self.documents, chunks=self.chunks, skipped=self.skipped, failed=tuple(self.failed),
            seconds=round(time.monotonic() - self.started, 3),
        )  # fmt: skip
