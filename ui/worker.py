"""The worker: ingests uploads and runs training cycles as they come due. Two lanes, so that an upload never waits for a training run.

The database is the queue: a lane claims one job, heartbeats while it works, finishes it; a lane of a worker that died is noticed by its
silence and its job goes back to the queue. One that was only silent takes its job back, or stops when another worker has it. Each step does one thing and returns whether there was anything to do, so that tests call
steps and no loop. Knows nothing of HTTP.

Different from a scheduler inside the server process: training can neither block nor crash the pages.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from alignment.errors import RunCancelled
from alignment.records import StageProgress
from alignment.runs import ACTIVE_STATES, CANCELLED_BY_DELETION
from alignment.schedule import due_reason
from knowledge_base.database import new_id, now
from knowledge_base.errors import NotFoundError, TacitError
from knowledge_base.heartbeat import beating
from knowledge_base.records import Job
from ui.uploads import INGEST_JOB
from ui.wiring import CYCLE_JOB

if TYPE_CHECKING:
    from ui.wiring import Services

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
"""How often an idle lane looks for work."""
HEARTBEAT_SECONDS = 5.0
TRACES_SECONDS = 60.0
"""How often an idle worker takes out of the database's files what a deletion had to leave in them."""
STALE_AFTER = timedelta(seconds=60)
"""A running job that has been silent for so long belongs to a dead worker."""
SCHEDULER = "scheduler"


class Worker:
    """Claims and does jobs."""

    def __init__(
        self, services: Services, *, parent_pid: int | None = None, stale_after: timedelta = STALE_AFTER
    ) -> None:
        """Work on these services.

        Args:
            services: The home's services.
            parent_pid: Stop when this process is gone: a server that was killed must not leave a worker behind.
            stale_after: How long a job may be silent before it is taken from its worker.
        """
        self._services = services
        self._parent_pid = parent_pid
        self._stale_after = stale_after
        self._id = f"{os.uname().nodename}-{os.getpid()}-{new_id()[:6]}"
        self._stop = threading.Event()
        self._crash: Exception | None = None
        self._traces_at = float("-inf")

    def stop(self) -> None:
        """Finish the present step's job, then stop. A training run stops at its next report and is resumed later."""
        self._stop.set()

    def run(self) -> None:
        """Work until told to stop.

        Raises:
            Exception: what ended a lane that should have gone on; the other lane is stopped first.
        """
        lanes = [
            threading.Thread(target=self._lane, args=(step,), name=step.__name__)
            for step in (self.ingest_step, self.training_step)
        ]
        for lane in lanes:
            lane.start()
        log.info("worker_started", worker=self._id)
        while not self._stop.wait(POLL_SECONDS):
            if self._is_orphan():
                log.warning("worker_orphaned", parent=self._parent_pid)
                self.stop()
        for lane in lanes:
            lane.join()
        log.info("worker_stopped", worker=self._id)
        if self._crash is not None:
            raise self._crash

    def run_once(self) -> int:
        """Do everything that is due now. Returns how many jobs were done."""
        done = 0
        while self.ingest_step() or self.training_step():
            done += 1
        return done

    def _is_orphan(self) -> bool:
        return self._parent_pid is not None and os.getppid() != self._parent_pid

    def _lane(self, step: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            try:
                worked = step()
            except TacitError as error:
                # The database may be away for a moment; the lane must outlive that.
                log.warning("worker_step_failed", step=step.__name__, error=str(error))
                worked = False
            except Exception as error:  # noqa: BLE001 -- kept for `run`, which raises it: half a worker would look alive
                self._crash = error
                self._stop.set()
                return
            if not worked:
                self._stop.wait(POLL_SECONDS)

    def ingest_step(self) -> bool:
        """Take back jobs of dead workers, then ingest one upload; with nothing to ingest, remove what deletions left behind."""
        self._services.jobs.requeue_stale(self._stale_after, spare=self._is_asleep)
        worked = self._work_on(INGEST_JOB, self._ingest, afterwards=self._discard_upload)
        if not worked and time.monotonic() - self._traces_at >= TRACES_SECONDS:
            self._traces_at = time.monotonic()
            self._services.db.remove_traces()
        return worked

    def _is_asleep(self, job: Job) -> bool:
        # The lock on its run says more than its silence: a process that was stopped, or a laptop that slept, goes on.
        return job.kind == CYCLE_JOB and self._services.runs.is_worked_on(job.payload["run"])

    def _still_mine(self, job: Job, shown: dict[str, Any] | None = None) -> bool:
        jobs = self._services.jobs
        return jobs.heartbeat(job.id, self._id, shown) or jobs.regain(job.id, self._id)

    def training_step(self) -> bool:
        """Queue a cycle if one is due, then run one waiting cycle."""
        self._services.fail_abandoned_run()
        self.schedule_step()
        return self._work_on(CYCLE_JOB, self._train)

    def schedule_step(self) -> bool:
        """Queue a cycle when the schedule says so. Returns whether it did."""
        services = self._services
        if services.runs.active() is not None:
            return False
        # A stage that somebody ran by hand says nothing of when a cycle is due, nor does a cycle that was stopped because
        # somebody took back what it learned from: what else was waiting for it still waits.
        cycles = (run for run in services.runs.list(50) if run.kind == "cycle")
        last = next((run for run in cycles if run.reason != CANCELLED_BY_DELETION), None)
        since = services.runs.last_feedback_until()
        if last is not None and last.state in {"failed", "cancelled"}:
            # What failed on this feedback would fail again: wait for as much newer feedback, or for a person to resume it.
            since = last.created_at
        reason = due_reason(
            services.schedule.get(),
            n_new=services.feedback.count_since(since),
            waiting_since=services.feedback.oldest_since(since),
            last_started_at=last.created_at if last else None,
            at=now(),
        )
        if reason is None:
            return False
        run = services.request_cycle(actor=SCHEDULER)
        log.info("cycle_due", run=run.id, reason=reason)
        return True

    def _work_on(
        self,
        kind: str,
        do: Callable[[Job], dict[str, Any]],
        *,
        afterwards: Callable[[Job], None] | None = None,
    ) -> bool:
        jobs = self._services.jobs
        job = jobs.claim([kind], self._id)
        if job is None:
            return False
        log.info("job_started", job=job.id, kind=kind, attempt=job.attempts)
        try:
            with self._heartbeat(job):
                result = do(job)
        except RunCancelled as cancelled:
            if self._stop.is_set():
                jobs.requeue(job.id, self._id)
            else:
                jobs.fail(job.id, self._id, str(cancelled))
        except TacitError as error:
            jobs.fail(job.id, self._id, str(error))
            log.warning("job_failed", job=job.id, kind=kind, error=str(error))
        except Exception as error:
            # Recorded before it spreads: a job that crashes its worker must not be claimed for ever.
            jobs.fail(job.id, self._id, f"{type(error).__name__}: {error}")
            log.exception("job_crashed", job=job.id, kind=kind)
        else:
            jobs.finish(job.id, self._id, result)
            log.info("job_done", job=job.id, kind=kind)
        if afterwards is not None:
            afterwards(job)
        return True

    def _heartbeat(self, job: Job) -> AbstractContextManager[None]:
        name = f"heartbeat-{job.id[:6]}"
        return beating(lambda: self._still_mine(job), seconds=HEARTBEAT_SECONDS, name=name)

    def _ingest(self, job: Job) -> dict[str, Any]:
        payload, services = job.payload, self._services
        path = services.uploads.path(payload["upload"])
        if not path.exists():
            raise NotFoundError(f"the uploaded file {payload['name']} is gone: upload it again")
        report = services.ingestor.ingest_upload(payload["name"], path.read_bytes(), payload["collection"])
        failures = [f"{f.path}: {f.error}" for f in report.failed]
        services.audit.record(
            payload["actor"],
            "document.ingest",
            payload["name"],
            collection=payload["collection"],
            failures=failures,
        )
        if failures:
            raise TacitError(failures[0])
        return {"documents": report.documents, "chunks": report.chunks, "skipped": report.skipped}

    def _discard_upload(self, job: Job) -> None:
        # Only now that the job's end is recorded: killed a moment earlier, the next worker still finds the file.
        self._services.uploads.discard(job.payload["upload"])

    def _train(self, job: Job) -> dict[str, Any]:
        run = self._services.runs.get(job.payload["run"])
        if run.state not in ACTIVE_STATES:
            raise RunCancelled(f"run {run.id} was {run.state} before its turn came")

        def progress(report: StageProgress) -> None:
            if self._stop.is_set():
                raise RunCancelled("the worker is stopping; the run goes on with the next one")
            shown = {"stage": report.stage, "done": report.done, "total": report.total}
            if not self._still_mine(job, shown):
                raise RunCancelled(f"run {run.id} was cancelled, or given to another worker")

        result = self._services.resume_run(run.id, progress=progress)
        return {"policy": result.policy_id, "promoted": result.promoted, "reason": result.reason}
