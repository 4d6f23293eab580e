"""A stage's result as a policy that could serve, with its lineage back to the judgements.

Knows nothing of how stages are run or gates judged. Different from a checkpoint's config: everything a policy came from is named in its
manifest, down to the hash of the data and the sentences of the gates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.records import DatasetSnapshot, GateResult, Run, StageResult
from chatbot.prompt import PROMPT_VERSION
from chatbot.records import PolicyVersion
from knowledge_base.database import now

PolicyStage = Literal["sft", "ppo", "rloo", "best_of_n"]
"""Stages that make a policy which could serve."""


def make_candidate(
    stage: PolicyStage,
    result: StageResult,
    snapshot: DatasetSnapshot,
    *,
    world: CycleWorld,
    run: Run,
    settings: TrainingSettings,
    parent: str,
    taste: Mapping[str, Any] | None,
    gates: Sequence[GateResult] = (),
    reason: str = "",
    part: str = "",
) -> PolicyVersion:
    """The policy that a stage made; not registered yet.

    Args:
        stage: Which stage.
        result: Where its weights are, and its metrics.
        snapshot: What it was trained on.
        world: Names the base model.
        run: The run it belongs to.
        settings: Of all stages.
        parent: The policy that it would replace: who served when the run began, or whom the gates measured it against.
        taste: What was learned of the evidence's order; None where nothing was.
        gates: Verdicts, once there are any.
        reason: Why it was rejected; empty for a candidate.
        part: How much of the stage's step it is (`step_back.PARTS`); empty for all of it.
    """
    base = world.base()
    verdicts = [dataclasses.asdict(gate) for gate in gates]
    manifest = {
        "run": run.id,
        "base": base.path,
        "base_manifest": base.manifest,
        "prompt_version": PROMPT_VERSION,
        "snapshot": str(snapshot.path),
        "snapshot_hash": snapshot.hash,
        "taste": taste,
        "reward_model": str(run.directory / "reward") if stage != "sft" else None,
        "settings": dataclasses.asdict(settings),
        "metrics": result.metrics,
        "gates": verdicts,
    }
    return PolicyVersion(
        id="-".join(filter(None, (stage, part, run.id[:8]))),
        stage=stage,
        state="rejected" if reason else "candidate",
        parent=parent,
        path=str(result.path),
        created_at=now(),
        metrics=dict(result.metrics),
        gates=verdicts,
        manifest=manifest,
        reason=reason,
    )
