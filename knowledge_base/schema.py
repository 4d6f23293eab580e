"""Creates the tables, and the full-text parts that SQLAlchemy cannot describe: FTS5 on SQLite, tsvector on PostgreSQL.

The full-text copy of a chunk is written and removed by triggers in the database itself, so that it can never disagree with the
chunks: a cascade from a deleted collection and a crash between two statements both keep it right. This module
knows nothing of queries; `lexical.py` asks them.

Different from the textbook: the id of the chunk's collection is indexed as a word of its own column, so that the access filter is
part of the full-text query and never a sieve applied after ranks were cut.

Migrations call `create_lexical_schema` and `drop_lexical_schema`; both can be repeated safely.
"""

from __future__ import annotations

from sqlalchemy.engine import Connection

import knowledge_base.tables  # noqa: F401 -- declares the tables on the metadata
from knowledge_base.database import Database, metadata

FTS5_TOKENIZER = "porter unicode61 remove_diacritics 2"
"""With stemming; see `lexical.py` for what it was chosen on."""

_SQLITE_CREATE = (
    f"""
    CREATE VIRTUAL TABLE IF NOT EXISTS chunks_fts
    USING fts5(title, heading, text, collection, tokenize = '{FTS5_TOKENIZER}')
    """,
    """
    CREATE TRIGGER IF NOT EXISTS chunks_fts_insert AFTER INSERT ON chunks BEGIN
        INSERT INTO chunks_fts (rowid, title, heading, text, collection)
        SELECT new.id, documents.title, new.heading, new.text, documents.collection_id
        FROM documents WHERE documents.id = new.document_id;
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS chunks_fts_delete AFTER DELETE ON chunks BEGIN
        DELETE FROM chunks_fts WHERE rowid = old.id;
    END
    """,
)
_SQLITE_DROP = (
    "DROP TRIGGER IF EXISTS chunks_fts_insert",
    "DROP TRIGGER IF EXISTS chunks_fts_delete",
    "DROP TABLE IF EXISTS chunks_fts",
)

# Everything but letters and digits becomes a space, because PostgreSQL's parser would keep `leave/absence` as one file name.
# Collection ids need no own word here: they are a plain column beside the vector.
_POSTGRES_CREATE = (
    r"""
    CREATE OR REPLACE FUNCTION tacit_words(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT regexp_replace(
            regexp_replace(normalize(value, NFD), '[\u0300-\u036f]', '', 'g'), '[^[:alnum:]]+', ' ', 'g'
        )
    $$
    """,
    """
    CREATE TABLE IF NOT EXISTS chunk_words (
        chunk_id bigint PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
        collection_id varchar(32) NOT NULL,
        words tsvector NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS ix_chunk_words_words ON chunk_words USING gin (words)",
    """
    CREATE OR REPLACE FUNCTION tacit_index_chunk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO chunk_words (chunk_id, collection_id, words)
        SELECT new.id, documents.collection_id,
            setweight(to_tsvector('english', tacit_words(documents.title)), 'A')
            || setweight(to_tsvector('english', tacit_words(new.heading)), 'B')
            || setweight(to_tsvector('english', tacit_words(new.text)), 'D')
        FROM documents WHERE documents.id = new.document_id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE OR REPLACE TRIGGER chunk_words_insert AFTER INSERT ON chunks
    FOR EACH ROW EXECUTE FUNCTION tacit_index_chunk()
    """,
)
_POSTGRES_DROP = (
    "DROP TRIGGER IF EXISTS chunk_words_insert ON chunks",
    "DROP FUNCTION IF EXISTS tacit_index_chunk",
    "DROP TABLE IF EXISTS chunk_words",
    "DROP FUNCTION IF EXISTS tacit_words",
)


def create_schema(db: Database) -> None:
    """Create every table declared so far on the shared metadata, and the full-text parts; what exists is left alone.

    For tests and throw-away homes. A home that is meant to be upgraded is created by its migrations.

    Raises:
        StorageError: the database cannot be written.
    """
    with db.write() as connection:
        metadata.create_all(connection)
        create_lexical_schema(connection)


def create_lexical_schema(connection: Connection) -> None:
    """Create the full-text table and its triggers; needs the `documents` and `chunks` tables."""
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _SQLITE_CREATE if is_sqlite else _POSTGRES_CREATE:
        connection.exec_driver_sql(statement)


def drop_lexical_schema(connection: Connection) -> None:
    """Remove what `create_lexical_schema` made."""
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _SQLITE_DROP if is_sqlite else _POSTGRES_DROP:
        connection.exec_driver_sql(statement)


def forget_deleted_words(connection: Connection) -> None:
    """Take the words of deleted chunks out of the full-text index, which only marks them as gone until it is merged.

    Takes time with the size of the whole index: for deletions by people, not for an ingest.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO chunks_fts (chunks_fts) VALUES ('optimize')")


def fill_lexical_schema(connection: Connection) -> None:
    """Index all chunks afresh; for a migration that changes how words are indexed."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("DELETE FROM chunks_fts")
        connection.exec_driver_sql(
            "INSERT INTO chunks_fts (rowid, title, heading, text, collection) "
            "SELECT chunks.id, documents.title, chunks.heading, chunks.text, documents.collection_id "
            "FROM chunks JOIN documents ON documents.id = chunks.document_id"
        )
        return
    connection.exec_driver_sql("DELETE FROM chunk_words")
    connection.exec_driver_sql(
        "INSERT INTO chunk_words (chunk_id, collection_id, words) "
        "SELECT chunks.id, documents.collection_id, "
        "setweight(to_tsvector('english', tacit_words(documents.title)), 'A') "
        "|| setweight(to_tsvector('english', tacit_words(chunks.heading)), 'B') "
        "|| setweight(to_tsvector('english', tacit_words(chunks.text)), 'D') "
        "FROM chunks JOIN documents ON documents.id = chunks.document_id"
    )
