"""The schedule's decisions."""

from datetime import UTC, datetime, timedelta

import pytest

from alignment.schedule import Schedule, due_reason, next_time
from knowledge_base.errors import UsageError

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def schedule(**values: object) -> Schedule:
    """A schedule set a day before noon."""
    return Schedule(**{"updated_at": NOON - timedelta(days=1), **values})  # type: ignore[arg-type]


def test_nothing_is_due_without_a_schedule() -> None:
    """An empty schedule never starts a cycle."""
    assert due_reason(Schedule(), n_new=10_000, last_started_at=None, at=NOON) is None


def test_enough_new_judgements_start_a_cycle() -> None:
    """The count reaching the minimum is the reason."""
    assert due_reason(schedule(min_feedback=50), n_new=49, last_started_at=None, at=NOON) is None
    assert "50 new judgements" in str(
        due_reason(schedule(min_feedback=50), n_new=50, last_started_at=None, at=NOON)
    )


def test_the_clock_fires_once_per_mark() -> None:
    """A cycle started after the mark is not started again before the next one."""
    nightly = schedule(cron="0 3 * * *")

    assert due_reason(nightly, n_new=1, last_started_at=None, at=NOON) is not None
    assert due_reason(nightly, n_new=1, last_started_at=NOON - timedelta(hours=8), at=NOON) is None


def test_the_clock_does_not_retrain_on_nothing() -> None:
    """Without a new judgement a cycle would only repeat the last one."""
    assert due_reason(schedule(cron="0 3 * * *"), n_new=0, last_started_at=None, at=NOON) is None


def test_a_schedule_set_today_does_not_fire_for_yesterday() -> None:
    """Marks before the schedule was set do not count."""
    fresh = Schedule(cron="0 3 * * *", updated_at=NOON - timedelta(hours=1))

    assert due_reason(fresh, n_new=5, last_started_at=None, at=NOON) is None


@pytest.mark.parametrize("cron", ["", "every day", "61 * * * *", "0 0 31 2 *", "* * * *"])
def test_a_bad_expression_is_refused_with_an_example(cron: str) -> None:
    """The error shows what a good one looks like."""
    with pytest.raises(UsageError, match=r"0 3 \* \* \*"):
        next_time(cron, NOON)
