"""Misspelled words find what was meant, for everybody within what they may read."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledge_base.lexical import lexical_index
from knowledge_base.spelling import Spelled, Spelling, Vocabulary
from knowledge_base.store import KnowledgeStore
from tests.contracts import put


def spelling_of(store: KnowledgeStore, *words: str) -> Spelling:
    """What reads the questions; `words` are known wherever they stand."""
    return Spelling(Vocabulary(store.db), lexical_index(store.db), lambda word: word in words)


def collection(store: KnowledgeStore, name: str, *texts: str) -> str:
    """A collection with one document, as its id."""
    made = store.create_collection(name)
    put(store, name, f"{name}.md", texts, title="Untitled")
    return made.id


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Who approves my vaccation?", "Who approves my vacation?"),
        ("Who approves my VACATOIN?", "Who approves my vacation?"),
        ("who aproves vacatin", "who approves vacation"),
        ("reimbursment of the travl", "reimbursment of the travel"),  # its stem is found as it is
        ("riembursemnt", "reimbursement"),
        ("Is the resumé of a traveler kept?", "Is the resumé of a traveler kept?"),
        ("Vacations?", "Vacations?"),
        ("vac", "vac"),
        ("Form SF1152x", "Form SF1152x"),
        ("", ""),
    ],
)
def test_a_word_that_no_document_has_becomes_the_nearest_one(
    store: KnowledgeStore, typed: str, meant: str
) -> None:
    """One slip in a word, two in a long one; inflections, short words and codes are left alone."""
    handbook = collection(
        store, "handbook",
        "Your manager approves vacation and the reimbursement of travel.", "Form SF1152 and a résumé are kept.",
        "The traveler signs.",
    )  # fmt: skip

    assert spelling_of(store).read(typed, [handbook]).question == meant


def test_a_right_word_is_left_alone_though_no_document_has_it(store: KnowledgeStore) -> None:
    """`nation` is a word, if not one of the handbook's; without knowing that it would become `notion`."""
    handbook = collection(store, "handbook", "A notion of vacation.")

    assert spelling_of(store, "nation").read("nation", [handbook]) == Spelled(question="nation")
    assert spelling_of(store).read("nation", [handbook]).added == ("notion",)


def test_the_nearest_word_comes_first_and_then_the_commonest(store: KnowledgeStore) -> None:
    """Two are searched: `planned` is one letter from both, and `planner` stands in two chunks."""
    handbook = collection(store, "handbook", "the planner", "a planner", "the planted", "a plant")

    found = spelling_of(store).read("planded", [handbook])

    assert found == Spelled(question="planted", added=("planted",))
    assert spelling_of(store).read("plannet", [handbook]).added == ("planner",)


def test_words_that_come_later_are_learned(store: KnowledgeStore) -> None:
    """What is ingested while the server runs counts with the next question, and what is deleted finds nothing any more."""
    handbook = collection(store, "handbook", "Vacation is approved.")
    spelling = spelling_of(store)
    assert spelling.read("holliday", [handbook]).added == ()

    document = put(store, "handbook", "b.md", ["A holiday is free."])
    assert spelling.read("holliday", [handbook]).added == ("holiday",)

    store.delete_document(document.id)
    assert spelling.read("holliday", [handbook]).added == ()


def test_a_large_vocabulary_is_learned_in_parts(store: KnowledgeStore) -> None:
    """No call reads more chunks than it may."""
    handbook = [collection(store, "handbook", "alpha", "gamma", "delta")]
    vocabulary = Vocabulary(store.db)

    vocabulary.learn(2)
    assert (vocabulary.near("gama", handbook), vocabulary.near("delto", handbook)) == (["gamma"], [])
    vocabulary.learn(2)
    assert vocabulary.near("delto", handbook) == ["delta"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(question=st.text(st.sampled_from("aceinotv "), max_size=30))
def test_what_a_reader_may_not_read_changes_nothing(store: KnowledgeStore, question: str) -> None:
    """With a restricted collection beside it or without, an open one's question is read alike."""
    name = "open"
    known = {c.name: c.id for c in store.list_collections()}
    handbook = known.get(name) or collection(store, name, "A vacation cannot vanish.", "Noon to nine.")
    before = spelling_of(store).read(question, [handbook])
    secret = f"secret{len(known)}"
    collection(store, secret, " ".join(f"{word}a {word}n" for word in question.split()) or "nothing")

    assert spelling_of(store).read(question, [handbook]) == before
