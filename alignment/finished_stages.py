"""Stages done once: what a finished one found is kept in `done.json` in its folder, and read instead of doing it again.

Knows nothing of what a stage does, only that its outcome is JSON. Different from a workflow engine: there is no graph and no comparing
of inputs. A run's settings and data never change, so that the file exists is all there is to ask; and it is renamed into place, so it
exists whole or not at all. Places in it are relative to the run's folder, which may lie elsewhere tomorrow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import structlog

from alignment.errors import TrainingError
from alignment.records import StageResult

log = structlog.get_logger(__name__)

DONE = "done.json"


class FinishedStages:
    """The stages of one run that are done."""

    def __init__(self, run_id: str, directory: Path) -> None:
        """Look at a run's directory; nothing is read yet.

        Args:
            run_id: For the log.
            directory: Of the run; each stage has a folder of its name in it.
        """
        self._run_id = run_id
        self._directory = directory

    def has(self, name: str) -> bool:
        """Whether a stage is done."""
        return self._file(name).exists()

    def once(self, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a stage unless it is done; what `do` raises leaves it undone.

        Args:
            name: Of the stage.
            do: Does it; what it returns must be JSON.

        Returns:
            What `do` returned, now or at the time.

        Raises:
            TrainingError: the stage is done, but the file that says so is damaged.
        """
        file = self._file(name)
        if file.exists():
            log.info("stage_already_done", run=self._run_id, stage=name)
            return _read(file)
        started = time.monotonic()
        outcome = do()
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(outcome), "utf-8")
        partial.replace(file)
        log.info("stage_done", run=self._run_id, stage=name, seconds=round(time.monotonic() - started, 1))
        return outcome

    def trained_once(self, name: str, train: Callable[[], StageResult]) -> StageResult:
        """As `once`, for a training stage."""

        def run() -> dict[str, Any]:
            result = train()
            return {
                "stage": result.stage,
                "path": self.stored(result.path),
                "metrics": result.metrics,
                "seconds": result.seconds,
            }

        stored = self.once(name, run)
        return StageResult(**(stored | {"path": self.found(stored["path"])}))

    def stored(self, path: Path) -> str:
        """A path as it is written down: relative where it lies in the run's folder."""
        if path.is_relative_to(self._directory):
            return str(path.relative_to(self._directory))
        return str(path.resolve())

    def found(self, text: str) -> Path:
        """Where that lies now. Runs of earlier versions wrote whole paths down; what lay in their folder is found in it too."""
        path = Path(text)
        if self._run_id in path.parts:
            return self._directory.joinpath(*path.parts[path.parts.index(self._run_id) + 1 :])
        return self._directory / path

    def _file(self, name: str) -> Path:
        return self._directory / name / DONE


def _read(file: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(file.read_text("utf-8")))
    except ValueError as error:
        raise TrainingError(
            f"{file} is damaged ({error}): remove it, and the resumed run does the stage again"
        ) from error
