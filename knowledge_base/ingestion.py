"""Files in, searchable documents out: load, chunk, embed, store, one committed document after another.

An ingest can be repeated at will: a file whose bytes and whose pipeline are those of the stored document is skipped, a changed one
replaces its document, and one that fails leaves the stored version as it was. Killed at any moment, it loses nothing that was
counted, and the next run goes on where it stopped. Knows nothing of formats, queries or people.

Different from the textbook: chunks of several documents are embedded together, because the embedder is fastest on full batches; but
each document is committed by itself. What is embedded is `title > heading`, a line break, and the text: a chunk taken out of its
document often does not say what it is about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath

import structlog

from knowledge_base.chunker import ChunkerSettings, chunk_document
from knowledge_base.database import new_id
from knowledge_base.enrichment import enriched, heading_of
from knowledge_base.errors import DocumentError, NotFoundError, UsageError
from knowledge_base.ingest_tally import IngestTally, ProgressCallback
from knowledge_base.loaders.detection import FAMILIES
from knowledge_base.loaders.dispatch import check_file
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.process import LoaderProcess
from knowledge_base.protocols import Embedder, Vectors
from knowledge_base.records import (
    ChunkDraft,
    Collection,
    Document,
    IngestReport,
    NewChunk,
    NewDocument,
    ParsedDocument,
)
from knowledge_base.rows import storable
from knowledge_base.sentence_vectors import ChunkText, SentenceVectors
from knowledge_base.source_files import SourceFiles, file_sha256
from knowledge_base.source_walk import SourceFile, SourceList, find_sources, printable
from knowledge_base.store import KnowledgeStore, StoredVersion

log = structlog.get_logger(__name__)

PIPELINE_REVISION = "1"
"""Raise it whenever loaders, chunker or `enrichment.py` make something else of the same bytes: the next ingest then takes every file
in again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionSettings:
    """How documents are taken in."""

    chunks_per_batch: int = 256
    """Chunks gathered, from one or more documents, before the embedder runs."""

    def __post_init__(self) -> None:
        if self.chunks_per_batch < 1:
            raise ValueError(f"chunks_per_batch is {self.chunks_per_batch}: it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A document that only lacks its vectors."""

    source: SourceFile
    document_id: str
    is_new: bool
    document: NewDocument
    chunks: tuple[NewChunk, ...]


class Ingestor:
    """Takes documents in and out of the store, together with their original files."""

    def __init__(
        self,
        store: KnowledgeStore,
        embedder: Embedder,
        files: SourceFiles,
        *,
        limits: LoadLimits | None = None,
        chunker: ChunkerSettings | None = None,
        settings: IngestionSettings | None = None,
        sentences: SentenceVectors | None = None,
    ) -> None:
        """Put the parts together; nothing is loaded yet."""
        self._store = store
        self._embedder = embedder
        self._files = files
        self._limits = limits or LoadLimits()
        self._chunker = chunker or ChunkerSettings()
        self._settings = settings or IngestionSettings()
        self._sentences = sentences

    @property
    def pipeline_version(self) -> str:
        """Names everything besides the bytes that shapes a document's chunks and vectors."""
        chunking = hashlib.sha256(json.dumps(asdict(self._chunker), sort_keys=True).encode()).hexdigest()[:8]
        return f"{PIPELINE_REVISION}/{chunking}/{self._embedder.version}"

    def ingest(
        self,
        paths: Sequence[Path],
        collection: str,
        *,
        groups: Iterable[str] | None = None,
        progress: ProgressCallback | None = None,
    ) -> IngestReport:
        """Take in files and folders.

        Args:
            paths: Files and folders; a document's path is relative to the folder named.
            collection: Its name; created when it does not exist.
            groups: Who may read a collection created now; None opens it to all. One that exists keeps its rule.
            progress: Called after each file, in this thread; what it raises ends the ingest between two documents.

        Raises:
            UsageError: a path does not exist, the collection's name is not valid, or it exists with other groups than those given.
            StorageError: the database or the disk cannot be written; everything committed before stays.
            EmbedderError: the embedder cannot be loaded, or the store holds another one's vectors.
        """
        sources = find_sources(paths, FAMILIES)
        self._store.check_embedder(self._embedder.version)
        into = self._collection_for(collection, None if groups is None else frozenset(groups))
        return self._run(into, sources, progress)

    def ingest_upload(self, name: str, data: bytes, collection: str) -> IngestReport:
        """Take in one file's content, as sent by a browser or program.

        Args:
            name: The file's name; folders in it are dropped.
            data: Its bytes.
            collection: An existing collection's name.

        Raises:
            UsageError: the name cannot be a document's.
            NotFoundError: no such collection.
            StorageError: as `ingest`.
            EmbedderError: as `ingest`.
        """
        safe = _upload_name(name)
        self._store.check_embedder(self._embedder.version)
        into = self._store.get_collection(collection)
        with self._files.incoming(safe, data) as path:
            sources = SourceList(files=(SourceFile(file=path, path=safe, size_bytes=len(data)),), failed=())
            return self._run(into, sources, None)

    def delete_document(self, document_id: str) -> None:
        """Remove a document and its original.

        Raises:
            NotFoundError: no such document.
        """
        self._store.delete_document(document_id)
        self._files.remove(document_id)

    def delete_collection(self, name: str) -> int:
        """Remove a collection with its documents and their originals. Returns how many documents there were.

        Raises:
            NotFoundError: no such collection.
        """
        document_ids = self._store.delete_collection(name)
        for document_id in document_ids:
            self._files.remove(document_id)
        return len(document_ids)

    def sweep_files(self, older_than: timedelta = timedelta(days=1)) -> int:
        """Remove originals whose document is gone, left by a crash between the two. Returns how many.

        Younger files are spared: another process may be about to commit their documents.
        """
        known = {document.id for document in self._store.list_documents()}
        return self._files.remove_others(known, older_than=older_than)

    def _collection_for(self, name: str, groups: frozenset[str] | None) -> Collection:
        try:
            existing = self._store.get_collection(name)
        except NotFoundError:
            return self._store.create_collection(name, groups=groups)
        if groups is not None and (existing.is_open or existing.groups != groups):
            rule = (
                "open to all" if existing.is_open else f"for {', '.join(sorted(existing.groups)) or 'nobody'}"
            )
            # Going on would publish documents to people whom the caller meant to keep out.
            raise UsageError(
                f"collection {name!r} exists and is {rule}: leave the groups out, or change them with `tacit collections grant|revoke`"
            )
        return existing

    def _run(self, into: Collection, sources: SourceList, progress: ProgressCallback | None) -> IngestReport:
        tally = IngestTally(sources=sources, progress=progress)
        versions = self._store.stored_versions(into.id)
        waiting: list[_Prepared] = []
        with LoaderProcess(self._limits) as loader:
            for source in sources.files:
                try:
                    prepared = self._prepare(loader, source, versions.get(source.path))
                except DocumentError as error:
                    tally.fail(source, error)
                    continue
                if prepared is None:
                    tally.skip(source)
                    continue
                waiting.append(prepared)
                if sum(len(p.chunks) for p in waiting) >= self._settings.chunks_per_batch:
                    self._embed_and_commit(into, waiting, tally)
                    waiting = []
        self._embed_and_commit(into, waiting, tally)
        report = tally.report()
        log.info(
            "ingested", collection=into.name, documents=report.documents, chunks=report.chunks, skipped=report.skipped,
            failed=len(report.failed), seconds=report.seconds,
        )  # fmt: skip
        return report

    def _prepare(
        self, loader: LoaderProcess, source: SourceFile, stored: StoredVersion | None
    ) -> _Prepared | None:
        """Load and chunk a file; None when what is stored is the same."""
        check_file(source.file, self._limits)
        content_hash = file_sha256(source.file)
        version = self.pipeline_version
        if (
            stored is not None
            and (stored.content_hash, stored.pipeline_version) == (content_hash, version)
            and self._files.has(stored.document_id)
        ):
            return None
        parsed = loader.load(source.file)
        title = parsed.title.strip() or Path(source.path).stem
        drafts = chunk_document(parsed, self._embedder.count_tokens, self._chunker)
        if not drafts:
            raise DocumentError(f"{source.file.name} holds no text: nothing of it could be found")
        return _Prepared(
            source=source,
            document_id=stored.document_id if stored else new_id(),
            is_new=stored is None,
            document=_new_document(source, parsed, title, content_hash, version),
            chunks=tuple(_new_chunk(draft, title) for draft in drafts),
        )

    def _embed_and_commit(self, into: Collection, waiting: Sequence[_Prepared], tally: IngestTally) -> None:
        if not waiting:
            return
        vectors = self._embedder.encode(
            [enriched(p.document.title, chunk.heading, chunk.text) for p in waiting for chunk in p.chunks]
        )
        start = 0
        for prepared in waiting:
            end = start + len(prepared.chunks)
            try:
                self._commit(into, prepared, vectors[start:end])
            except DocumentError as error:
                tally.fail(prepared.source, error)
            else:
                tally.stored(prepared.source, len(prepared.chunks))
            start = end

    def _commit(self, into: Collection, prepared: _Prepared, vectors: Vectors) -> None:
        # The original goes first: after a crash here the hash of the row is still the old one, so the next run repairs it. The
        # other way round the next run would skip a document whose original is missing.
        self._files.keep(
            prepared.document_id, prepared.source.file, content_hash=prepared.document.content_hash
        )
        try:
            stored = self._store.replace_document(
                into.id, prepared.document, prepared.chunks, vectors,
                embedder_version=self._embedder.version, new_document_id=prepared.document_id,
            )  # fmt: skip
        except BaseException:
            if prepared.is_new:
                self._files.remove(prepared.document_id)
            raise
        if stored.id != prepared.document_id:
            # Another process stored the same path meanwhile, under its own id; that one counts.
            self._files.move(prepared.document_id, stored.id)
        self._read_sentences(stored)

    def _read_sentences(self, document: Document) -> None:
        """Ahead of the first question; a crash before this costs that question some time and nothing else."""
        if self._sentences is not None:
            self._sentences.read(
                [
                    ChunkText(chunk_id=chunk.id, title=document.title, heading=chunk.heading, text=chunk.text)
                    for chunk in self._store.document_chunks(document.id)
                ]
            )


def _new_document(
    source: SourceFile, parsed: ParsedDocument, title: str, content_hash: str, version: str
) -> NewDocument:
    return NewDocument(
        path=source.path, title=storable(title), media_type=parsed.media_type, content_hash=content_hash,
        size_bytes=source.size_bytes, text=parsed.text, sections=parsed.sections, metadata=parsed.metadata,
        pipeline_version=version,
    )  # fmt: skip


def _new_chunk(draft: ChunkDraft, title: str) -> NewChunk:
    return NewChunk(
        text=draft.text, start=draft.start, end=draft.end, heading=heading_of(draft.heading_path, title),
        page=draft.page, n_tokens=draft.n_tokens,
    )  # fmt: skip


def _upload_name(name: str) -> str:
    safe = PurePosixPath(name.replace("\\", "/")).name.strip()
    if (
        not safe
        or safe.startswith(".")
        or len(safe.encode("utf-8", "replace")) > 200
        or not safe.isprintable()
    ):
        raise UsageError(
            f"{printable(name[:80])!r} cannot be a document's name: give a visible name of at most 200 bytes"
        )
    return safe
