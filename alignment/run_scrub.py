"""The folder of a run after something that it learned from was deleted: its snapshots without those rows.

Knows where a run keeps what people wrote: in its snapshots only; stages leave weights, numbers and counts. Only those of earlier versions wrote down a few
questions that a policy had answered badly at the gates; all of them go with the first deletion. Weights keep what they learned until the
next cycle, which starts from the base model; who lists policies is told.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from alignment.snapshot import MANIFEST, SNAPSHOT_FOLDER
from alignment.snapshot_scrub import Deleted, scrub_snapshot
from chatbot.durable_files import written_atomically


def scrub_run(directory: Path, deleted: Deleted, *, at: datetime) -> int:
    """Take out of a run's snapshots what was made of something deleted; returns how many rows went.

    Args:
        directory: Of the run; one that is not here is another machine's.
        deleted: What is gone.
        at: The present.

    Raises:
        StorageError: a file cannot be written.
    """
    _forget_examples(directory / "gates" / "done.json")
    n_rows = 0
    for folder in sorted((directory / SNAPSHOT_FOLDER).glob("*")):
        if (folder / MANIFEST).exists() and not folder.name.startswith("."):
            n_rows += scrub_snapshot(folder, deleted, at=at)
    return n_rows


def remove_unfinished(directory: Path) -> None:
    """Remove what a process left that was killed while it wrote a snapshot; only for a run that nobody works on."""
    for folder in (directory / SNAPSHOT_FOLDER).glob(".partial-*"):
        shutil.rmtree(folder)


def without_examples(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What the gates measured, without the questions and answers that earlier versions kept of each suite of traps."""

    def strip(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [
            {k: v for k, v in item.items() if k != "examples"} if isinstance(item, dict) else item
            for item in value
        ]

    return {name: strip(value) for name, value in measured.items()}


def _forget_examples(file: Path) -> None:
    if not file.is_file():
        return
    outcome = json.loads(file.read_text("utf-8"))
    stripped = {**outcome, "metrics": without_examples(outcome.get("metrics", {}))}
    if stripped != outcome:
        with written_atomically(file) as out:
            json.dump(stripped, out)
