"""Sentences of chunks are embedded once, whoever asks and whenever, and what is read back is what was computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledge_base import tables as t
from knowledge_base.database import Database
from knowledge_base.sentence_vectors import ChunkText, SentenceSettings, SentenceVectors
from knowledge_base.store import KnowledgeStore
from tests.contracts import put
from tests.fakes import FakeEmbedder

TEXT = "You get 25 days of annual leave. Ask your manager before you book."


def stored_chunks(store: KnowledgeStore, *texts: str) -> list[ChunkText]:
    """A document's chunks, stored."""
    if not store.list_collections():
        store.create_collection("handbook")
    document = put(store, "handbook", f"{texts[0][:8]}.md", list(texts), title="Leave")
    return [
        ChunkText(chunk_id=chunk.id, title="Leave", heading=chunk.heading, text=chunk.text)
        for chunk in store.document_chunks(document.id)
    ]


def loose(chunk_id: int, text: str = TEXT) -> ChunkText:
    """A chunk that no database holds."""
    return ChunkText(chunk_id=chunk_id, title="Leave", heading="", text=text)


def test_a_chunk_is_embedded_once(store: KnowledgeStore) -> None:
    """Not again by this process nor by the next one, and both read the same."""
    chunks, encoder = stored_chunks(store, TEXT, "Lunch is at noon in the hall."), FakeEmbedder()
    first = SentenceVectors(encoder, db=store.db)

    computed = first.read(chunks)
    again = first.read(chunks)
    n_encoded = encoder.n_encoded
    by_another_process = SentenceVectors(encoder, db=store.db).read(chunks)

    assert (3, 3) == (n_encoded, encoder.n_encoded)
    for one, two, three in zip(computed, again, by_another_process, strict=True):
        assert one.spans == two.spans == three.spans
        np.testing.assert_array_equal(one.vectors, three.vectors)
    assert ["You get 25 days of annual leave.", "Ask your manager before you book."] == [
        TEXT[start:end] for start, end in by_another_process[0].spans
    ]


def test_another_encoder_or_another_rule_counts_as_nothing_stored(store: KnowledgeStore) -> None:
    """Vectors are never mixed; the row is written anew."""
    chunks = stored_chunks(store, TEXT)
    SentenceVectors(FakeEmbedder(), db=store.db).read(chunks)

    for encoder, rules in (
        (FakeEmbedder(32, version="fake/2"), SentenceSettings()),
        (FakeEmbedder(), SentenceSettings(lead_in_words=0)),
    ):
        (read,) = SentenceVectors(encoder, rules, store.db).read(chunks)
        assert (2, encoder.dimension) == read.vectors.shape
        assert 2 == encoder.n_encoded


def test_sentences_go_with_their_chunk(store: KnowledgeStore, database: Database) -> None:
    """Nothing stays of a deleted document, and a chunk deleted while it was read leaves no row."""
    chunks = stored_chunks(store, TEXT)
    vectors = SentenceVectors(FakeEmbedder(), db=database)
    vectors.read(chunks)
    (document,) = store.list_documents()
    store.delete_document(document.id)

    assert 2 == len(SentenceVectors(FakeEmbedder(), db=database).read(chunks)[0].spans)
    with database.read() as connection:
        assert [] == connection.execute(t.chunk_sentences.select()).all()


def test_memory_is_bounded() -> None:
    """Only so many chunks are remembered, those read last."""
    encoder = FakeEmbedder()
    vectors = SentenceVectors(encoder, SentenceSettings(cached_chunks=1))
    for chunk_id in (1, 2, 1):
        vectors.read([loose(chunk_id)])

    assert 3 * 2 == encoder.n_encoded


def test_a_changed_text_is_read_again() -> None:
    """An id that no database gave says nothing about the text."""
    vectors = SentenceVectors(FakeEmbedder())
    vectors.read([loose(1)])

    (read,) = vectors.read([loose(1, "Lunch is at one o'clock now.")])

    assert ((0, 28),) == read.spans


def test_a_chunk_without_sentences_has_none(store: KnowledgeStore) -> None:
    """A bare heading, alone and among others, computed and read back."""
    chunks = [*stored_chunks(store, "Leave"), *stored_chunks(store, TEXT, "Leave")]
    for read in (SentenceVectors(FakeEmbedder(), db=store.db).read(chunks) for _ in range(2)):
        assert [0, 2, 0] == [len(own.spans) for own in read]
        assert [(0, 64), (2, 64), (0, 64)] == [own.vectors.shape for own in read]
    assert (0, 64) == SentenceVectors(FakeEmbedder()).read([loose(1, "Leave")])[0].vectors.shape
    assert [] == SentenceVectors(FakeEmbedder()).read([])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=80), min_size=1, max_size=4))
def test_what_is_read_back_is_what_was_computed(store: KnowledgeStore, texts: list[str]) -> None:
    """Whatever the text, to the last bit."""
    chunks = stored_chunks(store, *(text.replace("\0", " ") for text in texts))
    computed = SentenceVectors(FakeEmbedder(), db=store.db).read(chunks)
    encoder = FakeEmbedder()
    read = SentenceVectors(encoder, db=store.db).read(chunks)

    assert 0 == encoder.n_encoded
    for one, other in zip(computed, read, strict=True):
        assert one.spans == other.spans
        np.testing.assert_array_equal(one.vectors, other.vectors)


@pytest.mark.parametrize("wrong", [{"lead_in_words": -1}, {"cached_chunks": 0}])
def test_settings_must_make_sense(wrong: dict[str, int]) -> None:
    """The error names the field."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SentenceSettings(**wrong)
