"""What every face works with, opened from a home directory: the product's parts, and the acts that several faces share.

The parts and who implements them are in `parts`. Acts (promote, delete a document, change readers) are methods here, each with its line
in the audit trail, so that the command line, the pages and the interface cannot differ in what they do. Knows nothing of any face.

Different from a service layer: only what the faces would otherwise each do in their own way is here; for the rest they use the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from alignment.runs import CANCELLED_BY_PERSON
from chatbot.errors import SignInError
from knowledge_base.database import now
from knowledge_base.errors import AccessDeniedError, TacitError
from knowledge_base.model_files import is_at_hand
from knowledge_base.records import Collection, Job, Reader
from ui.home import open_database, open_home
from ui.parts import EMBEDDED_MODEL, Parts
from ui.profile import with_embedded_where_missing
from ui.settings import load_settings

if TYPE_CHECKING:
    from alignment.rater_records import RaterReport
    from alignment.rater_reviews import Verdict
    from alignment.records import CycleResult, ProgressFn, Run
    from chatbot.records import JudgementKind, PolicyVersion, User
    from ui.erasure import Erasure

__all__ = ["CYCLE_JOB", "EMBEDDED_MODEL", "EVERYONE", "START_GRACE", "Services", "open_services"]

CYCLE_JOB = "cycle"
START_GRACE = timedelta(seconds=60)
"""Between a run's row and its job, or the start of the work, lies a moment in which it is not abandoned."""
EVERYONE = "everyone"
"""In place of a group: every employee."""


@dataclass(frozen=True)
class Services(Parts):
    """Everything the faces (command line, pages, interface, worker) work with. One per process; safe to share between threads."""

    # People

    def user(self, name: str) -> User:
        """An account that may act.

        Raises:
            NotFoundError: there is none of that name.
            AccessDeniedError: it is disabled.
        """
        found = self.accounts.by_name(name)
        if found.disabled_at is not None:
            raise AccessDeniedError(f"the account {name} is disabled: ask an administrator")
        return found

    def reader(self, name: str | None) -> Reader:
        """The rights of this user, or the operator's at the command line, who reads all."""
        return Reader(name="operator", reads_all=True) if name is None else self.user(name).as_reader()

    def sign_in_and_audit(self, name: str, password: str) -> str:
        """A session token, with a line in the audit trail for success and failure."""
        try:
            token = self.sign_in.sign_in(name, password)
        except SignInError:
            self.audit.record(name[:64] or "nobody", "sign_in.failed", "session")
            raise
        self.audit.record(name, "sign_in", "session")
        return token

    def delete_user(self, user_id: str, *, actor: str) -> Erasure:
        """Delete a person and all that is theirs.

        Raises:
            NotFoundError: there is no such user.
            UsageError: it is the last administrator.
        """
        from ui.erasure import erase_person

        return erase_person(self, self.accounts.get(user_id), actor=actor)

    def withdraw(self, user: User, kind: JudgementKind, subject: str) -> None:
        """Take a judgement back, as the person who gave it.

        Raises:
            FeedbackError: there is nothing to take back.
        """
        from ui.erasure import withdraw_judgement

        withdraw_judgement(self, user, kind, subject)

    # Documents

    def delete_document(self, document_id: str, *, actor: str) -> Erasure:
        """Delete a document wherever its words are kept; it also leaves the next training data."""
        from ui.erasure import erase_document

        return erase_document(self, document_id, actor=actor)

    def original_file(self, document_id: str) -> Path:
        """The file as it was ingested; the caller has checked that the person may read the document."""
        return self.source_files.path(document_id)

    def change_readers(self, collection: str, group: str, *, allow: bool, actor: str) -> Collection:
        """Let a group (or `everyone`) read a collection, or stop it."""
        if group == EVERYONE:
            changed = self.knowledge.set_open(collection, allow)
        elif allow:
            changed = self.knowledge.grant(collection, group)
        else:
            changed = self.knowledge.revoke(collection, group)
        self.audit.record(
            actor, "collection.grant" if allow else "collection.revoke", collection, group=group
        )
        return changed

    # Policies and training

    def promote(self, policy_id: str, *, actor: str, force: bool = False, reason: str = "") -> PolicyVersion:
        """Let a policy answer from the next question on."""
        return self.registry.promote(policy_id, actor, force=force, reason=reason)

    def roll_back(self, *, actor: str) -> PolicyVersion:
        """Go back to the policy that served before."""
        return self.registry.rollback(actor)

    def new_feedback(self) -> int:
        """Judgements that no finished cycle has learned from."""
        return self.feedback.count_since(self.runs.last_feedback_until())

    def request_cycle(self, *, actor: str, overrides: Sequence[str] = ()) -> Run:
        """Queue a cycle for the worker.

        Raises:
            UsageError: one is waiting or running already.
        """
        self.fail_abandoned_run()
        run = self.runs.create("cycle", {"overrides": list(overrides)})
        self.jobs.enqueue(CYCLE_JOB, {"run": run.id})
        self.audit.record(actor, "cycle.request", run.id)
        return run

    def cancel_run(self, run_id: str, *, actor: str, reason: str = CANCELLED_BY_PERSON) -> Run:
        """Stop a run at its next step; one that waits is not begun."""
        run = self.runs.cancel(run_id, reason=reason)
        job = self._job_of(run_id)
        if job is not None and job.state == "queued":
            self.jobs.cancel(job.id)
        self.audit.record(actor, "run.cancel", run_id, reason=reason)
        return run

    def fail_abandoned_run(self) -> Run | None:
        """Mark the active run failed when nobody works on it and nobody will: its process was killed, or its job given up.

        Returns:
            The run, if there was such a one; it can be resumed.
        """
        run = self.runs.active()
        if run is None or self.runs.is_worked_on(run.id):
            return None
        job = self._job_of(run.id)
        if job is not None and job.state in {"queued", "running"}:
            # A running one without a living worker goes back to the queue when it has been silent long enough.
            return None
        if job is None and run.state == "queued" and now() - run.created_at < START_GRACE:
            return None
        reason = (job.error if job else None) or "the process that worked on it is gone"
        if not self.runs.fail_abandoned(run.id, f"{reason}; resume it with `tacit runs resume {run.id}`"):
            return None
        return self.runs.get(run.id)

    def _job_of(self, run_id: str) -> Job | None:
        jobs = self.jobs.list_jobs(kinds=[CYCLE_JOB])
        return next((job for job in jobs if job.payload.get("run") == run_id), None)

    def run_training(
        self, kind: str, *, overrides: Sequence[str] = (), progress: ProgressFn | None = None
    ) -> CycleResult:
        """Train now, in this process."""
        from ui.training import start_training

        return start_training(self, kind, overrides=overrides, progress=progress)

    def resume_run(self, run_id: str, *, progress: ProgressFn | None = None) -> CycleResult:
        """Go on with a run in this process."""
        from ui.training import resume_training

        return resume_training(self, run_id, progress=progress)

    def estimate_raters(self) -> RaterReport:
        """What the judgements that count now say of the people who gave them."""
        from ui.training import estimate_raters_now

        return estimate_raters_now(self)

    def review_rater(self, name: str, verdict: Verdict | None, *, actor: str, note: str = "") -> User:
        """Trust somebody's judgements, leave them out, or (None) leave them to the estimate, from the next cycle on.

        Raises:
            NotFoundError: there is nobody of that name.
        """
        user = self.accounts.by_name(name)
        if verdict is None:
            self.rater_reviews.take_back(user.id)
        else:
            self.rater_reviews.decide(user.id, verdict, actor=actor, note=note)
        self.audit.record(actor, "rater.review", user.name, verdict=verdict or "as estimated", note=note)
        return user

    # Life of the process

    def starters(self) -> list[str]:
        """Questions to suggest to somebody who has not asked yet."""
        stored = self.knowledge.get_property("starters")
        return stored.split("\n") if stored else []

    def warm_up(self) -> None:
        """Load what the first question needs, so that nobody waits for it."""
        # A whole turn but for the writing: model, embedder, index, word lists. It also builds every part once, before threads ask.
        self.assistant.prepare("warm up", Reader(name="nobody"))

    def readiness_problem(self) -> str | None:
        """Why this process cannot answer questions; None when it can."""
        try:
            self.registry.serving()
        except TacitError as error:
            return str(error)
        failure = self.serving.last_error
        return None if failure is None or self.serving.serving_id is not None else failure.error

    def close(self) -> None:
        """Let go of the database."""
        self.db.dispose()


@contextmanager
def open_services(path: Path, *, create: bool = False) -> Iterator[Services]:
    """Open a home directory.

    Args:
        path: The home directory.
        create: Make it when it does not exist.

    Raises:
        NotFoundError: it does not exist.
        StorageError: it cannot be used.
        UsageError: its settings are not legal.
    """
    home = open_home(path, create=create)
    settings, _ = with_embedded_where_missing(load_settings(home), is_at_hand)
    services = Services(home=home, settings=settings, db=open_database(home, settings.database.url or None))
    try:
        services.registry.relocate(home.policies)
        yield services
    finally:
        services.close()
