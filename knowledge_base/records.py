"""The vocabulary of the knowledge base: what is stored, and what retrieval hands out. Frozen values, no behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A stretch of a parsed document's text under one heading (and, for PDF, on one page)."""

    start: int
    """Offset of the first character in `ParsedDocument.text`."""
    end: int
    """Offset after the last character. Sections are in order, do not overlap, and cover the text without gaps."""
    heading_path: tuple[str, ...]
    """Headings from the outermost to the innermost; empty before the first heading."""
    page: int | None = None
    """Page number, counted from 1; None where the format has no pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """What a loader makes of one file: clean text (no markup that a reader would not see) and its structure."""

    title: str
    text: str
    sections: tuple[Section, ...]
    media_type: str
    """`text/markdown`, `text/plain`, `text/html`, `application/pdf` or the DOCX type."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Front matter and document properties that JSON can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkDraft:
    """A chunk before it is stored. `text == parsed.text[start:end]`."""

    text: str
    start: int
    end: int
    heading_path: tuple[str, ...]
    page: int | None
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A person asking, with the groups that decide what they may read."""

    name: str
    groups: frozenset[str] = frozenset()
    reads_all: bool = False
    """Only for the operator at the command line, who can read the files anyway; never for a signed-in person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A named set of documents with one access rule."""

    id: str
    name: str
    title: str
    owner: str
    """Whom to ask when the documents hold no answer; may be empty."""
    is_open: bool
    """Every employee may read it. Only open collections are ever trained on."""
    groups: frozenset[str]
    """Who may read it when it is not open."""
    created_at: datetime
    n_documents: int = 0
    n_chunks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One ingested file."""

    id: str
    collection_id: str
    collection: str
    path: str
    """Relative to the folder that was ingested, with forward slashes; unique within the collection."""
    title: str
    media_type: str
    content_hash: str
    """SHA-256 of the file's bytes."""
    size_bytes: int
    n_chunks: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A stored slice of a document."""

    id: int
    document_id: str
    position: int
    text: str
    start: int
    end: int
    heading: str
    """Heading path joined by ` > `, without the title."""
    page: int | None
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk as retrieved for a question."""

    chunk_id: int
    document_id: str
    document: str
    """The document's path."""
    title: str
    collection: str
    collection_is_open: bool
    heading: str
    page: int | None
    text: str
    start: int
    """Offset in the document's text, for opening the document at the place."""
    end: int
    score: float
    """Fused score; comparable within one retrieval only."""
    similarity: float
    """Cosine of the question and the chunk, in [-1, 1]; comparable between retrievals by the same embedder."""
    rank: int
    """Counts from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestFailure:
    """A file that was not ingested, and the one line that says why."""

    path: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    documents: int
    """Documents added or replaced."""
    chunks: int
    """Chunks written."""
    skipped: int
    """Files unchanged since the last ingest."""
    failed: Sequence[IngestFailure]
    seconds: float


JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A unit of background work; the database is the queue."""

    id: str
    kind: str
    payload: dict[str, Any]
    state: JobState
    attempts: int
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None
    claimed_by: str | None
    progress: dict[str, Any]
    """`{"stage": str, "done": n, "total": n, "eta_seconds": s, "note": str}`; keys may be missing."""
    result: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document about to be stored: what `KnowledgeStore.replace_document` needs beside the chunks."""

    path: str
    """Relative, with forward slashes; replaces a document of the same path in the same collection."""
    title: str
    media_type: str
    content_hash: str
    """SHA-256 of the file's bytes."""
    size_bytes: int
    text: str
    sections: tuple[Section, ...]
    metadata: dict[str, Any]
    pipeline_version: str
    """Names everything that shaped the chunks; a difference means ingesting again although the bytes are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChunk:
    """A chunk about to be stored; its position is its place in the sequence."""

    text: str
    start: int
    end: int
    heading: str
    page: int | None
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentText:
    """A document with its whole text, for the source viewer."""

    document: Document
    text: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProgress:
    """How far an ingest has come; reported after each file."""

    done: int
    """Files finished: stored, skipped or failed."""
    total: int
    eta_seconds: float | None
    """Estimated seconds left; None before there is anything to estimate from."""
    path: str
    """The file just finished."""
