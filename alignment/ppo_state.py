"""The complete state of a PPO run on disk, and its metrics file.

Knows nothing of what is in the state. A state is one file that is replaced whole: a crash at any moment leaves the old one or
the new one. There is no random generator in it: every draw is seeded by the settings' seed and the step, so that a resumed run
draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from alignment.errors import TrainingError
from alignment.ppo_settings import PpoSettings
from alignment.records import RolloutPrompt

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"

_FREE = frozenset({"save_every", "device", "export_precision", "micro_batch_prompts"})
"""Settings that may change between a run and its resumption: they change speed and memory, and results by rounding at most."""


def fingerprint(settings: PpoSettings, prompts: Iterable[RolloutPrompt], reward: str) -> str:
    """Hash of all that decides the course of a run; a state is only resumed under its own.

    Args:
        settings: Of the run.
        prompts: Those that fit, in order: what they say and what is known of their answers.
        reward: What scores completions: its name, and what it was made of.
    """
    chosen = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _FREE}
    text = json.dumps([chosen, [_told(prompt) for prompt in prompts], reward], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _told(prompt: RolloutPrompt) -> list[Any]:
    """Of a prompt all that sampling or a reward looks at; its evidence stands in the rendered text."""
    return [
        prompt.id,
        prompt.prompt,
        prompt.reference,
        list(prompt.key_facts),
        prompt.answerable,
        prompt.asked,
    ]


def save_state(work_dir: Path, state: Mapping[str, Any]) -> None:
    """Write the state so that it is either complete or absent, also after a power cut.

    Raises:
        TrainingError: If the disk is full or not writable; the previous state is unharmed.
    """
    partial = work_dir / f".{STATE_FILE}.partial"
    try:
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(work_dir / STATE_FILE)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as RuntimeError.
        partial.unlink(missing_ok=True)
        raise TrainingError(
            f"The training state cannot be saved in {work_dir}: {error}. Free some space and resume."
        ) from error


def load_state(work_dir: Path, wanted: str) -> dict[str, Any] | None:
    """The saved state, None when there is none.

    Args:
        work_dir: Of the run.
        wanted: The fingerprint it must have.

    Raises:
        TrainingError: If it cannot be read, or belongs to a run with other settings or prompts, or another reward.
    """
    path = work_dir / STATE_FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises whatever the broken byte leads to; a state that cannot be read must never be half used.
        raise TrainingError(
            f"The training state {path} is damaged: remove it, and the resumed run does its steps from the first."
        ) from error
    if state.get("fingerprint") != wanted:
        raise TrainingError(
            f"The training state {path} belongs to a run with other settings, prompts or another reward: remove it to do the steps "
            "from the first, or start a new run."
        )
    return state


class MetricsFile:
    """One JSON object a step, appended; rows of steps that will be done again are cut off first."""

    def __init__(self, work_dir: Path, *, first_step: int) -> None:
        self.path = work_dir / METRICS_FILE
        kept = [row for row in read_metrics(work_dir) if row["step"] < first_step]
        partial = work_dir / f".{METRICS_FILE}.partial"
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        partial.replace(self.path)

    def append(self, row: Mapping[str, float]) -> None:
        """Add the metrics of a step, which must have `step`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")


def read_metrics(work_dir: Path) -> list[dict[str, float]]:
    """All complete rows, oldest first; a row torn by a crash is left out."""
    path = work_dir / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]
