"""Single values that belong to the whole store: the version of the index, the embedder of the vectors.

Each is changed inside the transaction that makes it true. Knows nothing of documents beyond whether there are any chunks.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from knowledge_base import tables as t
from knowledge_base.errors import EmbedderError

INDEX_VERSION = "index_version"
"""Property that counts the changes to the chunks; raised in the transaction that makes them."""

EMBEDDER_VERSION = "embedder_version"
"""Property that names the embedder of all stored vectors."""


def get_property(connection: Connection, name: str) -> str | None:
    """A stored property, or None."""
    value = connection.execute(sa.select(t.properties.c.value).where(t.properties.c.name == name)).scalar()
    return None if value is None else str(value)


def bump_index_version(connection: Connection) -> None:
    """Tell running servers that chunks changed; part of the transaction that changes them."""
    connection.execute(
        sa.text(
            "INSERT INTO properties (name, value) VALUES (:name, '1') ON CONFLICT (name) "
            "DO UPDATE SET value = CAST(CAST(properties.value AS BIGINT) + 1 AS TEXT)"
        ),
        {"name": INDEX_VERSION},
    )


def check_embedder(connection: Connection, version: str) -> None:
    """Refuse an embedder other than that of the vectors stored.

    Raises:
        EmbedderError: there are vectors, by another embedder.
    """
    stored = get_property(connection, EMBEDDER_VERSION)
    if stored in (None, version):
        return
    if connection.execute(sa.select(t.chunks.c.id).limit(1)).first() is not None:
        raise wrong_embedder(str(stored), version)


def require_embedder(connection: Connection, version: str) -> None:
    """Record the embedder of the first vectors; refuse those of another."""
    check_embedder(connection, version)
    set_property(connection, EMBEDDER_VERSION, version)


def wrong_embedder(stored: str, used: str) -> EmbedderError:
    """The error for vectors of two embedders in one store."""
    return EmbedderError(
        f"the documents were embedded with {stored}, but {used} is configured: "
        "configure the former again, or run `tacit reembed` to embed everything with the latter"
    )


def set_property(connection: Connection, name: str, value: str) -> None:
    """Store a property."""
    connection.execute(
        sa.text(
            "INSERT INTO properties (name, value) VALUES (:name, :value) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        ),
        {"name": name, "value": value},
    )
