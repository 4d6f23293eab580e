"""Tells the caller of a PPO run where it is, several times a step. Knows nothing of models or of who listens.

Different from a progress bar: what the listener raises ends the run, so reporting is also how a run is cancelled; and the time left is
judged by the steps done since this process began, because a resumed run may be on another machine.
"""

from __future__ import annotations

import time

from alignment.records import ProgressFn, StageName, StageProgress


class StepReporter:
    """Reports on one run, from where it begins or goes on."""

    def __init__(self, stage: StageName, n_steps: int, first_step: int, progress: ProgressFn) -> None:
        """Start the clock.

        Args:
            stage: Whose progress it is.
            n_steps: Of the whole run.
            first_step: The one this process starts with.
            progress: Is told.
        """
        self._stage = stage
        self._n_steps = n_steps
        self._first_step = first_step
        self._progress = progress
        self._began = time.monotonic()

    def __call__(self, step: int, note: str, metrics: dict[str, float] | None = None) -> None:
        """Report.

        Args:
            step: How many are done.
            note: What is being done, in a word.
            metrics: Of the step, when it is over.
        """
        done = step - self._first_step
        eta = (time.monotonic() - self._began) / done * (self._n_steps - step) if done else None
        self._progress(
            StageProgress(
                stage=self._stage,
                done=step,
                total=self._n_steps,
                eta_seconds=eta,
                note=note,
                metrics=metrics or {},
            )
        )
