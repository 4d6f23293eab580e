"""Deletes a person, a document or a judgement wherever Tacit keeps it: database, files, snapshots of training runs.

The order makes every step repeatable after a crash: first nothing new can come, then the runs' files, last the row that the deletion is asked for by. Knows what the parts
keep, nothing of faces. Out of reach, and said so to whoever deletes: weights that were trained before, until the next cycle replaces them, and
backups and exports that were made before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignment.rater_reviews import rename_reviewer
from alignment.run_scrub import RunScrub, remove_unfinished, scrub_run
from alignment.runs import ACTIVE_STATES, CANCELLED_BY_DELETION
from alignment.schedule import rename_actor as rename_in_schedule
from alignment.snapshot import SNAPSHOT_FOLDER
from alignment.snapshot_scrub import Deleted
from chatbot.durable_files import written_atomically
from chatbot.erasure import check_not_last_admin, erase_account, erase_document_words
from chatbot.policy_rows import rename_actor as rename_in_promotions
from chatbot.records import Judgement, JudgementKind, User
from knowledge_base.database import now
from knowledge_base.errors import StorageError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from alignment.records import Run
    from ui.wiring import Services

PASSWORDS_FILE = "demo-accounts.json"
"""In the home of a demo: the passwords of its accounts, by name."""
_ALL_RUNS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What a deletion reached beside the thing itself."""

    subject: str
    """What stands in the audit trail in place of the name."""
    n_rows: int = 0
    """Rows taken out of the snapshots of training runs."""
    cancelled_run: str | None = None
    """A run that was learning from it and was stopped."""
    policies: Sequence[str] = ()
    """Policies that learned from it; their weights stay as they are."""
    serving_learned: bool = False
    """One of them answers questions at present."""

    def advice(self) -> str:
        """What is left to do, in a sentence; empty when nothing is."""
        if self.cancelled_run:
            return f"Run {self.cancelled_run} learned from it and was stopped: start a new one."
        if self.serving_learned:
            return "The policy that serves learned from it: the next training cycle starts without it."
        return ""


def erase_person(services: Services, user: User, *, actor: str) -> Erasure:
    """Delete a person and all that is theirs; see `chatbot.erasure.erase_account`. Documents they uploaded are the company's and stay.

    Raises:
        NotFoundError: there is no such user.
        UsageError: it is the last administrator.
        StorageError: a file or the database cannot be written; repeat it.
    """
    with services.db.read() as connection:
        check_not_last_admin(connection, user.id)
    # From here on they can say nothing new, and a snapshot that is being taken leaves them out.
    services.accounts.disable(user.id)
    said = services.feedback.everything_of(user.id)
    runs = _runs_since(services)
    deleted = _deleted(services, said, user_id=user.id) if runs else Deleted(user_id=user.id)
    erasure = _scrub_runs(services, deleted, f"deleted-{user.id[:8]}", runs)
    services.runs.forget_rater(user.id)
    _forget_demo_password(services, user.name)
    with services.db.write() as connection:
        name = erase_account(connection, user.id)
        services.audit.forget_name(name, erasure.subject, connection=connection)
        services.jobs.rename_actor(connection, name, erasure.subject)
        rename_in_promotions(connection, name, erasure.subject)
        rename_in_schedule(connection, name, erasure.subject)
        rename_reviewer(connection, name, erasure.subject)
        services.audit.record(
            actor, "user.delete", erasure.subject, connection=connection, snapshot_rows=erasure.n_rows
        )
    services.db.leave_no_trace(rewrite=True)
    return erasure


def erase_document(services: Services, document_id: str, *, actor: str) -> Erasure:
    """Delete a document, its original, its words in answers, and the judgements and training rows that rest on it.

    Raises:
        NotFoundError: there is no such document.
        StorageError: a file or the database cannot be written.
    """
    document = services.knowledge.get_document(document_id)
    # The words in answers first: a crash leaves the document to be deleted again. Nothing is answered from it once its row is gone.
    _erase_document_words(services, document_id)
    deleted = Deleted(document_id=document_id)
    erasure = _scrub_runs(services, deleted, document.path, _runs_since(services))
    services.ingestor.delete_document(document_id)
    # What was answered or written into a snapshot between the first look and the end of the row.
    _erase_document_words(services, document_id)
    late = _scrub_runs(services, deleted, document.path, _runs_since(services))
    services.audit.record(
        actor, "document.delete", document.path, collection=document.collection,
        snapshot_rows=erasure.n_rows + late.n_rows,
    )  # fmt: skip
    services.db.leave_no_trace()
    return erasure if erasure.n_rows or erasure.cancelled_run else late


def withdraw_judgement(services: Services, user: User, kind: JudgementKind, subject: str) -> None:
    """Take a judgement back; what had been said goes, in training runs too.

    Raises:
        FeedbackError: there is nothing to take back.
        StorageError: a file or the database cannot be written, or a snapshot cannot be read; repeat it.
    """
    said = [
        judgement
        for judgement in services.feedback.everything_of(user.id)
        if (judgement.kind, judgement.subject) == (kind, subject)
        and judgement.answers
        and not judgement.withdrawn
    ]
    since = min((j.created_at for j in said if j.created_at is not None), default=None)
    # Most is taken back a moment after it was said, and then no run can hold it.
    before = _runs_since(services, since) if said else []
    deleted = _deleted(services, said) if before else None
    if deleted:
        # While the words are still known: once they are erased, nobody could ask again for what could not be done.
        _scrub_runs(services, deleted, subject, before)
    services.feedback.undo(user, kind, subject)
    # What was written into a snapshot between the look and the end of the words.
    finished = {run.id for run in before if run.state not in ACTIVE_STATES}
    if late := [run for run in _runs_since(services, since) if run.id not in finished]:
        _scrub_runs(services, deleted or _deleted(services, said), subject, late)
    services.db.leave_no_trace()


def _erase_document_words(services: Services, document_id: str) -> None:
    with services.db.write() as connection:
        erase_document_words(connection, document_id)


def _deleted(services: Services, said: Sequence[Judgement], *, user_id: str = "") -> Deleted:
    """Judgements that are gone, with the questions that nobody else's judgements ask."""
    gone = {judgement.id for judgement in said}
    asked = {judgement.question for judgement in said if judgement.question}
    others = services.feedback.questions_without(gone, user_id=user_id)
    return Deleted(user_id=user_id, judgements=said, questions=asked - others)


def _runs_since(services: Services, since: datetime | None = None) -> list[Run]:
    """Runs whose snapshot may hold what was said at that time or later; all that may have a snapshot for None."""
    return [run for run in services.runs.list(_ALL_RUNS) if _may_hold(run, since)]


def _may_hold(run: Run, since: datetime | None) -> bool:
    if run.feedback_until is None:
        # It ended before it took a snapshot, it may be taking one now, or it was killed when it had.
        return run.state in ACTIVE_STATES or (run.directory / SNAPSHOT_FOLDER).exists()
    return since is None or run.feedback_until >= since


def _scrub_runs(services: Services, deleted: Deleted, subject: str, runs: Sequence[Run]) -> Erasure:
    """Take it out of the runs' folders, stop a run that learns from it, and note it with the policies that did."""
    services.runs.forget_words()
    n_rows, cancelled = 0, None
    policies: list[str] = []
    failed: list[str] = []
    for run in runs:
        try:
            if not services.runs.is_worked_on(run.id):
                remove_unfinished(run.directory)
            scrub = scrub_run(run.directory, deleted, at=now())
        except StorageError as error:
            failed.append(str(error))
            continue
        failed += scrub.damaged
        n_rows += scrub.n_rows
        # Before it is stopped: one that cannot be stopped must not leave them unmarked.
        policies += _note(services, run.id, scrub)
        if _is_learning(services.runs.get(run.id), scrub) and _stop(services, run.id):
            cancelled = run.id
            policies += services.registry.note_deleted_data(run.id, only_unmarked=True)
    if failed:
        # Only now: what is wrong with one run keeps nothing in the others.
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise StorageError(f"{failed[0]}{more}")
    return Erasure(
        subject=subject,
        n_rows=n_rows,
        cancelled_run=cancelled,
        policies=policies,
        serving_learned=services.registry.serving().id in policies if policies else False,
    )


def _note(services: Services, run_id: str, scrub: RunScrub) -> Sequence[str]:
    """Note it with the run's policies; also what a deletion did that was killed before it could note it."""
    if scrub.n_rows == 0 and scrub.last_at is None:
        return []
    return services.registry.note_deleted_data(run_id, only_unmarked=scrub.n_rows == 0)


def _is_learning(run: Run, scrub: RunScrub) -> bool:
    """Whether a run works on rows that were taken out; also by a deletion that was killed before it could stop the run."""
    if run.state not in ACTIVE_STATES:
        return False
    # What was taken out before it went on, it has found out by itself.
    since = run.started_at or run.created_at
    return scrub.n_rows > 0 or (scrub.last_at is not None and scrub.last_at >= since)


def _stop(services: Services, run_id: str) -> bool:
    try:
        services.cancel_run(run_id, actor="tacit", reason=CANCELLED_BY_DELETION)
    except UsageError:
        run = services.runs.get(run_id)
        if run.state in ACTIVE_STATES and not run.promoted:
            raise
        return (
            False  # it ended at this very moment, or its policy serves and only its record is left to write
        )
    return True


def _forget_demo_password(services: Services, name: str) -> None:
    file = services.home.path / PASSWORDS_FILE
    if not file.exists():
        return
    known: dict[str, str] = json.loads(file.read_text("utf-8"))
    if known.pop(name, None) is not None:
        with written_atomically(file) as out:
            out.write(json.dumps(known, indent=1))
