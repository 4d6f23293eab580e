"""Between rows and records: how chunks, vectors and sections lie in the database. Knows no queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.engine import Row

from knowledge_base.protocols import Ids, Vectors
from knowledge_base.records import Chunk, NewChunk, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChunk:
    """A chunk with what a passage says of its document."""

    chunk: Chunk
    document: str
    title: str
    collection: str
    collection_is_open: bool
    embedding: Vectors


def storable(text: str) -> str:
    r"""The text without what a database refuses, every character still at its place: NUL becomes a space, lone surrogates `?`.

    >>> storable("a\0b")
    'a b'
    """
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def embedding_bytes(vector: Vectors) -> bytes:
    """A vector as the `embedding` column holds it: little-endian float32."""
    return bytes(vector.astype("<f4").tobytes())


def chunk_rows(document_id: str, chunks: Sequence[NewChunk], embeddings: Vectors) -> list[dict[str, object]]:
    """Rows for the `chunks` table."""
    return [
        {
            "document_id": document_id, "position": position, "text": storable(chunk.text), "start_offset": chunk.start,
            "end_offset": chunk.end, "heading": storable(chunk.heading), "page": chunk.page, "n_tokens": chunk.n_tokens,
            "embedding": embedding_bytes(vector),
        }
        for position, (chunk, vector) in enumerate(zip(chunks, embeddings, strict=True))
    ]  # fmt: skip


def chunk_of(row: Row[Any]) -> Chunk:
    """A chunk from a row of the `chunks` table."""
    return Chunk(
        id=row.id, document_id=row.document_id, position=row.position, text=row.text, start=row.start_offset,
        end=row.end_offset, heading=row.heading, page=row.page, n_tokens=row.n_tokens,
    )  # fmt: skip


def found_chunk(row: Row[Any]) -> FoundChunk:
    """A chunk from a row joined with its document and collection."""
    return FoundChunk(
        chunk=chunk_of(row), document=row.path, title=row.title, collection=row.collection,
        collection_is_open=row.is_open, embedding=np.frombuffer(row.embedding, dtype="<f4"),
    )  # fmt: skip


def vectors_of(rows: Sequence[Row[str, int, bytes]]) -> tuple[list[str], Ids, Vectors]:
    """Collection ids, chunk ids (n,) and vectors (n, dimension) from rows of (collection id, chunk id, bytes)."""
    vectors = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4").reshape(len(rows), -1)
    return [row[0] for row in rows], np.asarray([row[1] for row in rows], dtype=np.int64), vectors


def section_of(fields: dict[str, object]) -> Section:
    """A section from its JSON form."""
    return Section(
        start=int(str(fields["start"])),
        end=int(str(fields["end"])),
        heading_path=tuple(str(h) for h in _list(fields["heading_path"])),
        page=None if fields["page"] is None else int(str(fields["page"])),
    )


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else []
