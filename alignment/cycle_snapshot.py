"""The snapshot of a cycle: taken once, and looked at again when a killed run goes on.

Knows nothing of what is learned from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.datasets import build_snapshot
from alignment.errors import TrainingError
from alignment.finished_stages import FinishedStages
from alignment.records import DatasetSnapshot, ProgressFn, Run
from alignment.snapshot import SNAPSHOT_FOLDER, LoadedSnapshot, load_snapshot
from alignment.snapshot_check import what_is_gone
from knowledge_base.database import now

log = structlog.get_logger(__name__)

_ATTEMPTS = 3
"""Times that a snapshot is taken when something in it is deleted or taken back at that very moment."""


def take_snapshot(
    world: CycleWorld,
    settings: TrainingSettings,
    run: Run,
    finished: FinishedStages,
    progress: ProgressFn,
) -> LoadedSnapshot:
    """What counts now, or what counted when the run began.

    Args:
        world: The rest of the product.
        settings: Of all stages.
        run: Its directory gets the snapshot.
        finished: The run's stages that are done.
        progress: See `ProgressFn`; stage `snapshot`.

    Raises:
        TrainingError: something that the run learns from was deleted, closed, edited or withdrawn since it began: it must not be in the next policy.
    """
    out_dir = run.directory / SNAPSHOT_FOLDER

    def build() -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            taken_at = now()
            snapshot = build_snapshot(
                world.judgements(),
                world.documents(),
                prepare=world.prepare,
                render=world.render,
                permissions=world.permissions(),
                out_dir=out_dir,
                settings=settings.snapshot,
                seed=settings.cycle.seed,
                raters=settings.raters,
                known=world.known_raters(),
                progress=progress,
            )
            # It was read from the database minutes ago: what went meanwhile, whoever deleted it could not find here yet.
            gone = what_is_gone(load_snapshot(snapshot.path), world.judgements(), world.permissions())
            if not gone:
                return {"path": finished.stored(snapshot.path), "taken_at": taken_at.isoformat()}
            log.info("snapshot_taken_again", run=run.id, gone=gone)
            shutil.rmtree(snapshot.path)
        raise _refusal(gone)

    is_resumed = finished.has("snapshot")
    stored = finished.once("snapshot", build)
    data = load_snapshot(finished.found(stored["path"]))
    if is_resumed:
        _check(
            data, world, taken_at=datetime.fromisoformat(stored.get("taken_at", run.created_at.isoformat()))
        )
    return data


def _check(data: LoadedSnapshot, world: CycleWorld, *, taken_at: datetime) -> None:
    """Refuse to go on with what may not be learned from any more."""
    edited = {text.document.id for text in world.documents() if text.document.updated_at > taken_at}
    gone = what_is_gone(data, world.judgements(), world.permissions(), edited_document_ids=edited)
    n_scrubbed = sum(scrub.n_rows for scrub in data.snapshot.scrubs)
    if data.snapshot.scrubs:
        # What was taken out of the rows may be in the stages that are done.
        gone.append(f"{n_scrubbed} rows taken out" if n_scrubbed != 1 else "1 row taken out")
    if gone:
        raise _refusal(gone)


def _refusal(gone: Sequence[str]) -> TrainingError:
    return TrainingError(
        f"this run learns from what was deleted, closed, edited or withdrawn since it began ({', '.join(gone)}): "
        "it cannot go on; start a new one with `tacit train cycle`"
    )


def counts_of(snapshot: DatasetSnapshot) -> dict[str, Any]:
    """What a run's record says of its snapshot."""
    return {
        "hash": snapshot.hash,
        "judgements": snapshot.n_judgements,
        "demonstrations": snapshot.n_demonstrations,
        "derived": snapshot.n_derived,
        "questions": snapshot.n_questions,
        "left_out": snapshot.left_out,
    }
