"""Which candidates pass, and what ops read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from alignment.gate_settings import GateSettings
from alignment.gates import BaseComparison, explain, gates_passed, run_gates
from alignment.policy_metrics import PolicyMetrics
from alignment.records import GateResult
from alignment.suites import SuiteName, SuiteResult
from alignment.win_rate import WinRate

PARENT = PolicyMetrics(
    n_questions=60,
    key_fact_recall=0.40,
    overlap=0.30,
    groundedness=0.90,
    abstention_f1=0.70,
    n_unanswerable=60,
    mean_words=30,
    abstained_share=0.1,
)
WIN = WinRate(win_rate=0.62, interval=(0.53, 0.71), n=60, judge="reward_model")


def _run(
    candidate: PolicyMetrics = PARENT,
    win: WinRate = WIN,
    *,
    n: int = 100,
    kl: float | None = 2.0,
    suites: Sequence[tuple[SuiteResult, SuiteResult]] = (),
) -> list[GateResult]:
    return run_gates(candidate, PARENT, win, GateSettings(), n_judgements=n, kl=kl, suites=suites)


def _failed(gates: list[GateResult]) -> list[str]:
    return [gate.name for gate in gates if not gate.passed]


def test_a_better_and_otherwise_equal_candidate_passes() -> None:
    """All gates."""
    gates = _run()

    assert gates_passed(gates)
    assert "All 8 gates passed" in explain(gates)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"key_fact_recall": 0.37}, "key_facts"),
        ({"overlap": 0.27}, "overlap"),
        ({"groundedness": 0.87}, "groundedness"),
        ({"abstention_f1": 0.60}, "abstention"),
        ({"mean_words": 10.0}, "length"),
        ({"mean_words": 50.0}, "length"),
    ],
)
def test_getting_worse_in_one_thing_fails_that_gate(change: dict[str, float], gate: str) -> None:
    """And only that one."""
    gates = _run(replace(PARENT, **change))  # type: ignore[arg-type]  # all changes are floats

    assert [gate] == _failed(gates)


def test_two_points_are_allowed_exactly() -> None:
    """0.40 to 0.38 passes in spite of binary fractions."""
    assert [] == _failed(_run(replace(PARENT, key_fact_recall=0.38)))


def test_a_lead_that_may_be_luck_fails() -> None:
    """The interval reaches below one half."""
    assert ["win_rate"] == _failed(_run(win=replace(WIN, interval=(0.48, 0.70))))


def test_with_few_questions_the_rate_itself_decides() -> None:
    """No believable lead clears the interval with 20 questions."""
    few = replace(WIN, n=20, win_rate=0.66, interval=(0.44, 0.83))

    assert [] == _failed(_run(win=few))
    assert ["win_rate"] == _failed(_run(win=replace(few, win_rate=0.6)))


def test_with_hardly_any_questions_nothing_passes() -> None:
    """Five of five prove nothing."""
    assert ["win_rate"] == _failed(_run(win=replace(WIN, n=5, win_rate=1.0, interval=(0.57, 1.0))))


def test_a_refusal_or_two_fewer_among_a_dozen_is_luck() -> None:
    """Of 13 questions without an answer the parent refused one; three would be more than luck, and so would one in many."""
    few = replace(PARENT, abstention_f1=0.133, n_unanswerable=13)
    silent = replace(few, abstention_f1=0.0)

    def abstains(candidate: PolicyMetrics, parent: PolicyMetrics, **changes: int) -> bool:
        gates = run_gates(candidate, parent, WIN, GateSettings(**changes), n_judgements=100)
        return next(gate.passed for gate in gates if gate.name == "abstention")

    assert abstains(silent, few)
    assert not abstains(silent, replace(few, abstention_f1=0.4))
    assert not abstains(silent, few, abstention_luck=0)
    assert not abstains(replace(silent, n_unanswerable=100), replace(few, n_unanswerable=100))


BEATS_BASE = replace(WIN, win_rate=0.6, interval=(0.52, 0.68))


BASE = replace(PARENT, key_fact_recall=0.30, overlap=0.25, groundedness=0.85, abstention_f1=0.6)


def _refresh(
    win: WinRate = WIN,
    over_base: WinRate = BEATS_BASE,
    *,
    candidate: PolicyMetrics = PARENT,
    base: PolicyMetrics = BASE,
) -> list[str]:
    compared = BaseComparison(metrics=base, win=over_base)
    return _failed(run_gates(candidate, PARENT, win, GateSettings(), n_judgements=100, kl=2.0, base=compared))


def test_a_learned_parent_is_replaced_by_a_candidate_that_is_not_worse() -> None:
    """Else the first promoted policy, and votes withdrawn since, would serve for ever."""
    assert [] == _refresh(replace(WIN, win_rate=0.5, interval=(0.41, 0.59)))
    assert ["win_rate"] == _refresh(replace(WIN, win_rate=0.46, interval=(0.38, 0.54)))


def test_not_worse_than_a_learned_parent_is_not_enough_when_the_base_model_is_as_good() -> None:
    """A chain of policies, each hardly worse than the last, would end anywhere."""
    equal = replace(WIN, win_rate=0.5, interval=(0.41, 0.59))

    assert ["win_rate_over_base"] == _refresh(WIN, over_base=equal)


def test_with_few_questions_not_worse_means_half_of_them() -> None:
    """The interval says nothing there."""
    few = replace(WIN, n=20, win_rate=0.5, interval=(0.3, 0.7))

    assert [] == _refresh(few)
    assert ["win_rate"] == _refresh(replace(few, win_rate=0.45))


def test_a_small_drop_against_a_learned_parent_is_chance_and_a_large_one_is_not() -> None:
    """Four points pass, six do not, while the base model is still surpassed."""
    assert [] == _refresh(candidate=replace(PARENT, overlap=0.26))
    assert ["overlap"] == _refresh(candidate=replace(PARENT, overlap=0.24))


def test_small_drops_do_not_add_up_below_the_base_model() -> None:
    """The parent had already lost what may be lost."""
    good_base = replace(BASE, groundedness=0.91)

    assert ["groundedness_over_base"] == _refresh(
        candidate=replace(PARENT, groundedness=0.88), base=good_base
    )


def test_answers_do_not_grow_by_half_with_every_policy() -> None:
    """Length is held against the base model, whatever the parent's."""
    assert ["length"] == _refresh(candidate=replace(PARENT, mean_words=35), base=replace(BASE, mean_words=22))


def test_moving_too_far_fails() -> None:
    """Also when the KL is not a number."""
    assert ["kl"] == _failed(_run(kl=11.0))
    assert ["kl"] == _failed(_run(kl=float("nan")))


def test_too_few_judgements_fail() -> None:
    """One person's afternoon is no mandate."""
    assert ["judgements"] == _failed(_run(n=5))


def test_checks_that_cannot_be_made_are_left_out() -> None:
    """No key facts, no references, no unanswerable questions, no PPO."""
    bare = replace(PARENT, key_fact_recall=None, overlap=None, abstention_f1=None)
    names = [gate.name for gate in _run(bare, kl=None)]

    assert ["win_rate", "groundedness", "length", "judgements"] == names


def test_a_policy_that_learned_to_always_refuse_fails() -> None:
    """It has no supported sentences and no length."""
    mute = replace(
        PARENT, groundedness=0.0, mean_words=0.0, key_fact_recall=0.0, overlap=0.0, abstained_share=1.0
    )

    assert {"groundedness", "length", "key_facts"} <= set(_failed(_run(mute)))


def test_the_sentence_holds_the_numbers() -> None:
    """What ops read when a candidate is rejected."""
    assert "Key facts: 0.370, its parent's 0.400; at least 0.380 is needed." == explain(
        _run(replace(PARENT, key_fact_recall=0.37))
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_win_rate_low", 1.0),
        ("min_win_rate_parent", 1.0),
        ("min_member_win_rate", 1.0),
        ("max_key_fact_drop", -0.1),
        ("min_length_ratio", 2.0),
        ("parent_slack", -0.1),
        ("max_kl", 0.0),
        ("small_n", -1),
    ],
)
def test_bars_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=name):
        GateSettings(**{name: value})  # type: ignore[arg-type]  # the point of the test


def _suite(n: int, fell: int, name: SuiteName = "injection") -> SuiteResult:
    return SuiteResult(name=name, n=n, n_fell=fell)


def test_a_candidate_that_falls_for_more_traps_than_its_parent_fails() -> None:
    """By more than chance, and above the bar."""
    assert ["injection"] == _failed(_run(suites=[(_suite(40, 9), _suite(40, 1))]))


def test_a_trap_or_two_more_are_chance() -> None:
    """The bar of a twentieth of forty, and two."""
    assert [] == _failed(_run(suites=[(_suite(40, 4), _suite(40, 0))]))
    assert ["injection"] == _failed(_run(suites=[(_suite(40, 5), _suite(40, 0))]))


def test_what_the_parent_falls_for_as_often_is_not_the_candidates_fault() -> None:
    """Else nothing could ever replace it."""
    assert [] == _failed(_run(suites=[(_suite(40, 20), _suite(40, 20))]))


def test_each_suite_is_a_gate_of_its_own_that_names_its_numbers() -> None:
    """So that ops know what to look at."""
    names: tuple[SuiteName, ...] = ("faithfulness", "sycophancy", "injection")
    gates = _run(suites=[(_suite(10, 0, name), _suite(10, 0, name)) for name in names])

    assert list(names) == [gate.name for gate in gates if gate.name in names]
    assert all("0 of 10" in gate.why for gate in gates if gate.name in names)


def test_a_suite_without_a_trap_is_left_out() -> None:
    """Nothing was tried."""
    assert "injection" not in {gate.name for gate in _run(suites=[(_suite(0, 0), _suite(0, 0))])}


def test_what_one_member_of_the_judge_rejects_does_not_serve() -> None:
    """However much the others like it; the sentence names all of them."""

    def run(*wins: float) -> list[GateResult]:
        return run_gates(PARENT, PARENT, WIN, GateSettings(), n_judgements=100, member_wins=wins)

    assert _failed(run(0.6, 0.7, 0.39, 0.65)) == ["ensemble"]
    assert "in 39%, 60%, 65%, 70% of the questions" in explain(run(0.6, 0.7, 0.39, 0.65))
    assert _failed(run(0.6, 0.7, 0.41, 0.65)) == []


def _named(gates: list[GateResult], name: str) -> GateResult:
    return next(gate for gate in gates if gate.name == name)


@pytest.mark.parametrize(("n", "measured"), [(1, False), (2, False), (3, True), (13, True)])
def test_what_nobody_could_fail_is_not_measured(n: int, measured: bool) -> None:
    """Two questions may be refused less by chance, and two traps more be fallen into: of one or two nobody could fail. The worst there is fails where it is measured."""
    perfect = replace(PARENT, abstention_f1=1.0, n_unanswerable=n)
    worst = replace(perfect, abstention_f1=0.0)
    gates = run_gates(
        worst, perfect, WIN, GateSettings(), n_judgements=100, suites=[(_suite(n, n), _suite(n, 0))]
    )

    for name in ("abstention", "injection"):
        gate = _named(gates, name)
        assert (measured, not measured) == (gate.measured, gate.passed)
        assert ("not measured" in gate.why) == (not measured)


def test_what_is_not_measured_is_told_and_counted_apart() -> None:
    """A promotion with six checks and two that said nothing is not one with eight."""
    gates = _run(replace(PARENT, n_unanswerable=1), suites=[(_suite(2, 2), _suite(2, 0))])

    assert gates_passed(gates)
    assert "All 7 gates passed, 2 could not be measured (abstention, injection)." in explain(gates)


def test_a_parent_that_never_refused_leaves_nothing_to_measure() -> None:
    """However many questions: there is nothing to lose."""
    never = replace(PARENT, abstention_f1=0.0)
    gates = run_gates(never, never, WIN, GateSettings(), n_judgements=100)

    assert not _named(gates, "abstention").measured


def test_the_length_against_a_parent_that_never_answered_is_not_measured() -> None:
    """Any length would do."""
    mute = replace(PARENT, mean_words=0.0)

    assert not _named(run_gates(PARENT, mute, WIN, GateSettings(), n_judgements=100), "length").measured


def test_what_is_not_measured_stops_a_candidate_where_that_is_asked() -> None:
    """For a company that rather waits for more questions; why it was stopped is told."""
    few = replace(PARENT, n_unanswerable=2)
    gates = run_gates(few, few, WIN, GateSettings(unmeasured_blocks=True), n_judgements=100)

    assert ["abstention"] == _failed(gates)
    assert "with 2 questions that have no answer nobody could fall too far" in explain(gates)


def test_a_single_member_is_no_ensemble() -> None:
    """Its verdict is the win rate itself."""
    gates = run_gates(PARENT, PARENT, WIN, GateSettings(), n_judgements=100, member_wins=[0.1])
    assert "ensemble" not in [gate.name for gate in gates]
