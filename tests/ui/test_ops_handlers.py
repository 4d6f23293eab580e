"""The ops page's handlers: figures, runs, schedule, policies, and for ops only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from alignment.records import StageName, StageProgress
from chatbot.errors import PolicyError
from chatbot.records import User
from knowledge_base.database import now
from knowledge_base.errors import AccessDeniedError, NotFoundError, UsageError
from tests.ui.page_fakes import act, add_policy, add_user
from ui import chat_turns, ops_handlers, ops_view, policy_view
from ui.ops_page import _OpsEvents
from ui.wiring import Services


@pytest.fixture
def priya(services: Services) -> User:
    """An operator."""
    return add_user(services, "priya", "ops")


def test_figures_count_answers_and_judgements(services: Services, priya: User) -> None:
    """One answer, one thumb."""
    steps = list(
        chat_turns.ask(services, chat_turns.RunningTurns(), priya, "", "How many days of annual leave?")
    )
    answer_id = services.conversations.messages(priya.id, steps[0].conversation_id)[-1].answer_id
    services.feedback.rate(priya, str(answer_id), True)

    figures = ops_handlers.load_figures(services)

    assert (1, 1, 1) == (figures.answers.n, figures.feedback.n, figures.n_new)
    assert "100%" in ops_view.render_figures(figures, now().date())


def test_an_empty_installation_has_figures_too(services: Services) -> None:
    """No division by nothing."""
    shown = ops_view.render_figures(ops_handlers.load_figures(services), now().date())

    assert "Answers per day" in shown


def test_a_cycle_is_queued_once_and_can_be_cancelled(services: Services, priya: User) -> None:
    """A worker runs it; a second one has to wait."""
    ops_handlers.change_training(services, priya, act("start-cycle"))
    run = ops_handlers.shown_run(services)
    assert run is not None
    with pytest.raises(UsageError, match="one at a time"):
        ops_handlers.change_training(services, priya, act("start-cycle"))

    ops_handlers.change_training(services, priya, act("cancel-run", run=run.id))

    assert "cancelled" == services.runs.get(run.id).state
    assert "run.cancel" == services.audit.list(1)[0].action


@pytest.mark.parametrize("stage", ["ppo", "rloo", "best_of_n"])
def test_progress_shows_stage_numbers_and_time_left(services: Services, stage: StageName) -> None:
    """What the worker reports is what the page shows; all optimisers stand in the same place."""
    run = services.runs.create("cycle", {})
    services.runs.start(run.id)
    progress = StageProgress(stage=stage, done=3, total=12, eta_seconds=95, metrics={"objective/kl": 1.5})
    services.runs.report(run.id, progress)

    shown = ops_view.render_run(services.runs.get(run.id), 0)

    assert "3 of 12, about 1 min 35 s left" in shown
    assert "objective/kl" in shown
    assert "class='now'>PPO" in shown


@pytest.mark.parametrize(
    ("state", "word"), [("queued", "Waiting for a worker"), ("failed", "failed"), ("cancelled", "cancelled")]
)
def test_every_state_of_a_run_can_be_shown(services: Services, state: str, word: str) -> None:
    """With its reason."""
    run = services.runs.create("cycle", {})
    if state == "failed":
        services.runs.fail(run.id, "the disk is full")
    elif state == "cancelled":
        services.runs.cancel(run.id)

    assert word in ops_view.render_run(services.runs.get(run.id), 0)
    assert run.id in ops_view.render_runs(services.runs.list())


def test_the_schedule_tells_when_it_fires_next(services: Services, priya: User) -> None:
    """Both triggers, and who set them."""
    ops_handlers.save_schedule(services, priya, act("save-schedule", cron="0 3 * * *", min_feedback="200"))

    view = ops_handlers.load_schedule(services)

    assert view.next_at is not None
    assert (3, 0) == (view.next_at.hour, view.next_at.minute)
    assert "0 of 200 new judgements" in ops_view.render_schedule(view)


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "often"},
        {"cron": "99 3 * * *"},
        {"min_feedback": "-1"},
        {"min_feedback": "0"},
        {"min_feedback": "many"},
    ],
)
def test_a_schedule_that_cannot_fire_is_refused(
    services: Services, priya: User, fields: dict[str, str]
) -> None:
    """And the old one stays."""
    with pytest.raises(UsageError):
        ops_handlers.save_schedule(services, priya, act("save-schedule", **fields))

    assert ops_handlers.load_schedule(services).schedule.updated_at is None


def test_an_empty_schedule_switches_it_off(services: Services, priya: User) -> None:
    """By hand only."""
    ops_handlers.save_schedule(services, priya, act("save-schedule", cron="0 3 * * *"))

    message = ops_handlers.save_schedule(services, priya, act("save-schedule", cron="", min_feedback=""))

    assert "by hand" in message


def test_a_candidate_is_promoted_and_rolled_back(services: Services, priya: User) -> None:
    """The next question is answered by it, and then by the one before."""
    add_policy(services, "ppo-1")

    ops_handlers.change_policy(services, priya, act("promote", policy="ppo-1"))
    assert "ppo-1" == services.registry.serving().id
    ops_handlers.change_policy(services, priya, act("roll-back"))

    assert "base" == services.registry.serving().id


def test_a_rejected_policy_needs_force_and_a_reason(services: Services, priya: User) -> None:
    """The gates' word counts unless a person answers for it."""
    add_policy(services, "ppo-2", state="rejected", reason="gate win_rate failed")
    with pytest.raises(PolicyError):
        ops_handlers.change_policy(services, priya, act("promote", policy="ppo-2"))
    with pytest.raises(UsageError):
        ops_handlers.change_policy(services, priya, act("force-promote", policy="ppo-2"))

    ops_handlers.change_policy(
        services, priya, act("force-promote", policy="ppo-2", reason="judge was wrong")
    )

    assert "ppo-2" == services.registry.serving().id


def test_gates_are_told_in_plain_words(services: Services) -> None:
    """Name, verdict and the sentence with the numbers."""
    add_policy(services, "ppo-1")

    shown = policy_view.render_policies(services.registry.list(), "ppo-1")

    assert "win rate" in shown
    assert "wins 60% of 50 comparisons" in shown
    assert "passed" in shown


def test_a_gate_that_nobody_could_fail_is_not_shown_as_passed(services: Services) -> None:
    """Neither in the list nor among the sentences; bundles of earlier versions do not say, and their gates were measured."""
    gate = {"name": "abstention", "passed": True, "value": 1.0, "threshold": 0.0, "why": "Two questions."}
    add_policy(services, "ppo-1", gates=({**gate, "name": "kl"}, {**gate, "measured": False}))

    shown = policy_view.render_policies(services.registry.list(), "ppo-1")

    assert "1 of 1" in shown
    assert "1 not measured" in shown
    assert 1 == shown.count(">passed<") == shown.count(">not measured<")


def test_what_a_policy_learned_to_quote_first_is_told_in_plain_words(services: Services) -> None:
    """The strongest first, noise left out."""
    worth = {"log_words": -0.2, "takes_up_question": 0.4, "ends_whole": 0.01}
    add_policy(services, "ppo-1", manifest={"taste": {"weights": {"similarity": 1.0}, "worth": worth}})

    shown = policy_view.render_policies(services.registry.list(), "ppo-1")

    assert shown.index("takes up the question") < shown.index("<span>long</span>")
    assert "ends like a sentence" not in shown
    assert "It reads such sentences of the evidence first." in shown


def test_a_taste_that_did_not_help_is_said_to_be_left_out(services: Services) -> None:
    """Learned, measured on held-out questions, not used."""
    add_policy(services, "ppo-1", manifest={"taste": {"weights": None, "worth": {"log_words": -0.2}}})

    assert "stays in the order of similarity" in policy_view.render_policies(
        services.registry.list(), "ppo-1"
    )


@pytest.mark.parametrize("role", ["employee", "admin"])
def test_every_event_refuses_other_roles(services: Services, role: str) -> None:
    """Nothing starts, changes or shows."""
    add_user(services, "mallory", role)
    add_policy(services, "ppo-1")
    events, request = _OpsEvents(services), _request("mallory")

    refusals = [
        events.on_run(_event("start-cycle"), request)[-1],
        events.on_schedule(_event("save-schedule", cron="0 3 * * *"), request)[-1],
        events.on_policies(_event("promote", policy="ppo-1"), request)[-1],
    ]
    for direct in (events.load, lambda r: events.on_tick("", "", r)):
        with pytest.raises(AccessDeniedError):
            direct(request)

    assert all("needs the role ops" in refusal for refusal in refusals)
    assert services.runs.active() is None
    assert "base" == services.registry.serving().id


def test_an_unknown_policy_or_act_is_refused(services: Services, priya: User) -> None:
    """With a line that says so."""
    with pytest.raises(NotFoundError):
        ops_handlers.change_policy(services, priya, act("promote", policy="ppo-9"))
    with pytest.raises(UsageError, match="unknown act"):
        ops_handlers.change_policy(services, priya, act("explode"))


def _request(name: str) -> Any:
    return SimpleNamespace(username=name)


def _event(name: str, /, **fields: str) -> Any:
    return SimpleNamespace(act=name, fields={key: [value] for key, value in fields.items()})
