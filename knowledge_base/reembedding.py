"""Embeds all stored chunks anew, when another embedder is configured. Needs no original files: the chunks' texts are stored.

The old vectors serve until the new ones are complete; the switch is one transaction. Chunks keep their bounds, which were measured in
the former embedder's tokens; the next ingest cuts the documents that it is given anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from knowledge_base import tables as t
from knowledge_base.database import Database
from knowledge_base.enrichment import enriched
from knowledge_base.properties import EMBEDDER_VERSION, bump_index_version, set_property
from knowledge_base.protocols import Embedder, Vectors
from knowledge_base.rows import embedding_bytes

log = structlog.get_logger(__name__)

_CHUNKS_PER_BATCH = 256


def reembed(db: Database, embedder: Embedder, *, progress: Callable[[int, int], None] | None = None) -> int:
    """Replace every stored vector by this embedder's.

    Args:
        db: The database.
        embedder: The one configured now.
        progress: Called with chunks done and chunks known.

    Returns:
        How many chunks were embedded.

    Raises:
        EmbedderError: the embedder cannot be loaded.
        StorageError: the database cannot be written; the old vectors stay.
    """
    vectors: dict[int, Vectors] = {}
    while True:
        with db.read() as connection:
            missing = sorted(_ids(connection) - vectors.keys())
        for start in range(0, len(missing), _CHUNKS_PER_BATCH):
            vectors.update(_embed(db, embedder, missing[start : start + _CHUNKS_PER_BATCH]))
            if progress is not None:
                progress(len(vectors), max(len(vectors), len(missing)))
        with db.write() as connection:
            stored = _ids(connection)
            # An ingest may have committed since: its chunks are embedded too before the switch.
            if stored <= vectors.keys():
                _switch(connection, embedder.version, {i: vectors[i] for i in stored})
                break
    log.info("embedded anew", embedder=embedder.version, chunks=len(stored))
    return len(stored)


def _ids(connection: Connection) -> set[int]:
    return set(connection.execute(sa.select(t.chunks.c.id)).scalars())


def _embed(db: Database, embedder: Embedder, ids: list[int]) -> dict[int, Vectors]:
    query = (
        sa.select(t.chunks.c.id, t.documents.c.title, t.chunks.c.heading, t.chunks.c.text)
        .select_from(t.chunks.join(t.documents))
        .where(t.chunks.c.id.in_(ids))
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    encoded = embedder.encode([enriched(row.title, row.heading, row.text) for row in rows])
    return {row.id: np.asarray(vector) for row, vector in zip(rows, encoded, strict=True)}


def _switch(connection: Connection, version: str, vectors: dict[int, Vectors]) -> None:
    if vectors:
        update = (
            t.chunks.update()
            .where(t.chunks.c.id == sa.bindparam("chunk_id"))
            .values(embedding=sa.bindparam("vector"))
        )
        rows = [{"chunk_id": i, "vector": embedding_bytes(vector)} for i, vector in vectors.items()]
        connection.execute(update, rows)
    set_property(connection, EMBEDDER_VERSION, version)
    bump_index_version(connection)
