"""Training runs in this process: the cycle's view of the product, and the run's record from start to end.

The command line calls it directly, the worker through a job. Knows nothing of the stages themselves.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import structlog

from alignment.cycle import Cycle, CycleKind
from alignment.cycle_settings import TrainingSettings
from alignment.datasets import Permissions, question_id
from alignment.errors import RunCancelled, TrainingError
from alignment.judged_rows import read_rankings
from alignment.rater_records import KnownRaters, RaterReport
from alignment.records import CycleResult, ProgressFn, Run, StageProgress
from alignment.run_start import RunStart, begin, model_hash
from chatbot.best_of_n import REWARD_FOLDER
from chatbot.bundles import delete_bundle, new_staging, write_bundle
from chatbot.policies import BASE_ID
from chatbot.prompt import Message
from chatbot.protocols import Generator
from chatbot.records import Answer, Completion, Judgement, PolicyVersion, PreparedTurn, Sampling
from knowledge_base.errors import NotFoundError, TacitError, UsageError
from knowledge_base.records import DocumentText, Reader
from ui.parts import policy_loader
from ui.run_settings import load_training_settings

if TYPE_CHECKING:
    from ui.wiring import Services

log = structlog.get_logger(__name__)

TRAINING_READER = Reader(name="training")
"""In no group: whatever is retrieved for training, every employee may read."""
REPORT_EVERY_SECONDS = 1.0
_WEIGHT_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


class ProductWorld:
    """Implements `alignment.cycle_world.CycleWorld` over the services."""

    def __init__(self, services: Services, run_id: str) -> None:
        """Act for this run."""
        self._services = services
        self._run_id = run_id
        self._loader = policy_loader(services.settings)
        self._base_generator: Generator | None = None

    def judgements(self) -> Iterable[Judgement]:
        """The judgements that count now."""
        return self._services.feedback.current()

    def documents(self) -> Sequence[DocumentText]:
        """All documents that every employee may read."""
        knowledge = self._services.knowledge
        return [
            knowledge.read_document(document.id, TRAINING_READER)
            for document in knowledge.list_documents(reader=TRAINING_READER)
        ]

    def permissions(self) -> Permissions:
        """What may be trained on."""
        knowledge = self._services.knowledge
        return Permissions(
            open_document_ids={d.id for d in knowledge.list_documents(reader=TRAINING_READER)},
            known_document_ids={d.id for d in knowledge.list_documents()},
            active_user_ids={u.id for u in self._services.accounts.list() if u.disabled_at is None},
        )

    def known_raters(self) -> KnownRaters:
        """People's teams, and what reviewers decided about them."""
        return known_raters(self._services)

    def prepare(self, question: str) -> PreparedTurn:
        """A turn as a reader of the open collections only would get it."""
        return self._services.assistant.prepare(question, TRAINING_READER, policy_id=BASE_ID)

    def passage_weight(self) -> float:
        """What a passage's similarity adds to its sentences' when evidence is chosen."""
        return self._services.settings.evidence.passage_weight

    def render(self, messages: Sequence[Message]) -> str:
        """Messages in the base model's template."""
        if self._base_generator is None:
            self._base_generator = self._services.serving.generator(BASE_ID)
        return self._base_generator.render(messages)

    def base(self) -> PolicyVersion:
        """The base model, as a policy with a local directory."""
        base = self._services.registry.get(BASE_ID)
        if self._services.settings.model.external:
            raise TrainingError(
                "the model answers from another server and cannot be trained here: set model.base to a model of your own"
            )
        if Path(base.path).is_dir():
            return base
        return dataclasses.replace(base, path=_fetch(base.path))

    def serving(self) -> PolicyVersion:
        """The policy that a candidate would replace."""
        return self._services.registry.serving()

    def load(self, policy: PolicyVersion) -> Generator:
        """A generator for a policy, registered or not."""
        return self._loader(policy)

    def served_sampling(self) -> Sampling:
        """How answers are written when they are served."""
        return self._services.settings.assistant.sampling()

    def finish(
        self, prepared: PreparedTurn, completion: Completion, generator: Generator, sampling: Sampling
    ) -> Answer:
        """The answer that a completion amounts to."""
        return self._services.assistant.finish(prepared, completion, generator, sampling)

    def publish(self, policy: PolicyVersion, source: Path) -> PolicyVersion:
        """Copy weights into an immutable bundle and register the policy; one that is registered already is returned as it is.

        Raises:
            RunCancelled: the run was cancelled meanwhile, or taken over; nothing is registered.
        """
        try:
            return self._services.registry.get(policy.id)
        except NotFoundError:
            directory = self._services.home.policies.resolve() / policy.id
        if directory.exists():
            # A run that died between sealing the bundle and registering it: nobody can have used it.
            delete_bundle(directory)
        for abandoned in directory.parent.glob(f".{policy.id}.*.partial"):
            # Left by a process that was killed: a full disk would be fuller with every attempt.
            delete_bundle(abandoned)
        staging = new_staging(directory)
        try:
            for pattern in _WEIGHT_FILES:
                for file in source.glob(pattern):
                    if file.name != "done.json":
                        shutil.copy2(file, staging / file.name)
            if (source / REWARD_FOLDER).is_dir():
                shutil.copytree(source / REWARD_FOLDER, staging / REWARD_FOLDER)
            manifest = write_bundle(staging, directory, policy.manifest)
        except BaseException:
            if staging.exists():
                delete_bundle(staging)
            raise
        registered = dataclasses.replace(policy, path=str(directory), manifest=manifest)
        self._register(registered)
        return registered

    def _register(self, policy: PolicyVersion) -> None:
        runs = self._services.runs
        try:
            # In one transaction: a deletion stops the run and marks its policies, and would not know of one that comes later.
            self._services.registry.add(
                policy, within=lambda connection: runs.check_own(connection, self._run_id)
            )
        except RunCancelled:
            # Where another process took the run over, the bundle may be that one's by now.
            if runs.get(self._run_id).state == "cancelled":
                delete_bundle(Path(policy.path))
            raise

    def promote(self, policy_id: str) -> None:
        """Let it serve, unless the run was cancelled: both in one transaction."""
        runs = self._services.runs
        self._services.registry.promote(
            policy_id,
            f"run {self._run_id}",
            within=lambda connection: runs.note_promotion(connection, self._run_id),
        )

    def note_snapshot(self, until: datetime) -> None:
        """Remember the newest judgement that the run learns from."""
        self._services.runs.note_feedback(self._run_id, until)


def known_raters(services: Services) -> KnownRaters:
    """People's groups, and what reviewers decided about them."""
    reviews = services.rater_reviews.all()
    return KnownRaters(
        teams={user.id: sorted(user.groups) for user in services.accounts.list()},
        trusted=[review.user_id for review in reviews.values() if review.verdict == "trusted"],
        excluded=[review.user_id for review in reviews.values() if review.verdict == "excluded"],
    )


def estimate_raters_now(services: Services) -> RaterReport:
    """What the judgements that count now say of the people who gave them; a cycle leaves out the questions it measures on."""
    from alignment.raters import estimate_raters  # loads torch

    settings = load_training_settings(services)
    rows = read_rankings(services.feedback.current(), ProductWorld(services, "").permissions(), question_id)
    return estimate_raters(rows, settings.raters, known_raters(services))


def _fetch(model_id: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(model_id))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise TrainingError(
            f"the base model {model_id} cannot be fetched ({error}): set model.base to a local directory"
        ) from error


def start_training(
    services: Services, kind: str, *, overrides: Sequence[str] = (), progress: ProgressFn | None = None
) -> CycleResult:
    """Record a run and do it.

    Raises:
        UsageError: another run is active, or the settings are not legal.
        TrainingError: a stage could not go on; the run is marked failed and can be resumed.
    """
    load_training_settings(services, overrides)
    services.fail_abandoned_run()
    run = services.runs.create(kind, {"overrides": list(overrides)})
    return resume_training(services, run.id, progress=progress)


def resume_training(services: Services, run_id: str, *, progress: ProgressFn | None = None) -> CycleResult:
    """Do what is left of a run.

    Raises:
        NotFoundError: there is no such run.
        TrainingError: a stage could not go on.
        RunCancelled: somebody cancelled it, or the worker is stopping.
        UsageError: another process works on it, another run is active, or it has ended well.
    """
    settings = load_training_settings(services, services.runs.get(run_id).settings.get("overrides", []))
    with services.runs.working_on(run_id):
        active = services.runs.active()
        if active is not None and active.id != run_id:
            raise UsageError(f"run {active.id} is {active.state}: one at a time; wait for it or cancel it")
        return _work_on(services, services.runs.start(run_id), settings, progress)


def _work_on(
    services: Services, run: Run, settings: TrainingSettings, progress: ProgressFn | None
) -> CycleResult:
    report = _Report(services, run, progress)
    started = time.monotonic()
    try:
        result = _make_cycle(services, run, settings, report).run()
    except RunCancelled:
        # The row says so already, or the worker puts the run back into the queue, or another process has it.
        raise
    except TacitError as error:
        services.runs.fail(run.id, f"{error}; resume it with `tacit runs resume {run.id}`")
        raise
    except BaseException as error:
        # Ctrl-C included: a run that nobody works on must not look as if somebody did.
        why = (
            "stopped by hand" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        )
        services.runs.fail(run.id, f"{why}; resume it with `tacit runs resume {run.id}`")
        raise
    metrics = result.metrics | {"seconds": time.monotonic() - started}
    services.runs.finish(
        run.id,
        policy_id=result.policy_id,
        gates=result.gates,
        promoted=result.promoted,
        reason=result.reason,
        metrics=metrics,
    )
    log.info(
        "cycle_done",
        run=run.id,
        policy=result.policy_id,
        promoted=result.promoted,
        seconds=round(metrics["seconds"]),
    )
    return dataclasses.replace(result, metrics=metrics)


def _make_cycle(services: Services, run: Run, settings: TrainingSettings, report: ProgressFn) -> Cycle:
    """The run's cycle, with what it began with, which may be `settings`."""
    world = ProductWorld(services, run.id)
    base = Path(world.base().path)
    now = RunStart(settings=settings, base=str(base), base_hash=model_hash(base), parent=world.serving().id)
    start = begin(run.directory, now)
    return Cycle(world, start.settings, run, report, cast("CycleKind", run.kind), parent=start.parent)


class _Report:
    """Passes progress on, to the caller and to the run's row, once a second: each report waits for the disk."""

    def __init__(self, services: Services, run: Run, also: ProgressFn | None) -> None:
        self._services = services
        self._run = run
        self._also = also
        self._last = 0.0
        self._stage = ""

    def __call__(self, progress: StageProgress) -> None:
        at = time.monotonic()
        is_end = progress.done == progress.total
        if progress.stage == self._stage and not is_end and at - self._last < REPORT_EVERY_SECONDS:
            return
        self._last, self._stage = at, progress.stage
        if self._also is not None:
            self._also(progress)
        self._services.runs.report(self._run.id, progress)
