"""The queue on both databases: no job is lost, none is done twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from knowledge_base.database import Database
from knowledge_base.errors import NotFoundError, UsageError
from knowledge_base.jobs import JobQueue


@pytest.fixture
def queue(database: Database) -> JobQueue:
    """An empty queue."""
    return JobQueue(database)


def test_the_oldest_job_of_the_kind_is_claimed_first(queue: JobQueue) -> None:
    """Other kinds are left for other workers."""
    queue.enqueue("cycle", {})
    first, second = queue.enqueue("ingest", {"n": 1}), queue.enqueue("ingest", {"n": 2})

    claimed = [queue.claim(["ingest"], "w") for _ in range(3)]

    assert [first.id, second.id, None] == [job and job.id for job in claimed]
    assert claimed[0] is not None
    assert ("running", 1, "w", {"n": 1}) == (
        claimed[0].state, claimed[0].attempts, claimed[0].claimed_by, claimed[0].payload,
    )  # fmt: skip


def test_no_two_workers_get_the_same_job(queue: JobQueue) -> None:
    """Eight at once share twenty jobs without a double."""
    expected = {queue.enqueue("ingest", {}).id for _ in range(20)}

    def work(worker: int) -> list[str]:
        taken = []
        while job := queue.claim(["ingest"], f"w{worker}"):
            taken.append(job.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = [job_id for part in pool.map(work, range(8)) for job_id in part]

    assert sorted(expected) == sorted(taken)


def test_a_finished_job_holds_its_result(queue: JobQueue) -> None:
    """With progress as last reported."""
    job = queue.enqueue("ingest", {})
    queue.claim(["ingest"], "w")

    assert queue.heartbeat(job.id, "w", {"done": 3, "total": 4})
    assert queue.finish(job.id, "w", {"documents": 4})

    done = queue.get(job.id)
    assert ("done", {"documents": 4}, {"done": 3, "total": 4}) == (done.state, done.result, done.progress)
    assert done.finished_at is not None


def test_a_failed_job_says_why(queue: JobQueue) -> None:
    """One line."""
    job = queue.enqueue("ingest", {})
    queue.claim(["ingest"], "w")

    queue.fail(job.id, "w", "the disk is full")

    assert ("failed", "the disk is full") == (queue.get(job.id).state, queue.get(job.id).error)


def test_a_cancelled_job_stops_at_its_next_heartbeat(queue: JobQueue) -> None:
    """What its worker reports later is ignored."""
    job = queue.enqueue("cycle", {})
    queue.claim(["cycle"], "w")

    queue.cancel(job.id)

    assert not queue.heartbeat(job.id, "w")
    assert not queue.finish(job.id, "w", {})
    assert "cancelled" == queue.get(job.id).state
    assert "cancelled" == queue.cancel(job.id).state


def test_a_queued_job_that_is_cancelled_is_never_claimed(queue: JobQueue) -> None:
    """And one that has ended cannot be cancelled."""
    queue.cancel(queue.enqueue("cycle", {}).id)
    assert queue.claim(["cycle"], "w") is None

    job = queue.enqueue("cycle", {})
    queue.claim(["cycle"], "w")
    queue.finish(job.id, "w")
    with pytest.raises(UsageError, match="done already"):
        queue.cancel(job.id)


def test_a_dead_workers_job_is_queued_again(queue: JobQueue) -> None:
    """The late worker no longer counts."""
    job = queue.enqueue("ingest", {})
    queue.claim(["ingest"], "dead")

    changed = queue.requeue_stale(timedelta(seconds=-1))

    assert [(job.id, "queued")] == [(j.id, j.state) for j in changed]
    again = queue.claim(["ingest"], "alive")
    assert again is not None
    assert 2 == again.attempts
    assert not queue.finish(job.id, "dead", {})


def test_a_job_that_keeps_killing_its_worker_fails_with_a_reason(queue: JobQueue) -> None:
    """No crash loop."""
    job = queue.enqueue("ingest", {})
    for _ in range(2):
        queue.claim(["ingest"], "w")
        queue.requeue_stale(timedelta(seconds=-1), max_attempts=2)

    failed = queue.get(job.id)
    assert "failed" == failed.state
    assert "2 times" in (failed.error or "")


def test_a_living_workers_job_is_left_alone(queue: JobQueue) -> None:
    """Its heartbeat is young."""
    queue.enqueue("ingest", {})
    queue.claim(["ingest"], "w")

    assert [] == queue.requeue_stale(timedelta(minutes=5))


def test_a_job_put_back_does_not_count_as_an_attempt(queue: JobQueue) -> None:
    """A worker told to stop hands it on unharmed."""
    job = queue.enqueue("ingest", {})
    queue.claim(["ingest"], "w")

    assert queue.requeue(job.id, "w")

    assert ("queued", 0) == (queue.get(job.id).state, queue.get(job.id).attempts)


def test_jobs_are_listed_newest_first(queue: JobQueue) -> None:
    """By kind and state when asked."""
    old, new = queue.enqueue("ingest", {}), queue.enqueue("cycle", {})
    queue.claim(["ingest"], "w")

    assert [new.id, old.id] == [j.id for j in queue.list_jobs()]
    assert [old.id] == [j.id for j in queue.list_jobs(states=["running"])]
    assert [new.id] == [j.id for j in queue.list_jobs(kinds=["cycle"])]


def test_an_unknown_job_is_not_found(queue: JobQueue) -> None:
    """Asked for or cancelled."""
    with pytest.raises(NotFoundError):
        queue.get("nope")
    with pytest.raises(NotFoundError):
        queue.cancel("nope")
