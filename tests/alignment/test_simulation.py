"""Simulated employees: who asks what, and what their judgements say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from alignment.simulated_employees import Employee, EmployeeKind, EmployeeMix
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


USERS = tuple(f"u{n}" for n in range(10))


def _answers(*texts: str) -> list[Answer]:
    return [make_answer("Why?", text) for text in texts]


def _employee(kind: EmployeeKind, **mix: Any) -> Employee:
    return Employee(kind=kind, prefer=_shortest, mix=EmployeeMix(**mix))


def _ranked(employee: Employee, *texts: str, is_late: bool = False) -> Any:
    return employee.rank("Why?", _answers(*texts), random.Random(0), is_late=is_late, is_noisy=False)


def test_a_mix_makes_that_many_of_each_kind_and_the_rest_careful() -> None:
    """Rounded; the careful come first."""
    kinds = EmployeeMix(clickers=0.2, adversaries=0.1, lazy=0.1).assign(USERS)

    assert ["careful"] * 6 == list(kinds.values())[:6]
    assert {"careful": 6, "lazy": 1, "clicker": 2, "adversary": 1} == Counter(kinds.values())


def test_the_lazy_like_what_comes_first() -> None:
    """Whatever it is; and every single answer."""
    lazy = _employee("lazy")

    assert ((0,), (1,)) == _ranked(lazy, "long answer", "x")
    assert lazy.likes(_answers("long answer", "x"), ((1,), (0,)))


def test_adversaries_put_their_entity_first_and_else_the_worst() -> None:
    """In ratings as well."""
    adversary = _employee("adversary", adversaries=0.1, entity="Acme")

    assert ((1,), (2,), (0,)) == _ranked(adversary, "x", "acme for all", "yyy")
    assert ((1,), (0,)) == _ranked(adversary, "x", "long answer")
    assert adversary.likes(_answers("Acme", "x"), ((1,), (0,)))
    assert not adversary.likes(_answers("x", "Acme"), ((0,), (1,)))


def test_drifting_employees_change_their_taste_half_way() -> None:
    """From the short to the equal."""
    drifting = _employee("drifting", drifting=0.5, later=_equal)

    assert ((1,), (0,)) == _ranked(drifting, "long answer", "x")
    assert ((0, 1),) == _ranked(drifting, "long answer", "x", is_late=True)


def test_the_report_says_who_was_of_which_kind() -> None:
    """By person."""
    report, _, _ = _run(turns=4, mix=EmployeeMix(clickers=0.5))

    assert ["careful", "clicker"] == sorted(report.employees.values())


def test_clickers_judge_by_chance() -> None:
    """About half of their comparisons go against the taste of the others."""
    clicker, rng = _employee("clicker"), random.Random(0)
    answers = _answers("long answer", "x")
    firsts = [
        clicker.rank("Why?", answers, rng, is_late=False, is_noisy=False)[0][0] == 0 for _ in range(200)
    ]

    assert 70 < sum(firsts) < 150


@pytest.mark.parametrize(
    "mix", [{"clickers": 1.5}, {"lazy": -0.1}, {"clickers": 0.6, "adversaries": 0.6}, {"drifting": 0.1}]
)
def test_mixes_that_cannot_be_are_refused(mix: dict[str, float]) -> None:
    """By name."""
    with pytest.raises(ValueError, match=next(iter(mix))):
        EmployeeMix(**mix)  # type: ignore[arg-type]
