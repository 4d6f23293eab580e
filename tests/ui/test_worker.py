"""What the worker does, one step at a time; training itself is replaced at `Services.resume_run`."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from alignment.errors import RunCancelled, TrainingError
from alignment.records import CycleResult, ProgressFn, StageProgress
from alignment.tables import schedules
from chatbot.records import JudgedAnswer, Judgement, User
from chatbot.tables import judgements
from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import UsageError
from knowledge_base.jobs import JobQueue
from knowledge_base.records import Job
from tests.ui.page_fakes import add_user
from ui.wiring import CYCLE_JOB, Services
from ui.worker import STALE_AFTER, Worker

Act = Callable[[Services, str, ProgressFn | None], CycleResult]


@pytest.fixture
def worker(services: Services) -> Worker:
    """On a home with three documents."""
    return Worker(services)


@pytest.fixture
def ann(services: Services) -> User:
    """An employee."""
    return add_user(services, "ann")


def _upload(services: Services, name: str, data: bytes, collection: str = "handbook") -> Job:
    return services.uploads.accept(name=name, stream=io.BytesIO(data), collection=collection, actor="jonas")


def _judge(services: Services, user: User, n: int) -> None:
    for _ in range(n):
        services.feedback.add(
            Judgement(
                id=new_id(),
                kind="rating",
                user_id=user.id,
                subject=new_id(),
                question="Why?",
                prompt="Why?",
                document_ids=(),
                all_open=True,
                answers=(JudgedAnswer(text="Because."),),
                label=True,
            )
        )


def _result(run_id: str) -> CycleResult:
    return CycleResult(run_id=run_id, policy_id=None, gates=(), promoted=False, reason="rejected", metrics={})


def _fake_training(monkeypatch: pytest.MonkeyPatch, act: Act) -> None:
    """Training becomes `act`; the run's row is kept as `ui.training` keeps it."""

    def resume(self: Services, run_id: str, *, progress: ProgressFn | None = None) -> CycleResult:
        self.runs.start(run_id)
        return act(self, run_id, progress)

    monkeypatch.setattr(Services, "resume_run", resume)


def _finish(services: Services, run_id: str, _progress: ProgressFn | None) -> CycleResult:
    newest = max(judgement.created_at for judgement in services.feedback.current())
    services.runs.note_feedback(run_id, newest)
    services.runs.finish(run_id, policy_id=None, gates=(), promoted=False, reason="rejected", metrics={})
    return _result(run_id)


def _break(services: Services, run_id: str, _progress: ProgressFn | None) -> CycleResult:
    services.runs.fail(run_id, "out of memory")
    raise TrainingError("out of memory")


# Uploads


def test_an_upload_becomes_a_document(services: Services, worker: Worker) -> None:
    """The job is done, the document is there, the waiting file is gone."""
    job = _upload(services, "lunch.md", b"# Lunch\n\nLunch is at noon.\n")

    assert worker.ingest_step()

    assert "done" == services.jobs.get(job.id).state
    assert "lunch.md" in {d.path for d in services.knowledge.list_documents("handbook")}
    assert not services.uploads.path(job.payload["upload"]).exists()
    assert not worker.ingest_step()


def test_an_upload_that_cannot_be_read_fails_its_job(services: Services, worker: Worker) -> None:
    """With the loader's own line, and without a leftover file."""
    job = _upload(services, "broken.pdf", b"no pdf")
    worker.ingest_step()
    failed = services.jobs.get(job.id)

    assert "failed" == failed.state
    assert "broken.pdf" in (failed.error or "")
    assert not services.uploads.path(job.payload["upload"]).exists()


def test_an_upload_into_a_collection_deleted_meanwhile_fails(services: Services, worker: Worker) -> None:
    """The worker goes on with the next."""
    first = _upload(services, "a.md", b"# A\n\nText of a.\n")
    services.ingestor.delete_collection("handbook")
    second = _upload(services, "b.md", b"# B\n\nText of b.\n", "hr-files")

    assert 2 == worker.run_once()
    assert ["failed", "done"] == [services.jobs.get(job.id).state for job in (first, second)]


def test_an_upload_whose_worker_died_is_taken_up_again(services: Services, worker: Worker) -> None:
    """A job that was claimed and then silent goes back to the queue; its file is still there."""
    job = _upload(services, "lunch.md", b"# Lunch\n\nLunch is at noon.\n")
    services.jobs.claim(["ingest"], "dead worker")
    _age(services, job)

    assert worker.ingest_step()

    assert ("done", 2) == (services.jobs.get(job.id).state, services.jobs.get(job.id).attempts)


def test_an_upload_stored_just_before_its_worker_died_is_not_reported_lost(
    services: Services, worker: Worker
) -> None:
    """Killed between storing the document and finishing the job: the second time finds it unchanged."""
    job = _upload(services, "lunch.md", b"# Lunch\n\nLunch is at noon.\n")
    claimed = services.jobs.claim(["ingest"], "dead worker")
    assert claimed is not None
    worker._ingest(claimed)
    _age(services, job)
    worker.ingest_step()
    done = services.jobs.get(job.id)

    assert "done" == done.state
    assert {"documents": 0, "chunks": 0, "skipped": 1} == done.result


def _age(services: Services, job: Job) -> None:
    from knowledge_base.tables import jobs

    with services.db.write() as connection:
        long_ago = services.jobs.get(job.id).heartbeat_at
        assert long_ago is not None
        aged = long_ago - STALE_AFTER - timedelta(seconds=1)
        connection.execute(jobs.update().where(jobs.c.id == job.id).values(heartbeat_at=aged))


def test_a_crash_in_a_job_fails_it_and_spares_the_worker(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody expected is recorded with its type."""

    def crash(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(services.ingestor, "ingest_upload", crash)
    job = _upload(services, "lunch.md", b"# Lunch")

    assert worker.ingest_step()
    assert "RuntimeError: boom" == services.jobs.get(job.id).error


def test_a_lane_that_cannot_go_on_stops_the_worker(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a worker would look alive: it ends with the error, and whoever keeps it starts a new one."""

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(JobQueue, "requeue_stale", crash)

    with pytest.raises(RuntimeError, match="boom"):
        worker.run()


# The schedule


def test_enough_judgements_start_exactly_one_cycle(services: Services, worker: Worker, ann: User) -> None:
    """Not one fewer, and not a second while the first is waiting."""
    services.schedule.set(cron=None, min_feedback=3, actor="ops")
    _judge(services, ann, 2)
    assert not worker.schedule_step()
    _judge(services, ann, 1)
    assert worker.schedule_step()

    assert not worker.schedule_step()
    assert ["queued"] == [run.state for run in services.runs.list()]
    assert 1 == len(services.jobs.list_jobs(kinds=[CYCLE_JOB]))


def test_a_finished_cycle_counts_from_its_newest_judgement(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one starts when as many are newer."""
    _fake_training(monkeypatch, _finish)
    services.schedule.set(cron=None, min_feedback=3, actor="ops")
    _judge(services, ann, 3)
    assert worker.training_step()
    assert not worker.training_step()
    _judge(services, ann, 3)

    assert worker.training_step()
    assert ["done", "done"] == [run.state for run in services.runs.list()]


def test_a_failed_cycle_is_not_repeated_on_the_same_judgements(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail again; as many newer ones give it another chance."""
    _fake_training(monkeypatch, _break)
    services.schedule.set(cron=None, min_feedback=3, actor="ops")
    _judge(services, ann, 3)
    assert worker.training_step()
    assert [("failed", "out of memory")] == [(run.state, run.reason) for run in services.runs.list()]
    assert not worker.training_step()
    _judge(services, ann, 3)

    assert worker.training_step()
    assert 2 == len(services.runs.list())


def test_a_stage_that_failed_by_hand_delays_no_cycle(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits has not been tried by any cycle."""
    _fake_training(monkeypatch, _finish)
    services.schedule.set(cron=None, min_feedback=3, actor="ops")
    _judge(services, ann, 3)
    by_hand = services.runs.create("sft", {})
    services.runs.start(by_hand.id)
    services.runs.fail(by_hand.id, "out of memory")

    assert worker.training_step()


def test_a_vote_does_not_start_the_cycle_of_a_mark_that_has_passed(
    services: Services, worker: Worker, ann: User
) -> None:
    """It was set on Friday for Sunday, and nothing was waiting on Sunday: the next one trains."""
    services.schedule.set(cron="* * * * *", min_feedback=None, actor="ops")
    week_ago = {"updated_at": now() - timedelta(days=7)}
    with services.db.write() as connection:
        connection.execute(schedules.update().values(week_ago))
    _judge(services, ann, 1)
    assert not worker.schedule_step()
    with services.db.write() as connection:
        connection.execute(judgements.update().values(created_at=now() - timedelta(minutes=2)))

    assert worker.schedule_step()


def test_without_a_schedule_nothing_starts(services: Services, worker: Worker, ann: User) -> None:
    """Judgements wait."""
    _judge(services, ann, 5)

    assert not worker.training_step()
    assert [] == list(services.runs.list())


# Cycles


def test_a_requested_cycle_is_run(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job carries the outcome."""
    _fake_training(monkeypatch, _finish)
    _judge(services, ann, 1)
    services.request_cycle(actor="priya")

    assert worker.training_step()
    job = services.jobs.list_jobs(kinds=[CYCLE_JOB])[0]
    assert ("done", {"policy": None, "promoted": False, "reason": "rejected"}) == (job.state, job.result)


def test_a_second_request_is_refused(services: Services) -> None:
    """One at a time; the line names the run."""
    run = services.request_cycle(actor="priya")

    with pytest.raises(UsageError, match=run.id):
        services.request_cycle(actor="priya")


def test_a_cancelled_request_is_never_begun(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job is cancelled too."""
    _fake_training(monkeypatch, _finish)
    run = services.request_cycle(actor="priya")
    services.cancel_run(run.id, actor="priya")

    assert not worker.training_step()
    assert "cancelled" == services.runs.get(run.id).state


def test_a_run_cancelled_behind_the_job_s_back_is_not_begun(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is what counts, not the job."""
    _fake_training(monkeypatch, _finish)
    run = services.request_cycle(actor="priya")
    services.runs.cancel(run.id)

    assert worker.training_step()
    assert "cancelled" == services.runs.get(run.id).state
    assert "failed" == services.jobs.list_jobs(kinds=[CYCLE_JOB])[0].state


def _one_step(progress: ProgressFn | None) -> None:
    assert progress is not None
    progress(StageProgress(stage="sft", done=1, total=9))


def test_stopping_puts_a_cycle_back_into_the_queue(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SIGTERM does: the run stops at its next report, and the next worker goes on with it."""

    def interrupted(services: Services, run_id: str, progress: ProgressFn | None) -> CycleResult:
        worker.stop()
        _one_step(progress)
        raise AssertionError("the report must stop the run")

    _fake_training(monkeypatch, interrupted)
    _judge(services, ann, 1)
    run = services.request_cycle(actor="priya")
    assert worker.training_step()
    job = services.jobs.list_jobs(kinds=[CYCLE_JOB])[0]
    assert ("queued", 0, "running") == (job.state, job.attempts, services.runs.get(run.id).state)

    _fake_training(monkeypatch, _finish)
    assert Worker(services).training_step()
    assert "done" == services.runs.get(run.id).state


def test_a_worker_that_lost_its_job_stops_training(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has it, or it was cancelled: two must not train the same run."""

    def robbed(services: Services, run_id: str, progress: ProgressFn | None) -> CycleResult:
        services.jobs.cancel(services.jobs.list_jobs(kinds=[CYCLE_JOB])[0].id)
        with pytest.raises(RunCancelled):
            _one_step(progress)
        raise RunCancelled("as the stage would")

    _fake_training(monkeypatch, robbed)
    services.request_cycle(actor="priya")

    assert worker.training_step()


def _aged_cycle_job(services: Services) -> Job:
    job = services.jobs.list_jobs(kinds=[CYCLE_JOB])[0]
    _age(services, job)
    return job


def test_a_worker_that_slept_goes_on_with_its_cycle(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker looks around meanwhile: it sees the lock on the run, and takes nothing away."""

    def asleep(services: Services, run_id: str, progress: ProgressFn | None) -> CycleResult:
        with services.runs.working_on(run_id):
            services.runs.start(run_id)
            _aged_cycle_job(services)
            assert 0 == Worker(services).run_once()
            _one_step(progress)
            return _finish(services, run_id, progress)

    monkeypatch.setattr(
        Services, "resume_run", lambda self, run_id, *, progress=None: asleep(self, run_id, progress)
    )
    _judge(services, ann, 1)
    run = services.request_cycle(actor="priya")
    assert worker.training_step()

    job = services.jobs.list_jobs(kinds=[CYCLE_JOB])[0]
    assert ("done", "done", 1) == (services.runs.get(run.id).state, job.state, job.attempts)


def test_a_worker_that_slept_takes_its_job_back_where_nobody_has_it(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was queued again by a worker that cannot see the lock, and is busy."""

    def asleep(services: Services, run_id: str, progress: ProgressFn | None) -> CycleResult:
        _aged_cycle_job(services)
        services.jobs.requeue_stale(STALE_AFTER)
        _one_step(progress)
        return _finish(services, run_id, progress)

    _fake_training(monkeypatch, asleep)
    _judge(services, ann, 1)
    services.request_cycle(actor="priya")
    assert worker.training_step()

    assert "done" == services.jobs.list_jobs(kinds=[CYCLE_JOB])[0].state


def test_a_worker_that_slept_stops_where_another_one_has_its_job(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves the job and the run to it."""

    def robbed(services: Services, run_id: str, progress: ProgressFn | None) -> CycleResult:
        _aged_cycle_job(services)
        services.jobs.requeue_stale(STALE_AFTER)
        services.jobs.claim([CYCLE_JOB], "the other one")
        _one_step(progress)
        raise AssertionError("the report must stop the run")

    _fake_training(monkeypatch, robbed)
    run = services.request_cycle(actor="priya")
    assert worker.training_step()

    job = services.jobs.list_jobs(kinds=[CYCLE_JOB])[0]
    assert ("running", "the other one") == (job.state, job.claimed_by)
    assert "running" == services.runs.get(run.id).state


def test_a_cycle_whose_worker_died_goes_on(
    services: Services, worker: Worker, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The silent job is queued again and the same run is done."""
    _fake_training(monkeypatch, _finish)
    _judge(services, ann, 1)
    run = services.request_cycle(actor="priya")
    job = services.jobs.claim([CYCLE_JOB], "dead worker")
    assert job is not None
    services.runs.start(run.id)
    _age(services, job)

    assert 1 == worker.run_once()
    assert "done" == services.runs.get(run.id).state


def test_a_cycle_that_keeps_killing_its_worker_is_given_up(services: Services, worker: Worker) -> None:
    """The run is marked failed with the reason and the command that resumes it."""
    run = services.request_cycle(actor="priya")
    for _ in range(3):
        job = services.jobs.claim([CYCLE_JOB], "dead worker")
        assert job is not None
        services.runs.start(run.id)
        _age(services, job)
        services.jobs.requeue_stale(STALE_AFTER)
    worker.training_step()
    failed = services.runs.get(run.id)

    assert "failed" == failed.state
    assert f"tacit runs resume {run.id}" in failed.reason


def test_a_run_of_a_killed_command_is_noticed(services: Services, worker: Worker) -> None:
    """`tacit train cycle` was killed: nobody holds the run's lock, and no job will take it up."""
    run = services.runs.create("cycle", {})
    services.runs.start(run.id)
    worker.training_step()

    assert "failed" == services.runs.get(run.id).state
    assert "is gone" in services.runs.get(run.id).reason


def test_a_run_that_somebody_works_on_is_left_alone(services: Services, worker: Worker) -> None:
    """However long it is silent."""
    run = services.runs.create("cycle", {})
    with services.runs.working_on(run.id):
        services.runs.start(run.id)
        worker.training_step()

        assert "running" == services.runs.get(run.id).state


def test_the_worker_ends_with_its_server(services: Services) -> None:
    """A server that was killed leaves no worker behind: its parent is another process by then."""
    Worker(services, parent_pid=1 << 30).run()


def test_stopping_ends_both_lanes(services: Services, worker: Worker) -> None:
    """`run` returns."""
    worker.stop()
    worker.run()


def test_jobs_survive_in_the_home(services: Services, page_home: Path) -> None:
    """Another process sees what this one queued."""
    from ui.wiring import open_services

    job = _upload(services, "lunch.md", b"# Lunch")

    with open_services(page_home) as others:
        assert "queued" == others.jobs.get(job.id).state


def test_an_idle_worker_removes_what_deletions_left_behind(
    services: Services, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a minute, because whatever is in the way may be so for long."""
    asked: list[None] = []
    monkeypatch.setattr(Database, "remove_traces", lambda _: asked.append(None))

    for _ in range(3):
        worker.ingest_step()

    assert len(asked) == 1
