"""Question to permitted passages: fusion, access, freshness."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.database import Database
from knowledge_base.errors import EmbedderError, NotFoundError, UsageError
from knowledge_base.faiss_index import FaissIndex
from knowledge_base.lexical import lexical_index
from knowledge_base.live_index import LiveIndex
from knowledge_base.protocols import Reranker
from knowledge_base.records import Reader
from knowledge_base.reembedding import reembed
from knowledge_base.retriever import HybridRetriever, RetrievalSettings
from knowledge_base.schema import create_schema
from knowledge_base.sentence_vectors import SentenceVectors
from knowledge_base.spelling import Spelling, Vocabulary
from knowledge_base.store import KnowledgeStore
from tests.contracts import put
from tests.fakes import FakeEmbedder


def make_retriever(
    store: KnowledgeStore,
    embedder: FakeEmbedder | None = None,
    settings: RetrievalSettings | None = None,
    reranker: Reranker | None = None,
    spelling: Spelling | None = None,
    sentences: SentenceVectors | None = None,
) -> HybridRetriever:
    """A retriever of its own process: its own live index."""
    embedder = embedder or FakeEmbedder()
    live = LiveIndex(store, lambda: FaissIndex(embedder.dimension), embedder_version=embedder.version)
    return HybridRetriever(
        store, live, lexical_index(store.db), embedder, settings, reranker, spelling, sentences
    )


def test_the_best_passage_comes_first_with_its_place(store: KnowledgeStore, alice: Reader) -> None:
    """Rank, similarity, offsets, document."""
    store.create_collection("handbook")
    put(store, "handbook", "pets.md", ["Dogs may come to the office.", "Cats stay at home."], title="Pets")
    put(store, "handbook", "travel.md", ["Book trains early."], title="Travel")

    passages = make_retriever(store).retrieve("May dogs come to the office?", alice, top_k=2)

    best = passages[0]
    assert ("pets.md", "Pets", "handbook", "Dogs may come to the office.") == (
        best.document, best.title, best.collection, best.text,
    )  # fmt: skip
    assert [1, 2] == [p.rank for p in passages]
    assert best.similarity > passages[1].similarity
    assert best.collection_is_open
    assert best.text == store.read_document(best.document_id, alice).text[best.start : best.end]


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_a_misspelled_question_finds_what_was_meant(
    store: KnowledgeStore, alice: Reader, weights: tuple[float, float]
) -> None:
    """By meaning and by words alike."""
    store.create_collection("handbook")
    put(store, "handbook", "travel.md", ["Book trains early."])
    put(store, "handbook", "pets.md", ["Dogs may come to the office."])
    spelling = Spelling(Vocabulary(store.db), lexical_index(store.db))
    by = RetrievalSettings(dense_weight=weights[0], lexical_weight=weights[1])
    retriever = make_retriever(store, settings=by, spelling=spelling)

    assert [p.document for p in retriever.retrieve("dosg offiec", alice, top_k=1)] == ["pets.md"]
    assert retriever.version.endswith("+spelling")


def test_a_passage_is_found_by_what_it_says_in_one_sentence(store: KnowledgeStore, alice: Reader) -> None:
    """As a whole it speaks of other things than one that is near the question throughout and answers nothing."""
    store.create_collection("handbook")
    put(store, "handbook", "near.md", ["Bikes and free parking is bikes. Parking of bikes is parking free."])
    put(
        store, "handbook", "far.md",
        ["Lunch at noon in our hall today. Dogs stay at home. Parking bikes is free. Trains and hotels are booked early every week."],
    )  # fmt: skip
    question = "parking bikes is free"

    def order(weight: float) -> list[str]:
        retriever = make_retriever(
            store,
            settings=RetrievalSettings(lexical_weight=0.0, sentence_weight=weight),
            sentences=SentenceVectors(FakeEmbedder(), db=store.db),
        )
        found = retriever.retrieve(question, alice, top_k=2)
        assert [1, 2] == [passage.rank for passage in found]
        assert found[0].score > found[1].score
        return [passage.document for passage in found]

    assert ["near.md", "far.md"] == order(0.0)
    assert ["far.md", "near.md"] == order(6.0)


def test_only_the_first_passages_are_read_sentence_by_sentence(store: KnowledgeStore, alice: Reader) -> None:
    """Those after them keep their order, and the version says how many were read."""
    store.create_collection("handbook")
    for n in range(4):
        put(
            store,
            "handbook",
            f"{n}.md",
            [" ".join(["Bikes are parked in hall."] + ["Other words here follow."] * n)],
        )
    encoder = FakeEmbedder(version="fake/sentences")
    retriever = make_retriever(
        store, settings=RetrievalSettings(sentence_candidates=2), sentences=SentenceVectors(encoder)
    )

    assert 4 == len(retriever.retrieve("where are bikes parked", alice, top_k=4))
    assert 1 + 1 + 2 == encoder.n_encoded
    assert "+sentences/fake/sentences/1/45/2/1.2" in retriever.version


def test_a_passage_found_by_words_alone_has_its_similarity_too(store: KnowledgeStore, alice: Reader) -> None:
    """Similarity is the cosine, whichever side found the chunk."""
    store.create_collection("handbook")
    put(store, "handbook", "a", ["Form SF-1152 names a beneficiary."])
    retriever = make_retriever(store, settings=RetrievalSettings(dense_weight=0.0))
    question = "beneficiary"

    (passage,) = retriever.retrieve(question, alice)

    mine, theirs = FakeEmbedder().encode([question, passage.text])
    assert pytest.approx(float(mine @ theirs), abs=1e-5) == passage.similarity


def test_naming_a_forbidden_collection_is_as_if_it_did_not_exist(store: KnowledgeStore, igor: Reader) -> None:
    """Both raise the same error."""
    store.create_collection("pay", groups=["hr"])

    for name in ("pay", "nope"):
        with pytest.raises(NotFoundError, match="that you may read"):
            make_retriever(store).retrieve("salary", igor, collections=[name])


def test_a_revoked_group_finds_nothing_at_its_next_question(store: KnowledgeStore, heidi: Reader) -> None:
    """No restart, no delay."""
    store.create_collection("pay", groups=["hr"])
    put(store, "pay", "a", ["Band 3 pays more."])
    retriever = make_retriever(store)
    assert 1 == len(retriever.retrieve("pay band", heidi))

    store.revoke("pay", "hr")

    assert [] == retriever.retrieve("pay band", heidi)


def test_what_another_process_ingests_is_found_by_the_next_question(
    store: KnowledgeStore, alice: Reader
) -> None:
    """Added, replaced and deleted documents, without a restart."""
    store.create_collection("handbook")
    retriever = make_retriever(store)
    assert [] == retriever.retrieve("zebra crossing", alice)
    elsewhere = KnowledgeStore(store.db)

    document = put(elsewhere, "handbook", "a", ["zebra crossing"])
    assert ["zebra crossing"] == [p.text for p in retriever.retrieve("zebra crossing", alice)]
    put(elsewhere, "handbook", "a", ["zebra crossing closed"])
    assert ["zebra crossing closed"] == [p.text for p in retriever.retrieve("zebra crossing", alice)]
    elsewhere.delete_document(document.id)
    assert [] == retriever.retrieve("zebra crossing", alice)


@pytest.mark.parametrize("question", ["", "   \n", "\0", "?" * 100_000, '" OR 1=1 --', "\ud800"])
def test_any_question_is_answered_with_passages_or_none(
    sqlite_database: Database, alice: Reader, question: str
) -> None:
    """Never with an error."""
    store = KnowledgeStore(sqlite_database)
    store.create_collection("handbook")
    put(store, "handbook", "a", ["Something."])

    assert len(make_retriever(store).retrieve(question, alice)) <= 1


def test_top_k_must_be_positive(sqlite_database: Database, alice: Reader) -> None:
    """The error says which value was given."""
    with pytest.raises(UsageError, match="top_k is 0"):
        make_retriever(KnowledgeStore(sqlite_database)).retrieve("x", alice, top_k=0)


def test_vectors_of_another_embedder_are_refused(store: KnowledgeStore, alice: Reader) -> None:
    """Until everything is embedded anew."""
    store.create_collection("handbook")
    put(store, "handbook", "a", ["Dogs.", "Cats."])
    newer = FakeEmbedder(dimension=32, version="fake/2")
    with pytest.raises(EmbedderError, match="tacit reembed"):
        make_retriever(store, newer).retrieve("dogs", alice)

    assert 2 == reembed(store.db, newer)

    assert "Dogs." == make_retriever(store, newer).retrieve("dogs", alice)[0].text


def test_a_side_that_is_sure_says_more_than_one_that_finds_all_alike(
    store: KnowledgeStore, alice: Reader
) -> None:
    """By ranks both sides would say the same; by scores the one exact hit of the word search wins."""
    store.create_collection("handbook")
    put(store, "handbook", "near.md", ["Names of forms and of those whom forms name."])
    put(store, "handbook", "exact.md", ["SF-1152 SF-1152."])
    put(store, "handbook", "other.md", ["Forms names."])
    retriever = make_retriever(store, settings=RetrievalSettings(lexical_weight=5.0))

    assert "exact.md" == retriever.retrieve("whom does SF-1152 name", alice)[0].document


def test_a_passage_without_sentences_is_neither_first_nor_lost(store: KnowledgeStore, alice: Reader) -> None:
    """A lone heading can be quoted nowhere; it counts as the farthest of the others."""
    store.create_collection("handbook")
    put(store, "handbook", "bare.md", ["Bikes"], title="Bikes")
    put(store, "handbook", "full.md", ["Bikes are parked in the hall."])
    retriever = make_retriever(store, sentences=SentenceVectors(FakeEmbedder(version="fake/sentences")))

    found = retriever.retrieve("where are bikes parked", alice)

    assert ["full.md", "bare.md"] == [passage.document for passage in found]


_GROUPS = ("hr", "it", "legal")
_collections = st.lists(
    st.tuples(st.none() | st.sets(st.sampled_from(_GROUPS)), st.integers(0, 12)), min_size=1, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(
    collections=_collections,
    groups=st.sets(st.sampled_from(_GROUPS)),
    top_k=st.integers(1, 8),
    candidates=st.integers(1, 10),
    weights=st.sampled_from([(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)]),
)
def test_no_passage_ever_comes_from_a_forbidden_collection_and_none_is_crowded_out(
    collections: list[tuple[set[str] | None, int]],
    groups: set[str],
    top_k: int,
    candidates: int,
    weights: tuple[float, float],
) -> None:
    """Whatever the rules and groups: only permitted passages, and as many as there are, by either search alone and by both."""
    db = Database("sqlite://")
    create_schema(db)
    store = KnowledgeStore(db)
    permitted, n_permitted = set(), 0
    for number, (rule, n_chunks) in enumerate(collections):
        name = f"c{number}"
        store.create_collection(name, groups=rule)
        # Forbidden chunks match the question better than permitted ones: a filter after the cut would starve the reader.
        may = rule is None or bool(rule & groups)
        put(store, name, "d", [f"annual leave {'among many other subjects' if may else ''}"] * n_chunks)
        if may:
            permitted.add(name)
            n_permitted += n_chunks
    reader = Reader(name="r", groups=frozenset(groups))
    dense, lexical = weights
    chosen = RetrievalSettings(candidates=candidates, dense_weight=dense, lexical_weight=lexical)

    passages = make_retriever(store, settings=chosen).retrieve("annual leave", reader, top_k=top_k)

    assert {p.collection for p in passages} <= permitted
    assert min(top_k, n_permitted) == len(passages)
    db.dispose()
