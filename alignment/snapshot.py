"""A dataset snapshot on disk: written once, named by its content, checked when read.

Knows nothing of how rows were made. Different from a folder of data files: the folder appears whole or not at all, its name is the
hash of what is in it, and reading verifies that hash, so that a policy's manifest really says what the policy was trained on.

Layout, one JSON object a line, sorted: `prompt_completion.SPLIT.jsonl` (TRL's `prompt`, `completion`), `rankings.SPLIT.jsonl` (`prompt`,
`completions`, `ranking`), `unpaired.SPLIT.jsonl` (TRL's `prompt`, `completion`, `label`), `rollouts.SPLIT.jsonl`, `raters.jsonl` (whose judgements
weigh how much and why), and `snapshot.json` with the counts; SPLIT is `train` or `held_out`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from alignment.errors import TrainingError
from alignment.prepared_json import rollout_from_json, rollout_to_json
from alignment.rater_records import RaterEstimate
from alignment.records import DatasetSnapshot, PromptCompletion, RankedCompletions, RolloutPrompt
from chatbot.durable_files import sync_directory, sync_file
from knowledge_base.errors import StorageError

MANIFEST = "snapshot.json"
RATERS = "raters.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRows:
    """One side of a snapshot's split."""

    pairs: Sequence[PromptCompletion] = ()
    """For SFT: demonstrations, derived and unanswerable pairs."""
    judgements: Sequence[RankedCompletions] = ()
    """For the reward model: rankings and ratings."""
    rollouts: Sequence[RolloutPrompt] = ()
    """For PPO; on the held-out side for the gates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSnapshot:
    """A snapshot in memory."""

    snapshot: DatasetSnapshot
    train: SnapshotRows
    held_out: SnapshotRows
    raters: Sequence[RaterEstimate] = ()


def write_snapshot(
    draft: DatasetSnapshot,
    train: SnapshotRows,
    held_out: SnapshotRows,
    out_dir: Path,
    *,
    raters: Sequence[RaterEstimate] = (),
) -> DatasetSnapshot:
    """Write a snapshot into a new folder of `out_dir`, named by its hash; one that is already there is kept.

    Args:
        draft: The counts; `hash` and `path` are filled in.
        train: Rows to learn from.
        held_out: Rows to measure on.
        out_dir: Parent folder, made if missing.
        raters: What was found of the people who judged.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=out_dir, prefix=".partial-"))
        try:
            _write_raters(raters, partial)
            return _write_and_name(draft, {"train": train, "held_out": held_out}, partial, out_dir)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"the dataset snapshot cannot be written to {out_dir} ({error.strerror}): free some space or give write permission"
        ) from error


def _write_raters(raters: Sequence[RaterEstimate], folder: Path) -> None:
    lines = sorted(_line(rater.to_json()) for rater in raters)
    (folder / RATERS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _read_raters(folder: Path) -> list[RaterEstimate]:
    if not (folder / RATERS).exists():
        return []  # a run that began before there were any
    with (folder / RATERS).open(encoding="utf-8") as file:
        return [RaterEstimate.from_json(json.loads(line)) for line in file]


def _write_and_name(
    draft: DatasetSnapshot, splits: dict[str, SnapshotRows], partial: Path, out_dir: Path
) -> DatasetSnapshot:
    for split, rows in splits.items():
        for name, lines in _as_lines(rows).items():
            (partial / f"{name}.{split}.jsonl").write_text(
                "".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8"
            )
    digest = _hash(partial)
    target = out_dir / digest[:16]
    snapshot = replace(draft, hash=digest, path=target)
    (partial / MANIFEST).write_text(_manifest(snapshot), encoding="utf-8")
    for file in partial.iterdir():
        sync_file(file)
        file.chmod(0o444)
    if target.exists():
        # The same rows as an earlier cycle's; that one may have seen fewer judgements, so the counts are this one's.
        load_snapshot(target)
        (partial / MANIFEST).replace(target / MANIFEST)
    else:
        partial.rename(target)
    sync_directory(out_dir)
    return snapshot


def load_snapshot(path: Path) -> LoadedSnapshot:
    """Read a snapshot and check that it is what was written.

    Raises:
        TrainingError: there is no snapshot, or its files were changed.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        found = _hash(path)
        if found != manifest["hash"]:
            raise TrainingError(
                f"the dataset snapshot {path} was changed after it was written: start a new cycle"
            )
        train, held_out = (_read(path, split) for split in ("train", "held_out"))
        fields = {**manifest, "path": path, "until": datetime.fromisoformat(manifest["until"])}
        return LoadedSnapshot(
            snapshot=DatasetSnapshot(**fields), train=train, held_out=held_out, raters=_read_raters(path)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} holds no readable dataset snapshot ({error}): start a new cycle"
        ) from error


def _as_lines(rows: SnapshotRows) -> dict[str, list[str]]:
    ranked = [row for row in rows.judgements if row.ranking]
    rated = [row for row in rows.judgements if not row.ranking]
    return {
        "prompt_completion": [_line(_pair_to_json(row)) for row in rows.pairs],
        "rankings": [_line(_ranking_to_json(row)) for row in ranked],
        "unpaired": [_line(_rating_to_json(row)) for row in rated],
        "rollouts": [_line(rollout_to_json(row)) for row in rows.rollouts],
    }


def _read(path: Path, split: str) -> SnapshotRows:
    def rows(name: str, parse: Callable[[dict[str, Any]], Any]) -> list[Any]:
        with (path / f"{name}.{split}.jsonl").open(encoding="utf-8") as file:
            return [parse(json.loads(line)) for line in file]

    return SnapshotRows(
        pairs=rows("prompt_completion", lambda value: PromptCompletion(**value)),
        judgements=[*rows("rankings", _ranking_from_json), *rows("unpaired", _rating_from_json)],
        rollouts=rows("rollouts", rollout_from_json),
    )


def _pair_to_json(row: PromptCompletion) -> dict[str, Any]:
    return {
        "prompt": row.prompt,
        "completion": row.completion,
        "question_id": row.question_id,
        "origin": row.origin,
        "labeler_id": row.labeler_id,
    }


def _ranking_to_json(row: RankedCompletions) -> dict[str, Any]:
    return {
        "prompt": row.prompt,
        "completions": list(row.completions),
        "ranking": [list(group) for group in row.ranking],
        "question_id": row.question_id,
        "labeler_id": row.labeler_id,
        "weight": row.weight,
    }


def _ranking_from_json(value: dict[str, Any]) -> RankedCompletions:
    ranking = tuple(tuple(group) for group in value["ranking"])
    return RankedCompletions(**{**value, "completions": tuple(value["completions"]), "ranking": ranking})


def _rating_to_json(row: RankedCompletions) -> dict[str, Any]:
    return {
        "prompt": row.prompt,
        "completion": row.completions[0],
        "label": row.label,
        "question_id": row.question_id,
        "labeler_id": row.labeler_id,
        "weight": row.weight,
    }


def _rating_from_json(value: dict[str, Any]) -> RankedCompletions:
    fields = {**value, "completions": (value["completion"],), "ranking": ()}
    del fields["completion"]
    return RankedCompletions(**fields)


def _manifest(snapshot: DatasetSnapshot) -> str:
    values = {
        "hash": snapshot.hash,
        "n_judgements": snapshot.n_judgements,
        "n_demonstrations": snapshot.n_demonstrations,
        "n_derived": snapshot.n_derived,
        "n_questions": snapshot.n_questions,
        "left_out": dict(sorted(snapshot.left_out.items())),
        "until": snapshot.until.isoformat(),
    }
    return json.dumps(values, indent=2) + "\n"


def _hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the row files."""
    digest = hashlib.sha256()
    for file in _row_files(folder):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _row_files(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.jsonl"))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
