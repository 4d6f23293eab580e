"""Collections and who may read them: the only place where the access rule is decided.

A reader may read a collection when it is open, when they are in one of its groups, or when they read all (the operator at the
command line). A collection that does not exist and one that the reader may not know of are told apart by nobody: both raise the same
`NotFoundError`. This module knows nothing of documents, people or sessions; a `Reader` is all it sees of a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from knowledge_base import tables as t
from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import NotFoundError, UsageError
from knowledge_base.properties import bump_index_version
from knowledge_base.records import Collection, Reader

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class CollectionStore:
    """Collections in the database."""

    def __init__(self, db: Database) -> None:
        """Use this database; its tables must exist."""
        self.db = db

    def create_collection(
        self, name: str, *, title: str = "", owner: str = "", groups: Iterable[str] | None = None
    ) -> Collection:
        """Add an empty collection.

        Args:
            name: What people type: letters, digits, dot, dash and underscore, at most 64.
            title: Shown on pages; the name when empty.
            owner: Whom to ask when the documents hold no answer.
            groups: Who may read it; None opens it to every employee, none at all closes it to everyone.

        Raises:
            UsageError: the name or a group's name is not valid, or the collection exists.
        """
        _check_name("collection", name)
        members = sorted(set(groups or ()))
        for group in members:
            _check_name("group", group)
        row = {
            "id": new_id(), "name": name, "title": title or name, "owner": owner,
            "is_open": groups is None, "created_at": now(),
        }  # fmt: skip
        try:
            with self.db.write() as connection:
                connection.execute(t.collections.insert().values(row))
                for group in members:
                    connection.execute(
                        t.collection_groups.insert().values(collection_id=row["id"], group_name=group)
                    )
        except IntegrityError as error:
            raise UsageError(f"collection {name!r} exists already: choose another name") from error
        return self.get_collection(name)

    def get_collection(self, name: str) -> Collection:
        """The collection of this name.

        Raises:
            NotFoundError: there is none.
        """
        found = self._collections(t.collections.c.name == name)
        if not found:
            raise _unknown(name)
        return found[0]

    def list_collections(self, reader: Reader | None = None) -> list[Collection]:
        """All collections by name, or those that the reader may read."""
        found = self._collections()
        return found if reader is None else [c for c in found if may_read(reader, c)]

    def permitted_collections(
        self, reader: Reader, names: Sequence[str] | None = None, *, counts: bool = False
    ) -> list[Collection]:
        """The collections that the reader may read, all of them or those named.

        Args:
            reader: Who asks.
            names: Restrict to these; None for all permitted.
            counts: Count documents and chunks too; retrieval does without.

        Raises:
            NotFoundError: a named collection does not exist or is not permitted; the message does not tell which.
        """
        found = {c.name: c for c in self._collections(counts=counts) if may_read(reader, c)}
        if names is None:
            return list(found.values())
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            raise _unknown(missing)
        return [found[name] for name in dict.fromkeys(names)]

    def grant(self, name: str, group: str) -> Collection:
        """Let a group read a collection. An open collection stays open; granting twice changes nothing.

        Raises:
            NotFoundError: no such collection.
            UsageError: the group's name is not valid.
        """
        _check_name("group", group)
        with self.db.write() as connection:
            collection_id = _id_of(connection, name)
            held = sa.select(t.collection_groups).where(
                t.collection_groups.c.collection_id == collection_id,
                t.collection_groups.c.group_name == group,
            )
            if connection.execute(held).first() is None:
                connection.execute(
                    t.collection_groups.insert().values(collection_id=collection_id, group_name=group)
                )
        return self.get_collection(name)

    def revoke(self, name: str, group: str) -> Collection:
        """Stop a group from reading a collection; the next question already obeys.

        Raises:
            NotFoundError: no such collection, or the group could not read it.
        """
        with self.db.write() as connection:
            groups = t.collection_groups
            removed = connection.execute(
                groups.delete().where(
                    groups.c.collection_id == _id_of(connection, name), groups.c.group_name == group
                )
            )
            if not removed.rowcount:
                raise NotFoundError(
                    f"group {group!r} has no access to {name!r}: see `tacit collections list`"
                )
        return self.get_collection(name)

    def set_open(self, name: str, is_open: bool) -> Collection:
        """Open a collection to every employee, or restrict it to its groups.

        Raises:
            NotFoundError: no such collection.
        """
        with self.db.write() as connection:
            collection_id = _id_of(connection, name)
            connection.execute(
                t.collections.update().where(t.collections.c.id == collection_id).values(is_open=is_open)
            )
        return self.get_collection(name)

    def delete_collection(self, name: str) -> list[str]:
        """Remove a collection with its documents, chunks and access rule. Returns the removed documents' ids.

        Raises:
            NotFoundError: no such collection.
        """
        with self.db.write() as connection:
            collection_id = _id_of(connection, name)
            of_it = sa.select(t.documents.c.id).where(t.documents.c.collection_id == collection_id)
            document_ids = list(connection.execute(of_it).scalars())
            connection.execute(t.collections.delete().where(t.collections.c.id == collection_id))
            bump_index_version(connection)
        return document_ids

    def _collections(
        self, where: sa.ColumnElement[bool] | None = None, *, counts: bool = True
    ) -> list[Collection]:
        query = sa.select(t.collections).order_by(t.collections.c.name)
        if where is not None:
            query = query.where(where)
        with self.db.read() as connection:
            rows = connection.execute(query).all()
            groups = connection.execute(sa.select(t.collection_groups)).all()
            sizes = _sizes(connection) if counts else {}
        members: dict[str, set[str]] = {}
        for collection_id, group in groups:
            members.setdefault(collection_id, set()).add(group)
        return [_collection(row, members.get(row.id, set()), sizes.get(row.id, (0, 0))) for row in rows]


def may_read(reader: Reader, collection: Collection) -> bool:
    """The access rule.

    >>> from datetime import UTC, datetime
    >>> pay = Collection(id="1", name="pay", title="Pay", owner="", is_open=False, groups=frozenset({"hr"}),
    ...     created_at=datetime(2026, 1, 1, tzinfo=UTC))
    >>> may_read(Reader(name="bob", groups=frozenset({"it"})), pay), may_read(Reader(name="eve", groups=frozenset({"hr"})), pay)
    (False, True)
    """
    return reader.reads_all or collection.is_open or not reader.groups.isdisjoint(collection.groups)


def _sizes(connection: Connection) -> dict[str, tuple[int, int]]:
    counted = (
        sa.select(
            t.documents.c.collection_id,
            sa.func.count(t.documents.c.id.distinct()),
            sa.func.count(t.chunks.c.id),
        )
        .select_from(t.documents.outerjoin(t.chunks))
        .group_by(t.documents.c.collection_id)
    )
    return {row[0]: (row[1], row[2]) for row in connection.execute(counted)}


def _collection(row: Row[Any], groups: set[str], size: tuple[int, int]) -> Collection:
    return Collection(
        id=row.id, name=row.name, title=row.title, owner=row.owner, is_open=row.is_open, groups=frozenset(groups),
        created_at=row.created_at, n_documents=size[0], n_chunks=size[1],
    )  # fmt: skip


def _id_of(connection: Connection, name: str) -> str:
    found = connection.execute(sa.select(t.collections.c.id).where(t.collections.c.name == name)).scalar()
    if found is None:
        raise _unknown(name)
    return str(found)


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(
        f"there is no collection {name[:80]!r} that you may read: see `tacit collections list`"
    )


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{kind} name {name[:80]!r} is not valid: letters, digits, dot, dash and underscore, at most 64, first a letter or digit"
        )
