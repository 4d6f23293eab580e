"""What a run began with: its settings, its base model, the policy that served. Written once, read whenever the run goes on.

A run that is killed and resumed must end as if nobody had disturbed it, so what decides its course is kept in `settings.json` in its folder
and not read anew. Knows nothing of where settings come from or of how stages are run.

Different from keeping the command line's overrides: those say what was to be different from a settings file, and the file changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from alignment.cycle_settings import TrainingSettings
from alignment.errors import TrainingError
from chatbot.durable_files import file_hash, written_atomically

log = structlog.get_logger(__name__)

START_FILE = "settings.json"
_MODEL_FILES = ("*.safetensors", "*.bin", "config.json", "tokenizer.json")
D = TypeVar("D")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """What decides a run's course besides its data."""

    settings: TrainingSettings
    base: str
    """Where the base model lay, for people."""
    base_hash: str
    """Of its files: it may lie elsewhere when the run goes on."""
    parent: str
    """The policy that served when the run began."""


def begin(directory: Path, now: RunStart) -> RunStart:
    """What the run began with: `now` at its first start, which is written down; what was written then whenever it goes on.

    Args:
        directory: Of the run.
        now: What it would begin with at this moment.

    Raises:
        TrainingError: it began with another base model, or the file cannot be read.
        StorageError: the file cannot be written.
    """
    file = directory / START_FILE
    if not file.exists():
        with written_atomically(file) as out:
            json.dump(dataclasses.asdict(now), out, indent=1)
        return now
    start = _read_start(file)
    if start.base_hash != now.base_hash:
        raise TrainingError(
            f"this run began with the base model {start.base}, and {now.base} is another: set model.base back to it, "
            "or start a new run with `tacit train cycle`"
        )
    if changed := list(differences(start.settings, now.settings)):
        log.warning("run_keeps_its_settings", differ="; ".join(changed))
    return start


def settings_of(directory: Path) -> TrainingSettings | None:
    """The settings of the run in a directory; None before it has begun.

    Raises:
        TrainingError: they cannot be read.
    """
    file = directory / START_FILE
    return _read_start(file).settings if file.exists() else None


def differences(began: TrainingSettings, today: TrainingSettings) -> Iterator[str]:
    """`section.name: then, now today` of each setting that is not what it was."""
    before, after = dataclasses.asdict(began), dataclasses.asdict(today)
    for section, fields in before.items():
        for name, value in fields.items():
            if value != after[section][name]:
                yield f"{section}.{name}: {value}, today {after[section][name]}"


def model_hash(directory: Path) -> str:
    """SHA-256 over the weights, configuration and tokenizer of a model's directory, wherever that lies."""
    files = sorted({file for pattern in _MODEL_FILES for file in directory.glob(pattern)})
    listed = [[file.name, file_hash(file)] for file in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _read_start(file: Path) -> RunStart:
    try:
        value = json.loads(file.read_text("utf-8"))
        return RunStart(**(value | {"settings": _make(TrainingSettings, value["settings"])}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(
            f"{file} does not say what the run began with ({error}): it is damaged, or of another version of Tacit; "
            "start a new run with `tacit train cycle`"
        ) from error


def _make(owner: type[D], value: Mapping[str, Any]) -> D:
    """A settings dataclass of what `asdict` made of it, through JSON; a field that is younger than the file gets its default."""
    kinds = typing.get_type_hints(owner)
    return owner(**{name: _field(kinds.get(name), item) for name, item in value.items()})


def _field(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _make(kind, value)
    return tuple(value) if isinstance(value, list) else value
