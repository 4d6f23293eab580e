"""Comparing: blind, in random order, stored with the order shown, and only on answers that were shown to the person."""

from __future__ import annotations

import random

import pytest

from chatbot.errors import FeedbackError
from chatbot.records import User
from knowledge_base.errors import NotFoundError, UsageError
from tests.ui.page_fakes import act, add_policy, add_user
from ui import compare_handlers, compare_view
from ui.wiring import Services

QUESTION = "How many days of annual leave does every employee get?"


@pytest.fixture
def amina(services: Services) -> User:
    """An employee."""
    return add_user(services, "amina")


def render(services: Services, user: User, trial: compare_handlers.Trial) -> str:
    """The trial as the page shows it."""
    return compare_view.render_trial(trial, {}, compare_handlers.next_questions(services, [QUESTION]))


def test_two_samples_of_the_serving_policy_differ(services: Services, amina: User) -> None:
    """Without a candidate there is one policy, sampled until it says two things."""
    trial = compare_handlers.draw_trial(services, amina, QUESTION)

    assert 2 == len({answer.text for answer in trial.answers})
    assert {"base"} == {answer.policy_id for answer in trial.answers}


def test_a_newer_candidate_is_compared_with_the_serving_policy(services: Services, amina: User) -> None:
    """Employees judge what might serve next."""
    add_policy(services, "ppo-1")

    trial = compare_handlers.draw_trial(services, amina, QUESTION)

    assert {"base", "ppo-1"} == {answer.policy_id for answer in trial.answers}


def test_nothing_tells_who_wrote_what_before_the_verdict(services: Services, amina: User) -> None:
    """Blind before, revealed after."""
    add_policy(services, "ppo-1")
    trial = compare_handlers.draw_trial(services, amina, QUESTION)
    before = render(services, amina, trial)
    compare_handlers.judge_pair(services, amina, trial.ids, "left")

    after = render(services, amina, compare_handlers.load_trial(services, amina, trial.ids))

    assert "ppo-1" not in before
    assert "ppo-1" in after


def test_the_order_is_drawn_anew_each_time(services: Services, amina: User) -> None:
    """Either policy may stand on the left."""
    add_policy(services, "ppo-1")

    lefts = {
        compare_handlers.draw_trial(services, amina, QUESTION, shuffle=random.Random(seed))
        .answers[0]
        .policy_id
        for seed in range(6)
    }

    assert {"base", "ppo-1"} == lefts


@pytest.mark.parametrize(
    ("verdict", "ranking", "both_bad"),
    [
        ("left", [[0], [1]], False),
        ("right", [[1], [0]], False),
        ("tie", [[0, 1]], False),
        ("both bad", [[0, 1]], True),
    ],
)
def test_a_verdict_is_stored_with_the_order_shown(
    services: Services, amina: User, verdict: str, ranking: list[list[int]], both_bad: bool
) -> None:
    """Left is the first id."""
    trial = compare_handlers.draw_trial(services, amina, QUESTION)

    compare_handlers.judge_pair(services, amina, trial.ids, verdict)

    kept = compare_handlers.load_trial(services, amina, trial.ids).judgement
    assert kept is not None
    assert ranking == [list(group) for group in kept.ranking]
    assert [0, 1] == list(kept.displayed_order)
    assert both_bad == kept.both_bad


def test_several_answers_are_ranked_with_ties(services: Services, amina: User) -> None:
    """Equal places are equals."""
    trial = compare_handlers.draw_trial(services, amina, QUESTION, n_answers=3)
    places = dict(zip(trial.ids, ("2", "1", "2"), strict=True))

    compare_handlers.judge_ranking(
        services, amina, trial.ids, act("rank", **{f"rank-{i}": p for i, p in places.items()})
    )

    kept = compare_handlers.load_trial(services, amina, trial.ids).judgement
    assert kept is not None
    assert "ranking" == kept.kind
    assert [[1], [0, 2]] == [list(group) for group in kept.ranking]


def test_a_missing_place_is_refused(services: Services, amina: User) -> None:
    """Half a ranking is none."""
    trial = compare_handlers.draw_trial(services, amina, QUESTION, n_answers=3)

    with pytest.raises(UsageError, match="place"):
        compare_handlers.judge_ranking(services, amina, trial.ids, act("rank"))


def test_a_verdict_can_be_taken_back(services: Services, amina: User) -> None:
    """Then the buttons are there again."""
    trial = compare_handlers.draw_trial(services, amina, QUESTION)
    compare_handlers.judge_pair(services, amina, trial.ids, "tie")

    compare_handlers.undo(services, amina, trial.ids)

    assert "A is better" in render(services, amina, compare_handlers.load_trial(services, amina, trial.ids))


def test_answers_shown_to_another_person_cannot_be_judged(services: Services, amina: User) -> None:
    """Their ids open nothing."""
    trial = compare_handlers.draw_trial(services, amina, QUESTION)
    mallory = add_user(services, "mallory")

    with pytest.raises(FeedbackError):
        compare_handlers.judge_pair(services, mallory, trial.ids, "left")
    with pytest.raises(NotFoundError):
        compare_handlers.load_trial(services, mallory, trial.ids)


def test_only_ops_choose_policies(services: Services, amina: User) -> None:
    """An employee's request for a policy is refused, whatever the page shows."""
    add_policy(services, "ppo-1")
    priya = add_user(services, "priya", "ops")

    with pytest.raises(UsageError):
        compare_handlers.draw_trial(services, amina, QUESTION, wanted=["ppo-1", "base"])

    assert ["ppo-1", "base"] == compare_handlers.choose_policies(services, priya, ["ppo-1", ""])
    assert not compare_handlers.choosable_policies(services, amina)


def test_a_rejected_policy_writes_for_nobody(services: Services) -> None:
    """It failed its gates."""
    add_policy(services, "ppo-2", state="rejected", reason="gate failed")
    priya = add_user(services, "priya", "ops")

    with pytest.raises(UsageError):
        compare_handlers.choose_policies(services, priya, ["ppo-2", "base"])


def test_equal_refusals_are_no_comparison(services: Services, amina: User) -> None:
    """A question far from the documents gets one refusal and no buttons."""
    trial = compare_handlers.draw_trial(services, amina, "Zebra quantum flute?")

    assert 1 == len(trial.answers)
    assert "nothing to compare" in render(services, amina, trial)
