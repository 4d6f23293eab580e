"""The composition root: builds every service from a home directory, and knows which implementation serves which contract.

Nothing else in the product decides that. Heavy parts (models, the vector index) are built when first asked for, so that `tacit users
list` does not load a language model. Acts that several faces share (promote, delete a document, change readers) are methods here, each
with its line in the audit trail.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from alignment.runs import RunStore
from alignment.schedule import ScheduleStore
from chatbot.accounts import Accounts
from chatbot.answers import AnswerStore
from chatbot.audit import AuditLog
from chatbot.conversations import ConversationStore
from chatbot.errors import SignInError
from chatbot.feedback import FeedbackStore
from chatbot.passwords import Passwords
from chatbot.policies import PolicyRegistry
from chatbot.sign_in import ApiKeys, SignIn
from knowledge_base.database import Database, now
from knowledge_base.errors import AccessDeniedError, TacitError
from knowledge_base.jobs import JobQueue
from knowledge_base.records import Collection, Job, Reader
from knowledge_base.source_files import SourceFiles
from knowledge_base.store import KnowledgeStore
from ui.home import Home, open_database, open_home
from ui.settings import Settings, load_settings
from ui.uploads import Uploads

if TYPE_CHECKING:
    from alignment.records import CycleResult, ProgressFn, Run
    from chatbot.assistant import Assistant
    from chatbot.records import PolicyVersion, User
    from chatbot.serving import ServingPolicies
    from knowledge_base.embedder import SentenceTransformerEmbedder
    from knowledge_base.ingestion import Ingestor
    from knowledge_base.retriever import HybridRetriever

EMBEDDED_MODEL = Path(__file__).resolve().parent.parent / "chatbot" / "base_model"
"""The base model that ships with the product."""
CYCLE_JOB = "cycle"
START_GRACE = timedelta(seconds=60)
"""Between a run's row and its job, or the start of the work, lies a moment in which it is not abandoned."""
EVERYONE = "everyone"
"""In place of a group: every employee."""


@dataclass(frozen=True)
class Services:
    """Everything the faces (command line, pages, interface, worker) work with. One per process; safe to share between threads."""

    home: Home
    settings: Settings
    db: Database

    @functools.cached_property
    def knowledge(self) -> KnowledgeStore:
        """Collections, documents and chunks."""
        return KnowledgeStore(self.db)

    @functools.cached_property
    def accounts(self) -> Accounts:
        """People."""
        return Accounts(self.db, Passwords(self.settings.passwords))

    @functools.cached_property
    def sign_in(self) -> SignIn:
        """Sessions."""
        return SignIn(self.db, self.settings.sign_in, Passwords(self.settings.passwords))

    @functools.cached_property
    def api_keys(self) -> ApiKeys:
        """Bearer keys."""
        return ApiKeys(self.db)

    @functools.cached_property
    def conversations(self) -> ConversationStore:
        """Conversations, each its owner's."""
        return ConversationStore(self.db)

    @functools.cached_property
    def answers(self) -> AnswerStore:
        """Answers with their lineage."""
        return AnswerStore(self.db)

    @functools.cached_property
    def feedback(self) -> FeedbackStore:
        """Judgements."""
        return FeedbackStore(self.db, self.settings.feedback)

    @functools.cached_property
    def registry(self) -> PolicyRegistry:
        """Policy versions; the base model is among them from the start."""
        registry = PolicyRegistry(self.db)
        if self.settings.model.external:
            registry.ensure_base(self.settings.model.external, {}, stage="external")
        else:
            registry.ensure_base(self.settings.model.base or EMBEDDED_MODEL, {})
        return registry

    @functools.cached_property
    def audit(self) -> AuditLog:
        """Who did what."""
        return AuditLog(self.db)

    @functools.cached_property
    def jobs(self) -> JobQueue:
        """Background work."""
        return JobQueue(self.db)

    @functools.cached_property
    def runs(self) -> RunStore:
        """Training runs."""
        return RunStore(self.db, self.home.runs)

    @functools.cached_property
    def schedule(self) -> ScheduleStore:
        """When training starts by itself."""
        return ScheduleStore(self.db)

    @functools.cached_property
    def source_files(self) -> SourceFiles:
        """Originals of documents."""
        return SourceFiles(self.home.files)

    @functools.cached_property
    def uploads(self) -> Uploads:
        """Files waiting to be ingested."""
        return Uploads(
            self.home.uploads,
            self.jobs,
            self.knowledge,
            self.audit,
            max_bytes=self.settings.server.max_upload_bytes,
        )

    @functools.cached_property
    def embedder(self) -> SentenceTransformerEmbedder:
        """Text to vectors."""
        from knowledge_base.embedder import SentenceTransformerEmbedder

        return SentenceTransformerEmbedder(self.settings.embedder)

    @functools.cached_property
    def ingestor(self) -> Ingestor:
        """Documents in and out."""
        from knowledge_base.ingestion import Ingestor

        return Ingestor(
            self.knowledge,
            self.embedder,
            self.source_files,
            limits=self.settings.loading,
            chunker=self.settings.chunker,
            settings=self.settings.ingestion,
        )

    @functools.cached_property
    def retriever(self) -> HybridRetriever:
        """Question to permitted passages."""
        from knowledge_base.faiss_index import FaissIndex
        from knowledge_base.lexical import lexical_index
        from knowledge_base.live_index import LiveIndex
        from knowledge_base.retriever import HybridRetriever

        live = LiveIndex(
            self.knowledge,
            lambda: FaissIndex(self.embedder.dimension),
            embedder_version=self.embedder.version,
        )
        lexical = lexical_index(self.db, self.settings.lexical)
        return HybridRetriever(self.knowledge, live, lexical, self.embedder, self.settings.retrieval)

    @functools.cached_property
    def serving(self) -> ServingPolicies:
        """Policies ready to write."""
        from chatbot.generator import GeneratorLoader
        from chatbot.serving import ServingPolicies

        loader = GeneratorLoader(self.settings.generation, self.settings.openai)
        return ServingPolicies(self.registry, loader, self.settings.serving)

    @functools.cached_property
    def assistant(self) -> Assistant:
        """Question to answer."""
        from chatbot.assistant import Assistant
        from chatbot.evidence import EvidenceSelector

        return Assistant(
            self.retriever,
            EvidenceSelector(self.embedder, self.settings.evidence),
            self.serving,
            self.settings.assistant,
            index_version=lambda: str(self.knowledge.index_version()),
            grounding=self.settings.grounding,
            abstention=self.settings.abstention,
            owners=lambda: {c.name: c.owner for c in self.knowledge.list_collections() if c.owner},
        )

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

    # Documents

    def delete_document(self, document_id: str, *, actor: str) -> None:
        """Delete a document, its chunks and its original; it also leaves the next training data."""
        document = self.knowledge.get_document(document_id)
        self.ingestor.delete_document(document_id)
        self.audit.record(actor, "document.delete", document.path, collection=document.collection)

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

    def cancel_run(self, run_id: str, *, actor: str) -> Run:
        """Stop a run at its next step; one that waits is not begun."""
        run = self.runs.cancel(run_id)
        job = self._job_of(run_id)
        if job is not None and job.state == "queued":
            self.jobs.cancel(job.id)
        self.audit.record(actor, "run.cancel", run_id)
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
        self.runs.fail(run.id, f"{reason}; resume it with `tacit runs resume {run.id}`")
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
    settings = load_settings(home)
    services = Services(home=home, settings=settings, db=open_database(home, settings.database.url or None))
    try:
        services.registry.relocate(home.policies)
        yield services
    finally:
        services.close()
