"""The verdicts on a run's candidates: measured beside the policy that serves and the base model, and held against the gates.

Knows nothing of promotion: what follows from a verdict is the cycle's business.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from alignment.candidate_measurement import CandidateBench
from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.gates import run_gates
from alignment.rater_weights import count_judgements
from alignment.records import ProgressFn
from alignment.sft_rows import only_demonstrations
from alignment.snapshot import LoadedSnapshot
from chatbot.records import PolicyVersion


class Verdicts:
    """The verdicts on the candidates of one run."""

    def __init__(
        self,
        world: CycleWorld,
        settings: TrainingSettings,
        data: LoadedSnapshot,
        *,
        judge_dir: Path,
        progress: ProgressFn,
    ) -> None:
        """Get ready; nothing is measured yet.

        Args:
            world: The rest of the product.
            settings: Of all stages.
            data: The cycle's snapshot.
            judge_dir: A reward model's directory.
            progress: See `ProgressFn`; stage `gates`.
        """
        self._settings = settings
        self._data = data
        self._bench: CandidateBench | None = None
        self._open = functools.partial(
            CandidateBench,
            world,
            data.held_out.rollouts,
            judge_dir=judge_dir,
            settings=settings,
            progress=progress,
        )

    def reach(
        self, candidate: PolicyVersion, *, kl: float | None, kl_at_most: bool = False
    ) -> dict[str, Any]:
        """`{"gates": [...], "metrics": {...}}`, as it is kept with the run.

        Args:
            candidate: Its `path` holds weights; need not be registered.
            kl: Nats an answer from the SFT policy; None for a candidate without PPO.
            kl_at_most: Whether that is not its own but the most that it may be.

        Raises:
            TrainingError: there is no question to measure on.
        """
        # Only where something is to be measured: a run may be resumed when all its verdicts are reached.
        self._bench = self._bench or self._open()
        measurement = self._bench.measure(candidate)
        gates = run_gates(
            measurement.candidate,
            measurement.parent,
            measurement.win,
            self._settings.gates,
            n_judgements=count_learned(self._data),
            kl=kl,
            kl_at_most=kl_at_most,
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
