"""The snapshot of a cycle: taken once, and looked at again when a killed run goes on.

Knows nothing of what is learned from it.
"""

from __future__ import annotations

from typing import Any

from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.datasets import build_snapshot
from alignment.errors import TrainingError
from alignment.finished_stages import FinishedStages
from alignment.rater_weights import count_judgements
from alignment.records import ProgressFn, Run
from alignment.snapshot import LoadedSnapshot, load_snapshot
from alignment.snapshot_check import what_is_gone


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
        TrainingError: something that the run learns from was deleted, closed or withdrawn since it began: it must not be in the next policy.
    """

    def build() -> dict[str, Any]:
        snapshot = build_snapshot(
            world.judgements(),
            world.documents(),
            prepare=world.prepare,
            render=world.render,
            permissions=world.permissions(),
            out_dir=run.directory / "snapshot",
            settings=settings.snapshot,
            seed=settings.cycle.seed,
            raters=settings.raters,
            known=world.known_raters(),
            progress=progress,
        )
        return {"path": finished.stored(snapshot.path)}

    is_resumed = finished.has("snapshot")
    data = load_snapshot(finished.found(finished.once("snapshot", build)["path"]))
    gone = what_is_gone(data, world.judgements(), world.permissions()) if is_resumed else []
    if gone:
        raise TrainingError(
            f"this run learns from what was deleted, closed or withdrawn since it began ({', '.join(gone)}): "
            "it cannot go on; start a new one with `tacit train cycle`"
        )
    return data


def count_learned(data: LoadedSnapshot) -> int:
    """How many judgements the reward learns from, demonstrations included; those of held-out questions are left to the judge.

    Weights of one side sum to the number of its clicks (`rater_weights`), whatever became of each.
    """
    rated = sum(count_judgements(data.train.judgements).values())
    return round(rated) + sum(row.origin == "demonstration" for row in data.train.pairs)
