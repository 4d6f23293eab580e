"""The folder of a run after something that it learned from was deleted: its snapshots without those rows.

Knows where a run keeps what people wrote: in its snapshots only; stages leave weights, numbers and counts. Weights keep what they learned until the
next cycle, which starts from the base model; who lists policies is told.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from alignment.snapshot import MANIFEST, SNAPSHOT_FOLDER
from alignment.snapshot_scrub import Deleted, scrub_snapshot


def scrub_run(directory: Path, deleted: Deleted, *, at: datetime) -> int:
    """Take out of a run's snapshots what was made of something deleted; returns how many rows went.

    Args:
        directory: Of the run; one that is not here is another machine's.
        deleted: What is gone.
        at: The present.

    Raises:
        StorageError: a file cannot be written.
    """
    n_rows = 0
    for folder in sorted((directory / SNAPSHOT_FOLDER).glob("*")):
        if (folder / MANIFEST).exists() and not folder.name.startswith("."):
            n_rows += scrub_snapshot(folder, deleted, at=at)
    return n_rows


def remove_unfinished(directory: Path) -> None:
    """Remove what a process left that was killed while it wrote a snapshot; only for a run that nobody works on."""
    for folder in (directory / SNAPSHOT_FOLDER).glob(".partial-*"):
        shutil.rmtree(folder)
