"""Simulated employees: who asks what, and what their judgements say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from alignment.simulation import SimulationReport, SimulationSettings, simulate
from chatbot.judgements import check_judgement
from chatbot.records import Answer, Judgement, PreparedTurn, Sampling
from knowledge_base.records import Reader
from tests.alignment.answers import make_answer, make_prepared

QUESTIONS = ("Why?", "When?", "Where?")
READERS = (Reader(name="sim-01"), Reader(name="sim-02", groups=frozenset({"hr"})))


class ScriptedAssistant:
    """Gives answers of 1, 2, 3, ... letters to each turn, the longest first."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.samplings: list[Sampling] = []

    def prepare(
        self, question: str, reader: Reader, *, collections: Sequence[str] | None = None
    ) -> PreparedTurn:
        """Without evidence."""
        self.readers.append(reader)
        return make_prepared(question)

    def sample_many(
        self, prepared: Sequence[PreparedTurn], n: int, sampling: Sampling, policy_id: str | None = None
    ) -> list[list[Answer]]:
        """As the class says."""
        self.samplings.append(sampling)
        return [[self._answer(turn, i) for i in range(n, 0, -1)] for turn in prepared]

    def _answer(self, turn: PreparedTurn, length: int) -> Answer:
        answer = make_answer(turn.question, "x" * length)
        return replace(answer, prepared=turn, completion="x" * length)


def _shortest(_question: str, answers: Sequence[Answer]) -> list[list[int]]:
    return [[i] for i in sorted(range(len(answers)), key=lambda i: len(answers[i].text))]


def _equal(_question: str, answers: Sequence[Answer]) -> list[list[int]]:
    return [list(range(len(answers)))]


def _run(
    prefer: Any = _shortest, **settings: Any
) -> tuple[SimulationReport, list[Judgement], ScriptedAssistant]:
    stored: list[Judgement] = []
    assistant = ScriptedAssistant()
    report = simulate(
        QUESTIONS,
        prefer,
        assistant,
        user_ids=["1", "2"],
        readers=READERS,
        collections=None,
        store_answer=lambda _answer, _user: None,
        store_judgement=stored.append,
        settings=SimulationSettings(**{"turns": 12, "users": 2} | settings),
    )
    return report, stored, assistant


def test_every_judgement_is_one_that_the_store_takes() -> None:
    """Of every kind."""
    _, stored, _ = _run(turns=40, noise=0.3)

    assert {"rating", "comparison", "ranking", "demonstration"} == {judgement.kind for judgement in stored}
    for judgement in stored:
        check_judgement(judgement)


def test_the_report_counts_what_was_stored() -> None:
    """Turns, kinds, ties."""
    report, stored, _ = _run(_equal, kinds=("ranking",))

    assert (12, {"ranking": 12}, 12, 0) == (report.turns, report.by_kind, report.ties, report.noisy)
    assert 12 == len(stored)


def test_the_same_seed_gives_the_same_judgements() -> None:
    """Another one does not."""

    def essence(seed: int) -> list[tuple[Any, ...]]:
        return [(j.kind, j.user_id, j.question, j.ranking, j.label) for j in _run(seed=seed, noise=0.5)[1]]

    assert essence(3) == essence(3)
    assert essence(3) != essence(4)


def test_every_question_is_asked_before_any_is_asked_again() -> None:
    """So that few turns cover many questions."""
    _, stored, _ = _run(turns=6)

    assert set(QUESTIONS) == {j.question for j in stored[:3]} == {j.question for j in stored[3:]}


def test_a_rating_says_whether_the_answer_shown_is_the_favourite() -> None:
    """The first sample is shown; here it is the longest, and only who finds all equal likes it."""
    assert {False} == {j.label for j in _run(_shortest, kinds=("rating",))[1]}
    assert {True} == {j.label for j in _run(_equal, kinds=("rating",))[1]}


def test_a_demonstration_is_the_favourite() -> None:
    """One letter is the shortest."""
    _, stored, _ = _run(kinds=("demonstration",))

    assert {"x"} == {j.answers[0].text for j in stored}


def test_noise_makes_that_share_of_judgements_random() -> None:
    """All of them at 1: then the favourite does not always win."""
    report, stored, _ = _run(turns=40, kinds=("comparison",), noise=1.0)

    assert 40 == report.noisy
    assert 1 < len({j.ranking for j in stored})


def test_each_person_asks_with_their_own_rights() -> None:
    """The reader belongs to the user."""
    _, stored, assistant = _run()
    by_user = dict(zip(("1", "2"), READERS, strict=True))

    assert [by_user[j.user_id] for j in stored] == assistant.readers


def test_no_two_batches_draw_the_same_numbers() -> None:
    """The same seed for all would repeat the same answers."""
    _, _, assistant = _run()

    assert len(assistant.samplings) == len({sampling.seed for sampling in assistant.samplings}) > 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("turns", 0),
        ("noise", 2),
        ("kinds", ("shout",)),
        ("kinds", ()),
        ("temperature", 0),
        ("max_new_tokens", 0),
    ],
)
def test_bad_settings_are_named(name: str, value: object) -> None:
    """With what is legal."""
    with pytest.raises(ValueError, match=name):
        SimulationSettings(**{name: value})  # type: ignore[arg-type]  # wrong on purpose
