"""Pairs for the evidence encoder: what is right is right, what is wrong only looks right."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.encoder_pairs import EncoderPair, PairSettings, as_evidence, make_pairs
from alignment.reader_sources import SourceQuestion, SourceSentence
from tests.fakes import FakeEmbedder

PAGE = [
    SourceSentence(heading="Leave > Sick leave", text=text)
    for text in ("Tell your manager on the first day.", "You are paid for six weeks.", "A note is due on day three.")
] + [
    SourceSentence(heading="Leave > Parental leave", text="Parents are paid for sixteen weeks."),
    SourceSentence(heading="Travel", text="Book trains early."),
]  # fmt: skip


def _ask(question: str, *right: int) -> SourceQuestion:
    return SourceQuestion(
        document="page",
        kind="asked",
        question=question,
        right=tuple(PAGE[n] for n in right),
        near=tuple(sentence for n, sentence in enumerate(PAGE) if n not in right),
    )


def _make(questions: list[SourceQuestion], seed: int = 0, **settings: float) -> list[EncoderPair]:
    return make_pairs(questions, FakeEmbedder(256), PairSettings(**settings), random.Random(seed))  # type: ignore[arg-type]  # the fields' own types


def test_look_alikes_are_near_the_question_and_do_not_answer() -> None:
    """The nearest wrong sentences of all pages, and of the question's own page, best first."""
    (pair,) = _make([_ask("For how many weeks are you paid?", 1)], look_alikes=1, beside=2)

    assert (as_evidence(PAGE[1]),) == pair.right
    assert (as_evidence(PAGE[3]),) == pair.look_alikes
    assert as_evidence(PAGE[3]) == pair.beside[0]
    assert 2 == len(pair.beside)


def test_a_near_copy_of_the_answer_is_no_negative() -> None:
    """Whatever the other sentences are: what says the same is not wrong."""
    assert [] == _make([_ask("For how many weeks are you paid?", 1)], copy_cosine=-1.0)


def test_a_stretch_holds_the_answer_under_its_heading() -> None:
    """With sentences around it from the same section, and no other."""
    for seed in range(20):
        (pair,) = _make([_ask("For how many weeks am I paid?", 1)], seed)

        for stretch in pair.stretches:
            assert stretch.startswith("Leave > Sick leave\n")
            assert PAGE[1].text in stretch
            assert PAGE[3].text not in stretch


def test_a_draw_is_a_right_text_and_one_wrong_text_of_each_kind() -> None:
    """A stretch only as often as was asked for."""
    (pair,) = _make([_ask("For how many weeks am I paid?", 1)])
    rng = random.Random(0)

    assert {as_evidence(PAGE[1])} == {pair.draw_positive(0.0, rng) for _ in range(20)}
    assert set(pair.stretches) >= {pair.draw_positive(1.0, rng) for _ in range(20)}
    look_alike, beside = pair.draw_negatives(rng)
    assert look_alike in pair.look_alikes
    assert beside in pair.beside


def test_a_question_without_an_answer_makes_no_pair() -> None:
    """There is nothing to put near it."""
    assert [] == _make([_ask("Is my dog covered?")])
    assert 1 == len(_make([_ask("Is my dog covered?"), _ask("When is a note due?", 2)]))


@given(st.integers(0, 1000), st.sets(st.integers(0, 4), min_size=1, max_size=3))
def test_what_answers_is_never_a_look_alike(seed: int, right: set[int]) -> None:
    """Whatever is drawn; and the same seed draws the same."""
    questions = [_ask("For how many weeks are parents paid?", *sorted(right))]

    pairs = _make(questions, seed)

    assert pairs == _make(questions, seed)
    wrong = {text for pair in pairs for text in (*pair.look_alikes, *pair.beside)}
    assert not wrong & {as_evidence(PAGE[n]) for n in right}


@pytest.mark.parametrize(
    ("name", "value"), [("stretches", -1), ("stretch_sentences", -1), ("beside", -1), ("look_alikes", 0)]
)
def test_bad_settings_are_refused_by_name(name: str, value: float) -> None:
    """Before anything is embedded."""
    with pytest.raises(ValueError, match=name):
        PairSettings(**{name: value})  # type: ignore[arg-type]  # the point of the test
