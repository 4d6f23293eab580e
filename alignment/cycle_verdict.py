"""The verdict on a candidate: measured beside the policy that serves and the base model, and held against the gates.

Knows nothing of promotion: what follows from a verdict is the cycle's business.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from alignment.candidate_measurement import measure_candidate
from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.gates import run_gates
from alignment.rater_weights import count_judgements
from alignment.records import ProgressFn
from alignment.sft_rows import only_demonstrations
from alignment.snapshot import LoadedSnapshot
from chatbot.records import PolicyVersion


def reach_verdict(
    world: CycleWorld,
    settings: TrainingSettings,
    data: LoadedSnapshot,
    candidate: PolicyVersion,
    *,
    kl: float | None,
    judge_dir: Path,
    progress: ProgressFn,
) -> dict[str, Any]:
    """`{"gates": [...], "metrics": {...}}`, as it is kept with the run.

    Args:
        world: The rest of the product.
        settings: Of all stages.
        data: The cycle's snapshot.
        candidate: Its `path` holds weights; need not be registered.
        kl: Nats an answer from the SFT policy; None for a candidate without PPO.
        judge_dir: A reward model's directory.
        progress: See `ProgressFn`; stage `gates`.

    Raises:
        TrainingError: there is no question to measure on.
    """
    measurement = measure_candidate(
        world, candidate, data.held_out.rollouts, judge_dir=judge_dir, settings=settings, progress=progress
    )
    gates = run_gates(
        measurement.candidate,
        measurement.parent,
        measurement.win,
        settings.gates,
        n_judgements=count_learned(data),
        kl=kl,
        base=measurement.base,
        suites=measurement.paired_suites(),
        member_wins=measurement.member_wins,
    )
    return {
        "gates": [dataclasses.asdict(gate) for gate in gates],
        "metrics": dataclasses.asdict(measurement),
    }


def count_learned(data: LoadedSnapshot) -> int:
    """How many judgements the reward learns from, demonstrations included; those of held-out questions are left to the judge.

    Weights of one side sum to the number of its clicks (`rater_weights`), whatever became of each.
    """
    rated = sum(count_judgements(data.train.judgements).values())
    return round(rated) + len(only_demonstrations(data.train.pairs))
