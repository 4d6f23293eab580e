"""A policy's evidence is sorted by what it learned that people like to be quoted; nothing else about a turn changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot.assistant import Assistant
from chatbot.errors import GenerationError
from chatbot.evidence import EvidenceSelector
from chatbot.evidence_order import FEATURES, ORDER_FILE, EvidenceOrder, describe_sentence
from chatbot.prompt import read_prompt
from chatbot.records import EvidenceSentence, PreparedTurn
from chatbot.settings import AbstentionSettings, AssistantSettings
from chatbot.turn_preparation import in_order
from knowledge_base.records import Reader
from knowledge_base.sentence_vectors import SentenceVectors
from tests.chatbot.turn_fakes import FakeGenerator, FixedPolicies, FixedRetriever, make_passage
from tests.fakes import FakeEmbedder

ALICE = Reader(name="alice")
QUESTION = "How many days of annual leave do I get?"
TEXT = "You get 25 days of annual leave each year. Ask your manager before you book. Lunch is at noon in the hall."
PASSAGES = (
    make_passage(TEXT, 1),
    make_passage("Annual leave days are booked in the portal.", 2, heading="Portal"),
)


def _order(**weights: float) -> EvidenceOrder:
    return EvidenceOrder(weights={name: weights.get(name, 0.0) for name in FEATURES})


def _assistant(*generators: FakeGenerator, settings: AssistantSettings | None = None) -> Assistant:
    return Assistant(
        FixedRetriever(*PASSAGES),
        EvidenceSelector(SentenceVectors(FakeEmbedder(256))),
        FixedPolicies(*generators),
        settings,
        lambda: "index-7",
        abstention=AbstentionSettings(threshold=0),
    )


def _prepare(order: EvidenceOrder | None = None) -> PreparedTurn:
    return _assistant(FakeGenerator(evidence_order=order)).prepare(QUESTION, ALICE)


def _shown(prepared: PreparedTurn) -> list[str]:
    return [item.text for item in prepared.evidence]


SHORTEST_FIRST = _order(log_words=-1.0)


def test_a_policy_reads_its_evidence_in_the_order_it_learned() -> None:
    """The same sentences as without an order, the shortest now first."""
    before, after = _prepare(), _prepare(SHORTEST_FIRST)

    assert sorted(_shown(before)) == sorted(_shown(after))
    assert _shown(after) == sorted(_shown(after), key=lambda text: len(text.split()))
    assert _shown(before) != _shown(after)


def test_numbers_in_the_prompt_are_those_of_the_evidence() -> None:
    """A citation of [1] is the sentence that stands first."""
    prepared = _prepare(SHORTEST_FIRST)
    read = read_prompt(prepared.messages[-1].content)

    assert read is not None
    assert {item.number: item.text for item in prepared.evidence} == dict(read.evidence)
    assert [1, 2, 3, 4] == [item.number for item in prepared.evidence]


def test_an_order_changes_nothing_else_about_a_turn() -> None:
    """Whether the model is asked, and what was retrieved, is decided without it."""
    before, after = _prepare(), _prepare(SHORTEST_FIRST)

    assert (before.support, before.answerable, before.passages) == (
        after.support,
        after.answerable,
        after.passages,
    )


@given(st.permutations(range(4)), st.lists(st.floats(-3, 3), min_size=len(FEATURES), max_size=len(FEATURES)))
def test_the_result_does_not_depend_on_the_order_before(places: list[int], weights: list[float]) -> None:
    """So sorting twice is sorting once, whatever was learned."""
    evidence = _prepare().evidence
    order = EvidenceOrder(weights=dict(zip(FEATURES, weights, strict=True)))
    once = order.sort(QUESTION, evidence)

    assert once == order.sort(QUESTION, [evidence[place] for place in places])
    assert once == order.sort(QUESTION, once)
    assert {(e.text, e.start) for e in once} == {(e.text, e.start) for e in evidence}


def test_samples_for_another_policy_are_written_in_its_own_order() -> None:
    """A turn prepared for one policy and given to another is sorted anew."""
    plain = FakeGenerator("Ask your manager before you book [1].")
    sorted_one = FakeGenerator(
        "Ask your manager before you book [1].", policy_id="ppo-1", evidence_order=SHORTEST_FIRST
    )
    assistant = _assistant(plain, sorted_one)
    answer = assistant.sample(assistant.prepare(QUESTION, ALICE), 1, policy_id="ppo-1")[0]

    assert _shown(answer.prepared) == _shown(_prepare(SHORTEST_FIRST))
    assert "Ask your manager before you book." == answer.citations[0].text


def test_sentences_that_a_new_order_leaves_no_room_for_are_dropped_from_the_end() -> None:
    """Two passages taking turns need their headings again and again."""
    prepared = _prepare()
    kept = in_order(prepared, SHORTEST_FIRST, lambda _question, evidence, _history: len(evidence) <= 2)

    assert _shown(in_order(prepared, SHORTEST_FIRST))[:2] == _shown(kept)


def test_a_turn_without_evidence_stays_as_it_is() -> None:
    """There is nothing to sort."""
    empty = replace(_prepare(), evidence=())

    assert in_order(empty, SHORTEST_FIRST) is empty


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A bundle without one has none."""
    order = _order(similarity=2.0, has_number=-0.5)
    assert EvidenceOrder.load(tmp_path) is None
    order.save(tmp_path)

    assert order == EvidenceOrder.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"weights": {"similarity": 1}})])
def test_a_damaged_order_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    """Half an order is worse than none."""
    (tmp_path / ORDER_FILE).write_text(text)

    with pytest.raises(GenerationError, match=f"{ORDER_FILE} cannot be used .*roll back"):
        EvidenceOrder.load(tmp_path)


def test_weights_must_be_numbers_one_can_add() -> None:
    """NaN would sort by chance."""
    with pytest.raises(ValueError, match="finite"):
        _order(similarity=float("nan"))


def test_a_sentence_is_described_by_what_it_shares_with_the_question() -> None:
    """All the question's words, a third of its own, no number."""
    passage = make_passage("Annual leave is booked in the portal", 1, heading="Booking", title="")
    item = EvidenceSentence(
        number=1,
        text=passage.text,
        heading="Booking",
        similarity=0.5,
        start=0,
        end=len(passage.text),
        passage=passage,
    )
    seen = dict(zip(FEATURES, describe_sentence("annual leave", item), strict=True))

    assert (0.5, 0.6, 1.0) == (seen["similarity"], seen["passage_similarity"], seen["takes_up_question"])
    assert 0.5 == seen["keeps_to_question"]
    assert (0.0, 0.0, 1.0, 0.0) == (
        seen["heading_takes_up_question"],
        seen["has_number"],
        seen["starts_whole"],
        seen["ends_whole"],
    )
