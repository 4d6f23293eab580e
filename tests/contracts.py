"""Conformance suites: what every implementation of a protocol must do. Inherit one and override its fixture.

A class here is not collected by itself; its name ends in `Contract`, and a test module derives `Test...` from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from knowledge_base.protocols import Embedder, Ids, LexicalIndex, VectorIndex, Vectors
from knowledge_base.records import Document, NewChunk, NewDocument, Section
from knowledge_base.store import KnowledgeStore
from tests.fakes import FakeEmbedder

ODD_QUERIES = (
    "", "   ", "the and of", '"', '"unbalanced', "a AND (b OR", "NOT x", "col:y*", "NEAR(a b)", "-- ; DROP TABLE chunks",
    "\0", "\ud800", "日本語 休暇", "50% off\\", "%s :k", "'", "x" * 100_000, "word " * 20_000,
)  # fmt: skip
"""Questions that have broken search boxes."""


def unit_vectors(n: int, dimension: int = 8, seed: int = 0) -> Vectors:
    """Random unit vectors (n, dimension)."""
    vectors = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def ids(*values: int) -> Ids:
    """Ids as an array."""
    return np.asarray(values, dtype=np.int64)


def put(
    store: KnowledgeStore,
    collection: str,
    path: str,
    texts: Sequence[str],
    *,
    title: str = "Untitled",
    heading: str = "",
    embedder: Embedder | None = None,
) -> Document:
    """Store a document whose chunks are these texts; the collection must exist."""
    embedder = embedder or FakeEmbedder()
    whole = "\n\n".join(texts)
    starts = [sum(len(t) + 2 for t in texts[:i]) for i in range(len(texts))]
    chunks = [
        NewChunk(
            text=text,
            start=start,
            end=start + len(text),
            heading=heading,
            page=None,
            n_tokens=len(text.split()),
        )
        for text, start in zip(texts, starts, strict=True)
    ]
    document = NewDocument(
        path=path, title=title, media_type="text/plain", content_hash=path, size_bytes=len(whole), text=whole,
        sections=(Section(start=0, end=len(whole), heading_path=(heading,) if heading else ()),), metadata={}, pipeline_version="1",
    )  # fmt: skip
    collection_id = store.get_collection(collection).id
    return store.replace_document(
        collection_id, document, chunks, embedder.encode(texts), embedder_version=embedder.version
    )


class EmbedderContract:
    """For every `Embedder`; override `embedder`."""

    def test_vectors_are_unit_float32_of_the_stated_dimension(self, embedder: Embedder) -> None:
        """So that inner products are cosines."""
        vectors = embedder.encode(["Leave", "How much sick leave do I get?", ""])

        assert (3, embedder.dimension) == vectors.shape
        assert np.float32 == vectors.dtype
        assert np.allclose(1.0, np.linalg.norm(vectors, axis=1), atol=1e-5)

    def test_no_texts_give_no_vectors(self, embedder: Embedder) -> None:
        """An empty batch is no error."""
        assert (0, embedder.dimension) == embedder.encode([]).shape

    def test_the_order_of_the_texts_is_kept(self, embedder: Embedder) -> None:
        """Sorting by length inside is nobody's business."""
        texts = ["a long text about travel and hotels and trains", "leave", "laptops break often"]

        together = embedder.encode(texts)

        for text, vector in zip(texts, together, strict=True):
            assert float(embedder.encode([text])[0] @ vector) > 0.999

    def test_longer_texts_have_more_tokens(self, embedder: Embedder) -> None:
        """Counting is not cut at the model's limit."""
        assert embedder.count_tokens("word " * 1000) > embedder.max_tokens
        assert 0 == embedder.count_tokens("")


class VectorIndexContract:
    """For every `VectorIndex` of dimension 8; override `index` with an empty one."""

    @pytest.fixture
    def index(self) -> VectorIndex:
        """An empty index of dimension 8."""
        raise NotImplementedError

    def test_an_empty_index_finds_nothing(self, index: VectorIndex) -> None:
        """Only padding comes back."""
        found, scores = index.search(unit_vectors(2), 3)

        assert [[-1] * 3] * 2 == found.tolist()
        assert np.isneginf(scores).all()

    def test_the_nearest_comes_first(self, index: VectorIndex) -> None:
        """Best first, with inner products, padded at the end."""
        vectors = unit_vectors(3)
        index.add(ids(10, 20, 30), vectors)

        found, scores = index.search(vectors[1:2], 5)

        assert 20 == found[0, 0]
        assert pytest.approx(1.0, abs=1e-5) == scores[0, 0]
        assert scores[0, :3].tolist() == sorted(scores[0, :3].tolist(), reverse=True)
        assert [-1, -1] == found[0, 3:].tolist()

    def test_adding_an_id_again_replaces_its_vector(self, index: VectorIndex) -> None:
        """Never two of one id."""
        old, new = unit_vectors(2)
        index.add(ids(7), old[None])

        index.add(ids(7), new[None])

        assert 1 == len(index)
        assert pytest.approx(1.0, abs=1e-5) == index.search(new[None], 1)[1][0, 0]

    def test_a_removed_id_never_comes_back(self, index: VectorIndex) -> None:
        """Unknown ids are ignored on the way."""
        vectors = unit_vectors(3)
        index.add(ids(1, 2, 3), vectors)

        index.remove(ids(2, 99))

        assert {1, 3} == set(index.search(vectors, 3)[0].ravel().tolist()) - {-1}

    def test_the_filter_works_before_ranks_are_cut(self, index: VectorIndex) -> None:
        """The one permitted vector is found although a hundred others are nearer."""
        vectors = unit_vectors(101)
        index.add(np.arange(101), vectors)
        far = int(np.argmin(vectors @ vectors[0]))

        found, _ = index.search(vectors[:1], 5, ids(far))

        assert [far, -1, -1, -1, -1] == found[0].tolist()

    def test_nothing_allowed_finds_nothing(self, index: VectorIndex) -> None:
        """An empty filter is not the same as none."""
        index.add(ids(1), unit_vectors(1))

        assert [-1] == index.search(unit_vectors(1), 1, ids())[0][0].tolist()

    def test_ids_unknown_to_the_index_may_be_allowed(self, index: VectorIndex) -> None:
        """The database may know more than the index, for a moment."""
        index.add(ids(5), unit_vectors(1))

        assert 5 == index.search(unit_vectors(1), 1, ids(5, 100_000))[0][0, 0]


class LexicalIndexContract:
    """For every `LexicalIndex`; override `lexical`, which searches what `store` holds."""

    @pytest.fixture
    def lexical(self, store: KnowledgeStore) -> LexicalIndex:
        """Word search over `store`."""
        raise NotImplementedError

    def _texts(self, store: KnowledgeStore, found: list[tuple[int, float]], *collections: str) -> list[str]:
        chunks = store.find_chunks([i for i, _ in found], [store.get_collection(c).id for c in collections])
        return [chunks[i].chunk.text for i, _ in found]

    def test_rare_words_weigh_more(self, store: KnowledgeStore, lexical: LexicalIndex) -> None:
        """A common word of the question does not outweigh the one that matters."""
        store.create_collection("open")
        put(
            store,
            "open",
            "a",
            [f"Your manager approves request {n}." for n in range(8)] + ["A kidney donor gets leave."],
        )

        found = lexical.search(
            "Does my manager approve leave for a kidney donor?", 3, [store.get_collection("open").id]
        )

        assert "A kidney donor gets leave." == self._texts(store, found, "open")[0]
        assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)

    def test_words_match_by_stem_without_case_or_accents(
        self, store: KnowledgeStore, lexical: LexicalIndex
    ) -> None:
        """`reimbursed` finds `Reimbursement`, `resume` finds `résumé`."""
        store.create_collection("open")
        put(store, "open", "a", ["Reimbursements take a week.", "Send your RÉSUMÉ early.", "Other words."])
        within = [store.get_collection("open").id]

        assert ["Reimbursements take a week."] == self._texts(
            store, lexical.search("reimbursement", 5, within), "open"
        )
        assert ["Send your RÉSUMÉ early."] == self._texts(store, lexical.search("resume", 5, within), "open")

    def test_title_and_heading_are_searched(self, store: KnowledgeStore, lexical: LexicalIndex) -> None:
        """A chunk is found by what it stands under."""
        store.create_collection("open")
        put(store, "open", "a", ["Ask first."], title="Sabbaticals", heading="Eligibility")
        put(store, "open", "b", ["Ask later."])
        within = [store.get_collection("open").id]

        assert ["Ask first."] == self._texts(store, lexical.search("sabbaticals", 5, within), "open")
        assert ["Ask first."] == self._texts(store, lexical.search("eligibility", 5, within), "open")

    def test_words_joined_by_a_slash_are_two(self, store: KnowledgeStore, lexical: LexicalIndex) -> None:
        """`leave/absence` is no file name."""
        store.create_collection("open")
        put(store, "open", "a", ["Record leave/absence here.", "Nothing."])

        found = lexical.search("absence", 5, [store.get_collection("open").id])

        assert ["Record leave/absence here."] == self._texts(store, found, "open")

    def test_only_the_given_collections_are_searched(
        self, store: KnowledgeStore, lexical: LexicalIndex
    ) -> None:
        """The filter is inside: fifty better matches elsewhere do not crowd out the permitted one."""
        store.create_collection("open")
        store.create_collection("pay", groups=["hr"])
        put(store, "pay", "a", ["salary salary salary"] * 50)
        put(store, "open", "b", ["About your salary and many other long winded subjects of no interest."])

        found = lexical.search("salary", 3, [store.get_collection("open").id])

        assert 1 == len(found)
        assert [] == lexical.search("salary", 3, [])

    def test_words_of_deleted_documents_are_gone(self, store: KnowledgeStore, lexical: LexicalIndex) -> None:
        """By document, by replacement and by collection."""
        store.create_collection("open")
        within = [store.get_collection("open").id]
        document = put(store, "open", "a", ["zebra"])
        put(store, "open", "b", ["giraffe"])
        put(store, "open", "b", ["elephant"])
        store.delete_document(document.id)

        assert [] == lexical.search("zebra giraffe", 5, within)
        assert 1 == len(lexical.search("elephant", 5, within))
        store.delete_collection("open")
        assert [] == lexical.search("elephant", 5, within)

    def test_any_text_is_a_valid_query(self, store: KnowledgeStore, lexical: LexicalIndex) -> None:
        """Operators, quotes, control characters and endless questions are only text."""
        store.create_collection("open")
        put(store, "open", "a", ["Something entirely different."])
        within = [store.get_collection("open").id]

        for query in ODD_QUERIES:
            assert [] == lexical.search(query, 5, within), query[:40]

    def test_many_collections_can_be_searched_at_once(
        self, store: KnowledgeStore, lexical: LexicalIndex
    ) -> None:
        """A reader of hundreds of collections is no special case."""
        store.create_collection("open")
        put(store, "open", "a", ["zebra"])
        many = [f"{n:032x}" for n in range(500)] + [store.get_collection("open").id]

        assert 1 == len(lexical.search("zebra", 5, many))
