"""Collections, documents and chunks on both databases."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from knowledge_base import tables
from knowledge_base.errors import EmbedderError, NotFoundError, UsageError
from knowledge_base.records import Reader, Section
from knowledge_base.schema import create_schema
from knowledge_base.store import KnowledgeStore
from tests.contracts import put
from tests.fakes import FakeEmbedder


def test_a_new_collection_is_open_unless_groups_are_given(store: KnowledgeStore) -> None:
    """An empty list of groups closes it to everyone."""
    assert store.create_collection("leave").is_open
    assert frozenset({"hr"}) == store.create_collection("pay", groups=["hr"]).groups
    assert not store.create_collection("draft", groups=[]).is_open


@pytest.mark.parametrize("name", ["", "a b", "../etc", "x" * 65, ".hidden", "é"])
def test_odd_collection_names_are_refused(store: KnowledgeStore, name: str) -> None:
    """Names go into URLs and commands."""
    with pytest.raises(UsageError, match="not valid"):
        store.create_collection(name)


def test_a_second_collection_of_a_name_is_refused(store: KnowledgeStore) -> None:
    """The first stays as it is."""
    store.create_collection("pay", groups=["hr"])

    with pytest.raises(UsageError, match="exists already"):
        store.create_collection("pay")

    assert not store.get_collection("pay").is_open


def test_unknown_and_forbidden_collections_sound_the_same(store: KnowledgeStore, igor: Reader) -> None:
    """Nobody learns from an error which collections there are."""
    store.create_collection("pay", groups=["hr"])

    with pytest.raises(NotFoundError) as forbidden:
        store.permitted_collections(igor, ["pay"])
    with pytest.raises(NotFoundError) as unknown:
        store.permitted_collections(igor, ["pey"])

    assert str(forbidden.value).replace("pay", "pey") == str(unknown.value)


def test_grant_and_revoke_take_effect_at_once(store: KnowledgeStore, igor: Reader) -> None:
    """Granting twice is no error; revoking what was never granted is."""
    store.create_collection("pay", groups=["hr"])

    store.grant("pay", "it")
    store.grant("pay", "it")
    assert ["pay"] == [c.name for c in store.permitted_collections(igor)]

    store.revoke("pay", "it")
    assert [] == store.permitted_collections(igor)
    with pytest.raises(NotFoundError, match="no access"):
        store.revoke("pay", "it")


def test_closing_a_collection_keeps_its_groups(store: KnowledgeStore, alice: Reader, heidi: Reader) -> None:
    """Opening and closing again restores the former rule."""
    store.create_collection("pay", groups=["hr"])
    store.set_open("pay", True)
    assert ["pay"] == [c.name for c in store.list_collections(alice)]

    store.set_open("pay", False)
    assert [] == store.list_collections(alice)
    assert ["pay"] == [c.name for c in store.list_collections(heidi)]


def test_a_stored_document_comes_back_whole(store: KnowledgeStore, alice: Reader) -> None:
    """Text, sections, counts, chunks with offsets."""
    store.create_collection("leave")
    document = put(
        store, "leave", "sick.md", ["Call in sick.", "Bring a note."], title="Sick leave", heading="Rules"
    )

    read = store.read_document(document.id, alice)
    chunks = store.document_chunks(document.id)

    assert "Call in sick.\n\nBring a note." == read.text
    assert (Section(start=0, end=28, heading_path=("Rules",)),) == read.sections
    assert ["Call in sick.", "Bring a note."] == [read.text[c.start : c.end] for c in chunks]
    assert (1, 2) == (store.get_collection("leave").n_documents, store.get_collection("leave").n_chunks)
    assert [document] == store.list_documents("leave")


def test_a_replaced_document_keeps_its_id_and_gets_new_chunk_ids(store: KnowledgeStore) -> None:
    """Links to the document stay good; old citations never point at new text."""
    store.create_collection("leave")
    before = put(store, "leave", "sick.md", ["Old."])
    old = [c.id for c in store.document_chunks(before.id)]

    after = put(store, "leave", "sick.md", ["New.", "Newer."])

    assert (before.id, before.created_at) == (after.id, after.created_at)
    assert set(old).isdisjoint(c.id for c in store.document_chunks(after.id))
    assert 2 == len(store.chunk_ids())


def test_chunk_ids_are_never_used_twice(store: KnowledgeStore) -> None:
    """Not even when the newest was deleted."""
    store.create_collection("leave")
    gone = put(store, "leave", "a", ["One."])
    used = set(store.chunk_ids().tolist())
    store.delete_document(gone.id)

    put(store, "leave", "b", ["Two."])

    assert used.isdisjoint(store.chunk_ids().tolist())


def test_a_failed_replacement_changes_nothing(store: KnowledgeStore) -> None:
    """Document, chunks and index version are one transaction."""
    store.create_collection("leave")
    put(store, "leave", "a", ["One."])
    version, held = store.index_version(), store.chunk_ids().tolist()

    with pytest.raises(EmbedderError, match="tacit reembed"):
        put(store, "leave", "a", ["Two."], embedder=FakeEmbedder(version="other/1"))

    assert (version, held) == (store.index_version(), store.chunk_ids().tolist())


def test_an_empty_store_takes_any_embedder(store: KnowledgeStore) -> None:
    """After everything was deleted, another embedder may begin."""
    store.create_collection("leave")
    store.delete_document(put(store, "leave", "a", ["One."]).id)

    put(store, "leave", "a", ["One."], embedder=FakeEmbedder(version="other/1"))

    store.check_embedder("other/1")


def test_every_change_of_chunks_raises_the_index_version(store: KnowledgeStore) -> None:
    """Adding, replacing, deleting a document or a collection; changing who may read does not."""
    store.create_collection("leave")
    seen = [store.index_version()]
    document = put(store, "leave", "a", ["One."])
    seen.append(store.index_version())
    put(store, "leave", "a", ["Two."])
    seen.append(store.index_version())
    store.delete_document(document.id)
    seen.append(store.index_version())
    store.grant("leave", "hr")
    assert seen[-1] == store.index_version()
    store.delete_collection("leave")
    seen.append(store.index_version())

    assert seen == sorted(set(seen))


def test_a_document_is_read_only_by_those_who_may(store: KnowledgeStore, heidi: Reader, igor: Reader) -> None:
    """For others it does not exist."""
    store.create_collection("pay", groups=["hr"])
    document = put(store, "pay", "bands.md", ["Band 3."])

    assert "Band 3." == store.read_document(document.id, heidi).text
    with pytest.raises(NotFoundError) as forbidden:
        store.read_document(document.id, igor)
    with pytest.raises(NotFoundError) as unknown:
        store.read_document("0" * 32, igor)
    assert str(forbidden.value) == str(unknown.value)
    with pytest.raises(NotFoundError):
        store.list_documents("pay", reader=igor)
    assert [] == store.list_documents(reader=igor)


def test_deleting_a_collection_leaves_nothing_behind(store: KnowledgeStore) -> None:
    """Documents, chunks, groups."""
    store.create_collection("pay", groups=["hr"])
    document = put(store, "pay", "a", ["One."])

    assert [document.id] == store.delete_collection("pay")

    with store.db.read() as connection:
        for table in (tables.documents, tables.chunks, tables.collection_groups, tables.collections):
            assert 0 == connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()


def test_characters_that_a_database_refuses_are_replaced_in_place(
    store: KnowledgeStore, alice: Reader
) -> None:
    """NUL and lone surrogates; offsets stay true."""
    store.create_collection("leave")
    document = put(store, "leave", "a", ["a\0b \ud800 c"])

    assert "a b ? c" == store.read_document(document.id, alice).text


def test_vectors_come_back_as_they_were_stored(store: KnowledgeStore) -> None:
    """All of them, or those asked for."""
    store.create_collection("leave")
    put(store, "leave", "a", ["sick leave", "travel"])
    stored = store.chunk_ids()

    ((owners, found, vectors),) = store.embeddings()
    ((_, one, _),) = store.embeddings(stored[:1])

    assert [store.get_collection("leave").id] * 2 == owners
    assert set(stored.tolist()) == set(found.tolist())
    assert stored[:1].tolist() == one.tolist()
    expected = FakeEmbedder().encode(["sick leave", "travel"])
    assert np.array_equal(expected, vectors[np.argsort(found)])


def test_creating_the_schema_twice_changes_nothing(store: KnowledgeStore) -> None:
    """A start after a half-finished one simply goes on."""
    store.create_collection("leave")
    put(store, "leave", "a", ["One."])

    create_schema(store.db)

    assert 1 == len(store.chunk_ids())
