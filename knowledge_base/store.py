"""Documents and chunks in the database, the source of truth for everything that is searched or shown.

Knows nothing of files, models or indexes: it stores what it is given and hands it out. A document is replaced in one transaction
(row, chunks, full text, `index_version`), so that a crash leaves the old version or the new one, never a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from knowledge_base import tables as t
from knowledge_base.collection_store import CollectionStore, may_read
from knowledge_base.database import new_id, now
from knowledge_base.errors import NotFoundError
from knowledge_base.properties import (
    INDEX_VERSION,
    bump_index_version,
    check_embedder,
    get_property,
    require_embedder,
)
from knowledge_base.protocols import Ids, Vectors
from knowledge_base.records import Chunk, Document, DocumentText, NewChunk, NewDocument, Reader
from knowledge_base.rows import (
    FoundChunk,
    chunk_of,
    chunk_rows,
    found_chunk,
    section_of,
    storable,
    vectors_of,
)
from knowledge_base.schema import forget_deleted_words

_IDS_PER_QUERY = 500
_ROWS_PER_FETCH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """What is known of a document that a file might replace."""

    document_id: str
    content_hash: str
    pipeline_version: str


class KnowledgeStore(CollectionStore):
    """Collections, documents and chunks.

    Example:
        >>> from knowledge_base.database import Database
        >>> from knowledge_base.schema import create_schema
        >>> db = Database("sqlite://")
        >>> create_schema(db)
        >>> store = KnowledgeStore(db)
        >>> store.create_collection("leave").is_open, store.list_documents("leave")
        (True, [])
    """

    def list_documents(
        self, collection: str | None = None, *, reader: Reader | None = None
    ) -> list[Document]:
        """Documents by collection and path.

        Args:
            collection: Only of this one; None for all.
            reader: Only what this person may read; None for an administrator's view.

        Raises:
            NotFoundError: the collection does not exist, or the reader may not know of it.
        """
        names = None if collection is None else [collection]
        permitted = self.permitted_collections(reader or Reader(name="", reads_all=True), names)
        condition = t.documents.c.collection_id.in_([c.id for c in permitted])
        with self.db.read() as connection:
            return _documents(connection, condition)

    def get_document(self, document_id: str) -> Document:
        """One document.

        Raises:
            NotFoundError: no such document.
        """
        with self.db.read() as connection:
            found = _documents(connection, t.documents.c.id == document_id)
        if not found:
            raise _unknown_document()
        return found[0]

    def read_document(self, document_id: str, reader: Reader) -> DocumentText:
        """A document's text, when the reader may read its collection.

        Raises:
            NotFoundError: no such document, or it is not for this reader (the same message).
        """
        document = self.get_document(document_id)
        if not may_read(reader, self.get_collection(document.collection)):
            raise _unknown_document()
        query = sa.select(t.documents.c.text, t.documents.c.sections).where(t.documents.c.id == document_id)
        with self.db.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise _unknown_document()
        sections = tuple(section_of(fields) for fields in row.sections)
        return DocumentText(document=document, text=row.text, sections=sections)

    def stored_versions(self, collection_id: str) -> dict[str, StoredVersion]:
        """Path -> what is stored there."""
        d = t.documents.c
        query = sa.select(d.path, d.id, d.content_hash, d.pipeline_version).where(
            d.collection_id == collection_id
        )
        with self.db.read() as connection:
            return {
                row.path: StoredVersion(
                    document_id=row.id, content_hash=row.content_hash, pipeline_version=row.pipeline_version
                )
                for row in connection.execute(query)
            }

    def replace_document(
        self,
        collection_id: str,
        document: NewDocument,
        chunks: Sequence[NewChunk],
        embeddings: Vectors,
        *,
        embedder_version: str,
        new_document_id: str | None = None,
    ) -> Document:
        """Store a document with its chunks, in place of the one of the same path if there is one.

        The document keeps its id when replaced, so that links to it stay good; chunk ids are always new.

        Args:
            collection_id: Where it belongs.
            document: Its row.
            chunks: In reading order.
            embeddings: (n_chunks, dimension) float32 of unit length.
            embedder_version: Of the embeddings; must be that of all others stored.
            new_document_id: Its id if it is new; random when not given.

        Raises:
            NotFoundError: the collection was deleted meanwhile.
            EmbedderError: other vectors stored here come from another embedder.
            StorageError: the database cannot be written; the old version stays.
        """
        if len(embeddings) != len(chunks):
            raise ValueError(f"{len(chunks)} chunks but {len(embeddings)} embeddings")
        with self.db.write() as connection:
            _lock_collection(connection, collection_id)
            require_embedder(connection, embedder_version)
            document_id = _put_document(connection, collection_id, document, new_document_id or new_id())
            if chunks:
                connection.execute(t.chunks.insert(), chunk_rows(document_id, chunks, embeddings))
            bump_index_version(connection)
        return self.get_document(document_id)

    def delete_document(self, document_id: str) -> None:
        """Remove a document, its chunks and their places and words in the indexes.

        Raises:
            NotFoundError: no such document.
        """
        with self.db.write() as connection:
            removed = connection.execute(t.documents.delete().where(t.documents.c.id == document_id))
            if not removed.rowcount:
                raise _unknown_document()
            forget_deleted_words(connection)
            bump_index_version(connection)

    def find_chunks(self, ids: Sequence[int], collection_ids: Sequence[str]) -> dict[int, FoundChunk]:
        """The chunks of these ids that belong to these collections; what is gone is left out."""
        if not ids:
            return {}
        query = (
            sa.select(
                t.chunks, t.documents.c.path, t.documents.c.title,
                t.collections.c.name.label("collection"), t.collections.c.is_open,
            )
            .select_from(t.chunks.join(t.documents).join(t.collections))
            .where(t.chunks.c.id.in_(ids), t.collections.c.id.in_(collection_ids))
        )  # fmt: skip
        with self.db.read() as connection:
            return {row.id: found_chunk(row) for row in connection.execute(query)}

    def document_chunks(self, document_id: str) -> list[Chunk]:
        """A document's chunks in reading order."""
        query = sa.select(t.chunks).where(t.chunks.c.document_id == document_id).order_by(t.chunks.c.position)
        with self.db.read() as connection:
            return [chunk_of(row) for row in connection.execute(query)]

    def index_version(self) -> int:
        """Counts the changes to the chunks; equal numbers mean equal chunks."""
        return int(self.get_property(INDEX_VERSION) or 0)

    def chunk_ids(self) -> Ids:
        """All chunk ids in ascending order."""
        with self.db.read() as connection:
            found = connection.execute(sa.select(t.chunks.c.id)).scalars().all()
        return np.sort(np.asarray(found, dtype=np.int64))

    def embeddings(self, ids: Ids | None = None) -> Iterator[tuple[list[str], Ids, Vectors]]:
        """Vectors in batches: collection ids (n), chunk ids (n,), unit vectors (n, dimension).

        Args:
            ids: Only these chunks; None for all.
        """
        query = sa.select(t.documents.c.collection_id, t.chunks.c.id, t.chunks.c.embedding).select_from(
            t.chunks.join(t.documents)
        )
        if ids is None:
            with self.db.read() as connection:
                found = connection.execution_options(yield_per=_ROWS_PER_FETCH).execute(query)
                for rows in found.partitions():
                    yield vectors_of(rows)
            return
        for start in range(0, len(ids), _IDS_PER_QUERY):
            some = [int(i) for i in ids[start : start + _IDS_PER_QUERY]]
            with self.db.read() as connection:
                rows = connection.execute(query.where(t.chunks.c.id.in_(some))).all()
            if rows:
                yield vectors_of(rows)

    def check_embedder(self, version: str) -> None:
        """Refuse an embedder whose vectors must not be mixed with those stored.

        Raises:
            EmbedderError: saying what to do.
        """
        with self.db.read() as connection:
            check_embedder(connection, version)

    def get_property(self, name: str) -> str | None:
        """A stored property, or None."""
        with self.db.read() as connection:
            return get_property(connection, name)


def _lock_collection(connection: Connection, collection_id: str) -> None:
    # On PostgreSQL two ingests into one collection take turns here; SQLite has one writer anyway.
    held = sa.select(t.collections.c.id).where(t.collections.c.id == collection_id).with_for_update()
    if connection.execute(held).first() is None:
        raise NotFoundError("the collection was deleted meanwhile: create it again and repeat the ingest")


def _put_document(connection: Connection, collection_id: str, document: NewDocument, document_id: str) -> str:
    d = t.documents.c
    at = now()
    row = {
        "title": storable(document.title), "media_type": document.media_type, "content_hash": document.content_hash,
        "size_bytes": document.size_bytes, "text": storable(document.text), "metadata": document.metadata,
        "sections": [asdict(section) for section in document.sections],
        "pipeline_version": document.pipeline_version, "updated_at": at,
    }  # fmt: skip
    same = sa.select(d.id).where(d.collection_id == collection_id, d.path == document.path)
    existing = connection.execute(same).scalar()
    if existing is None:
        row |= {"id": document_id, "collection_id": collection_id, "path": document.path, "created_at": at}
        connection.execute(t.documents.insert().values(row))
        return document_id
    connection.execute(t.chunks.delete().where(t.chunks.c.document_id == existing))
    connection.execute(t.documents.update().where(d.id == existing).values(row))
    return str(existing)


def _documents(connection: Connection, condition: sa.ColumnElement[bool]) -> list[Document]:
    d = t.documents.c
    n_chunks = (
        sa.select(sa.func.count())
        .where(t.chunks.c.document_id == d.id)
        .correlate(t.documents)
        .scalar_subquery()
    )
    query = (
        sa.select(
            d.id, d.collection_id, t.collections.c.name.label("collection"), d.path, d.title, d.media_type,
            d.content_hash, d.size_bytes, n_chunks.label("n_chunks"), d.created_at, d.updated_at,
        )
        .select_from(t.documents.join(t.collections))
        .where(condition)
        .order_by(t.collections.c.name, d.path)
    )  # fmt: skip
    return [Document(**fields) for fields in connection.execute(query).mappings()]


def _unknown_document() -> NotFoundError:
    return NotFoundError("there is no such document that you may read: see `tacit documents list`")
