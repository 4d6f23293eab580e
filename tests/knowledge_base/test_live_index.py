"""A running process's index follows the database."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.database import Database
from knowledge_base.live_index import LiveIndex
from knowledge_base.protocols import Ids, Vectors
from knowledge_base.schema import create_schema
from knowledge_base.store import KnowledgeStore
from tests.contracts import put
from tests.fakes import FakeEmbedder, NumpyIndex


class CountingIndex(NumpyIndex):
    """Counts the vectors that were added."""

    n_added = 0

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Count, then add."""
        self.n_added += len(ids)
        super().add(ids, vectors)


def test_only_what_changed_is_read_again(sqlite_database: Database) -> None:
    """A new document costs its own chunks; no change costs nothing."""
    store, index = KnowledgeStore(sqlite_database), CountingIndex(64)
    store.create_collection("handbook")
    put(store, "handbook", "a", ["One."] * 30)
    live = LiveIndex(store, lambda: index, embedder_version="fake/1")
    assert live.refresh()
    assert not live.refresh()

    put(store, "handbook", "b", ["Two."] * 2)

    assert live.refresh()
    assert 32 == index.n_added == len(live)


def test_only_the_given_collections_are_searched(sqlite_database: Database) -> None:
    """A hundred nearer chunks elsewhere do not crowd out the permitted one; no collection finds nothing."""
    store = KnowledgeStore(sqlite_database)
    store.create_collection("open")
    store.create_collection("pay", groups=["hr"])
    put(store, "pay", "a", ["annual leave"] * 100)
    document = put(store, "open", "b", ["something else"])
    live = LiveIndex(store, lambda: NumpyIndex(64), embedder_version="fake/1")
    query = FakeEmbedder().encode(["annual leave"])

    found, _ = live.search(query, 3, [store.get_collection("open").id])

    assert [store.document_chunks(document.id)[0].id, -1, -1] == found[0].tolist()
    assert [-1, -1, -1] == live.search(query, 3, [])[0][0].tolist()


_steps = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "refresh"]), st.integers(0, 4), st.integers(0, 3)),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(steps=_steps)
def test_after_any_changes_the_index_holds_what_a_fresh_one_would(steps: list[tuple[str, int, int]]) -> None:
    """Incremental refreshes and a rebuild agree, by collection."""
    db = Database("sqlite://")
    create_schema(db)
    store = KnowledgeStore(db)
    for name in ("even", "odd"):
        store.create_collection(name)
    live = LiveIndex(store, lambda: NumpyIndex(64), embedder_version="fake/1")
    for action, which, n_chunks in steps:
        collection = ("even", "odd")[which % 2]
        if action == "put":
            put(store, collection, str(which), [f"text {which} {n}" for n in range(n_chunks)])
        elif action == "delete":
            for document in store.list_documents(collection)[:1]:
                store.delete_document(document.id)
        else:
            live.refresh()
    fresh = LiveIndex(store, lambda: NumpyIndex(64), embedder_version="fake/1")
    query = FakeEmbedder().encode(["text"])

    for name in ("even", "odd"):
        only = [store.get_collection(name).id]
        expected, found = fresh.search(query, 20, only), live.search(query, 20, only)
        assert sorted(expected[0][0].tolist()) == sorted(found[0][0].tolist())
        assert np.allclose(expected[1], found[1])
    db.dispose()
