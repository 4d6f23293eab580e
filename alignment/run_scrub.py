"""The folder of a run after something that it learned from was deleted: its snapshots without those rows.

Knows where a run keeps what people wrote: in its snapshots only; stages leave weights, numbers and counts. Only those of earlier versions wrote down a few
questions that a policy had answered badly at the gates; all of them go with the first deletion. Weights keep what they learned until the
next cycle, which starts from the base model; who lists policies is told.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from alignment.snapshot import MANIFEST, SNAPSHOT_FOLDER, read_manifest
from alignment.snapshot_scrub import UNREADABLE, DamagedSnapshotError, Deleted, scrub_snapshot
from chatbot.durable_files import storage_failure, written_atomically

SCRUB_LOCK = "scrub.lock"
"""In a run's folder. Not `lock`, which whoever works on the run holds for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScrub:
    """What was done in a run's folder."""

    n_rows: int = 0
    """Rows that went."""
    last_at: datetime | None = None
    """When rows were last taken out, by this deletion or an earlier one; None for never."""
    damaged: Sequence[str] = ()
    """Snapshots that cannot be read, so that nobody knows whether it is gone from them; each with what to do."""


def scrub_run(directory: Path, deleted: Deleted, *, at: datetime) -> RunScrub:
    """Take out of a run's snapshots what was made of something deleted; waits for another deletion that is at it.

    Args:
        directory: Of the run; one that is not here is another machine's.
        deleted: What is gone.
        at: The present.

    Raises:
        StorageError: a file cannot be written.
    """
    n_rows = 0
    damaged = []
    with _alone(directory):
        _change(directory / "gates" / "done.json", _without_examples_of)
        _change(
            directory / "teams" / "done.json",
            lambda teams: {name: groups for name, groups in teams.items() if name != deleted.user_id},
        )
        folders = _snapshots(directory)
        for folder in folders:
            try:
                n_rows += scrub_snapshot(folder, deleted, at=at)
            except DamagedSnapshotError as error:
                n_rows += error.n_rows
                damaged.append(str(error))
        return RunScrub(n_rows=n_rows, last_at=_last_scrub(folders), damaged=damaged)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep other deletions out: two that read the same rows would each bring back what the other took out."""
    if not directory.is_dir():
        yield  # another machine's
        return
    try:
        file = (directory / SCRUB_LOCK).open("a")
    except OSError as error:
        raise storage_failure(error, directory / SCRUB_LOCK) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _snapshots(directory: Path) -> list[Path]:
    folders = sorted((directory / SNAPSHOT_FOLDER).glob("*"))
    return [folder for folder in folders if (folder / MANIFEST).exists() and not folder.name.startswith(".")]


def _last_scrub(folders: Sequence[Path]) -> datetime | None:
    times = []
    for folder in folders:
        try:
            times += [scrub.at for scrub in read_manifest(folder).scrubs]
        except UNREADABLE:
            continue  # `scrub_snapshot` has said so
    return max(times, default=None)


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


def _without_examples_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {**outcome, "metrics": without_examples(outcome.get("metrics", {}))}


def _change(file: Path, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Rewrite what a stage recorded, where that changes it."""
    if not file.is_file():
        return
    try:
        stored = json.loads(file.read_text("utf-8"))
        changed = change(stored)
    except (ValueError, TypeError, AttributeError):
        # Nobody can read it, the run neither: without it, a run that is resumed does the stage again.
        file.unlink()
        return
    if changed != stored:
        with written_atomically(file) as out:
            json.dump(changed, out)
