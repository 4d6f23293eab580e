"""The schedule's decisions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alignment.schedule import Schedule, due_reason, next_time
from knowledge_base.errors import UsageError

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def schedule(**values: object) -> Schedule:
    """A schedule set a day before noon."""
    return Schedule(**{"updated_at": NOON - timedelta(days=1), **values})  # type: ignore[arg-type]


def due(when: Schedule, **values: Any) -> str | None:
    """At noon, with one judgement that has been waiting for a week, and no cycle before."""
    known = {"n_new": 1, "waiting_since": NOON - timedelta(days=7), "last_started_at": None, "at": NOON}
    return due_reason(when, **(known | values))


def test_nothing_is_due_without_a_schedule() -> None:
    """An empty schedule never starts a cycle."""
    assert due(Schedule(), n_new=10_000) is None


def test_enough_new_judgements_start_a_cycle() -> None:
    """The count reaching the minimum is the reason."""
    assert due(schedule(min_feedback=50), n_new=49) is None
    assert "50 new judgements" in str(due(schedule(min_feedback=50), n_new=50))


def test_the_clock_fires_once_per_mark() -> None:
    """A cycle started after the mark is not started again before the next one."""
    nightly = schedule(cron="0 3 * * *")

    assert due(nightly) is not None
    assert due(nightly, last_started_at=NOON - timedelta(hours=8)) is None


def test_the_clock_does_not_retrain_on_nothing() -> None:
    """Without a new judgement a cycle would only repeat the last one."""
    assert due(schedule(cron="0 3 * * *"), n_new=0, waiting_since=None) is None


def test_a_schedule_set_today_does_not_fire_for_yesterday() -> None:
    """Marks before the schedule was set do not count."""
    fresh = Schedule(cron="0 3 * * *", updated_at=NOON - timedelta(hours=1))

    assert due(fresh, n_new=5) is None


def test_a_vote_waits_for_the_next_mark_and_does_not_fire_the_last_one() -> None:
    """Nothing was waiting at three in the night; somebody votes at nine."""
    nightly, voted = schedule(cron="0 3 * * *"), NOON - timedelta(hours=3)

    assert due(nightly, waiting_since=voted) is None
    assert due(nightly, waiting_since=voted, at=NOON + timedelta(hours=14)) is None
    assert due(nightly, waiting_since=voted, at=NOON + timedelta(hours=15)) is not None


def test_a_mark_that_passed_while_no_worker_ran_is_made_up_for() -> None:
    """Something was waiting then; it does not matter how many marks were missed."""
    nightly = schedule(cron="0 3 * * *")

    assert due(nightly, waiting_since=NOON - timedelta(hours=20), at=NOON + timedelta(days=5)) is not None


@pytest.mark.parametrize("cron", ["", "every day", "61 * * * *", "0 0 31 2 *", "* * * *"])
def test_a_bad_expression_is_refused_with_an_example(cron: str) -> None:
    """The error shows what a good one looks like."""
    with pytest.raises(UsageError, match=r"0 3 \* \* \*"):
        next_time(cron, NOON)
