"""What the ops page's acts do and show: figures, training runs, the schedule, policies. Plain functions on services, a person and values.

Knows nothing of pages or of how training works: it asks for a cycle and reads rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from alignment.records import Run
from alignment.schedule import Schedule, next_time
from chatbot.answers import AnswerFigures
from chatbot.feedback_figures import FeedbackFigures
from chatbot.records import User
from knowledge_base.database import now
from knowledge_base.errors import UsageError
from ui.fragments import Act

if TYPE_CHECKING:
    from ui.wiring import Services

CHART_DAYS = 14
N_GROUNDING = 200
"""Grounding events are counted over the newest so many answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What operators look at first."""

    answers: AnswerFigures
    feedback: FeedbackFigures
    n_new: int
    """Judgements that no finished cycle has learned from."""
    n_recent: int
    """How many answers the grounding events rest on."""
    n_repaired: int
    """Of those: answers that lost an unsupported sentence."""
    n_fell_back: int
    """Of those: answers where nothing was supported and the evidence was quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """The schedule, with when it fires next and how far the other trigger is."""

    schedule: Schedule
    next_at: datetime | None
    n_new: int


def load_figures(services: Services) -> Figures:
    """Count."""
    recent = services.answers.recent(N_GROUNDING)
    reports = [answer.grounding for answer in recent if answer.grounding is not None]
    return Figures(
        answers=services.answers.figures(),
        feedback=services.feedback.stats(),
        n_new=services.new_feedback(),
        n_recent=len(recent),
        n_repaired=sum(1 for report in reports if report.dropped and not report.fell_back),
        n_fell_back=sum(1 for report in reports if report.fell_back),
    )


def fill_days(
    per_day: Sequence[tuple[str, int]], until: date, n_days: int = CHART_DAYS
) -> list[tuple[str, int]]:
    """The last days with their counts, days without any as 0.

    >>> fill_days([("2026-01-01", 3)], date(2026, 1, 2), n_days=2)
    [('2026-01-01', 3), ('2026-01-02', 0)]
    """
    counts = dict(per_day)
    days = [(until - timedelta(days=back)).isoformat() for back in range(n_days - 1, -1, -1)]
    return [(day, counts.get(day, 0)) for day in days]


def shown_run(services: Services) -> Run | None:
    """The run to watch: the active one, else the newest."""
    return services.runs.active() or next(iter(services.runs.list(1)), None)


def change_training(services: Services, user: User, act: Act) -> str:
    """Carry out start-cycle or cancel-run; returns a message.

    Raises:
        UsageError: a cycle is active already, the run has ended, or there is no such act.
        NotFoundError: there is no such run.
    """
    if act.name == "start-cycle":
        run = services.request_cycle(actor=user.name)
        return f"Run {run.id} is queued. A worker picks it up in a moment."
    if act.name == "cancel-run":
        run = services.cancel_run(act.text("run"), actor=user.name)
        return f"Run {run.id} is cancelled. Its checkpoints stay."
    raise _unknown_act(act)


def load_schedule(services: Services) -> ScheduleView:
    """The stored schedule and what it means now."""
    schedule = services.schedule.get()
    next_at = next_time(schedule.cron, now()) if schedule.cron else None
    return ScheduleView(schedule=schedule, next_at=next_at, n_new=services.new_feedback())


def save_schedule(services: Services, user: User, act: Act) -> str:
    """Store cron expression and least number of new judgements; empty fields switch a trigger off. Returns a message.

    Raises:
        UsageError: the expression or the number is not valid.
    """
    amount = act.text("min_feedback")
    if amount and not (amount.isascii() and amount.isdigit()):
        raise UsageError(
            f"the number of judgements is {amount[:40]!r}: give a whole number, or leave it empty"
        )
    schedule = services.schedule.set(
        cron=act.text("cron") or None, min_feedback=int(amount) if amount else None, actor=user.name
    )
    services.audit.record(
        user.name, "schedule.set", "cycle", cron=schedule.cron, min_feedback=schedule.min_feedback
    )
    if schedule.cron is None and schedule.min_feedback is None:
        return "The schedule is off: cycles start by hand only."
    return "The schedule is saved."


def change_policy(services: Services, user: User, act: Act) -> str:
    """Carry out promote, force-promote or roll-back; returns a message.

    Raises:
        PolicyError: the policy may not serve, or there is nothing to roll back to.
        UsageError: force without a reason, or there is no such act.
        NotFoundError: there is no such policy.
    """
    if act.name == "roll-back":
        policy = services.roll_back(actor=user.name)
        return f"{policy.id} serves again, from the next question on."
    if act.name == "promote":
        policy = services.promote(act.text("policy"), actor=user.name)
    elif act.name == "force-promote":
        policy = services.promote(act.text("policy"), actor=user.name, force=True, reason=act.text("reason"))
    else:
        raise _unknown_act(act)
    return f"{policy.id} serves from the next question on."


def _unknown_act(act: Act) -> UsageError:
    return UsageError(f"the page sent an unknown act {act.name[:40]!r}: reload it")
