"""Around a training loop: progress reports, checkpoints, a graceful stop.

Knows nothing of models' shapes or data. Differs from the usual trainer: there is no callback zoo, the loop stays in the stage's own
file and calls these; and a checkpoint is a folder written beside its place and renamed into it, there whole or not at all.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
import torch
from torch import Tensor

from alignment.token_training import TokenTrainingSettings, wsd_factor

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a run is; handed to the progress callback."""

    step: int
    total_steps: int
    tokens: int
    loss: float
    """Mean training loss in nats a token since the last report."""
    tokens_per_second: float
    eta_seconds: float


ProgressCallback = Callable[[TrainingProgress], None]


class RunPosition(Protocol):
    """What a report needs to know of a run."""

    step: int
    tokens: int
    gradient_norm: float


class TrainingWatch:
    """Reports progress every so many steps and says when a checkpoint is due."""

    def __init__(
        self, event: str, settings: TokenTrainingSettings, progress: ProgressCallback | None
    ) -> None:
        """Start the clocks; `event` names the log line."""
        self._event, self._settings, self._progress = event, settings, progress
        self._reported_at = self._saved_at = time.monotonic()
        self._losses: list[Tensor] = []
        self._tokens = -1

    def after_step(self, run: RunPosition, loss: Tensor) -> None:
        """Take a step's loss; log and call back when a report is due."""
        self._losses.append(loss)
        if run.step % self._settings.log_every_steps and run.step != self._settings.total_steps:
            return
        now = time.monotonic()
        seconds = max(now - self._reported_at, 1e-9)
        seconds_a_step = seconds / len(self._losses)
        report = TrainingProgress(
            step=run.step,
            total_steps=self._settings.total_steps,
            tokens=run.tokens,
            loss=float(torch.stack(self._losses).mean()),
            tokens_per_second=(run.tokens - self._tokens) / seconds if self._tokens >= 0 else float("nan"),
            eta_seconds=(self._settings.total_steps - run.step) * seconds_a_step,
        )
        self._losses, self._reported_at, self._tokens = [], now, run.tokens
        self._log(report, run)
        if self._progress is not None:
            self._progress(report)

    def _log(self, report: TrainingProgress, run: RunPosition) -> None:
        _log.info(
            self._event,
            step=report.step,
            of=report.total_steps,
            tokens=report.tokens,
            loss=round(report.loss, 4),
            tokens_per_second=round(report.tokens_per_second, 1),
            eta_minutes=round(report.eta_seconds / 60, 1),
            lr_factor=round(wsd_factor(run.step - 1, self._settings), 3),
            gradient_norm=round(run.gradient_norm, 3),
        )

    def is_time_to_save(self) -> bool:
        """Whether `checkpoint_minutes` have passed; the clock starts anew when they have."""
        now = time.monotonic()
        if now - self._saved_at < 60 * self._settings.checkpoint_minutes:
            return False
        self._saved_at = now
        return True


class StopSignal:
    """Set by SIGTERM or SIGINT while the block lasts: the loop ends its step, saves and returns."""

    def __init__(self) -> None:
        self.is_set = False

    def _set(self, number: int, _frame: object) -> None:
        self.is_set = True
        _log.info("stop_requested", signal=signal.Signals(number).name)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Turn SIGTERM and SIGINT into a flag; outside the main thread signals stay as they are."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop._set) for number in (signal.SIGTERM, signal.SIGINT)}  # noqa: SLF001 - same module
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Checkpoints:
    """The checkpoints of one run: folders `step-00000120`, each whole or absent."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """See the class.

        Args:
            folder: Where the checkpoints are.
            keep: How many of the newest stay.
        """
        self._folder, self._keep = folder, keep

    def save(self, step: int, model: Any, tokenizer: Any, state: dict[str, Any]) -> Path:
        """Write a checkpoint: model and tokenizer as transformers loads them, `state` beside them; returns its folder."""
        final = self._folder / f"step-{step:08d}"
        partial = self._folder / f"partial-{step:08d}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        torch.save({**state, "torch_rng": torch.get_rng_state()}, partial / "training_state.pt")
        if final.exists():
            shutil.rmtree(final)
        partial.replace(final)
        for old in self._all()[: -self._keep]:
            shutil.rmtree(old)
        _log.info("checkpoint_saved", path=str(final), step=step)
        return final

    def newest(self) -> Path | None:
        """The newest whole checkpoint, if there is one."""
        found = self._all()
        return found[-1] if found else None

    def _all(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("step-*") if (path / "training_state.pt").exists())


def load_training_state(checkpoint: Path) -> dict[str, Any]:
    """What `Checkpoints.save` was given as state; restores torch's random state as a side effect."""
    state: dict[str, Any] = torch.load(
        checkpoint / "training_state.pt", map_location="cpu", weights_only=True
    )
    torch.set_rng_state(state["torch_rng"])
    return state
