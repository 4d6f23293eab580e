"""A dataset snapshot on disk: written once, named by its content, checked when read.

Knows nothing of how rows were made. Different from a folder of data files: the folder appears whole or not at all, its name is the
hash of what is in it, and reading verifies that hash, so that a policy's manifest really says what the policy was trained on. Only deletion
changes it afterwards (`snapshot_scrub`), and then its manifest says so.

Layout, one JSON object a line, sorted: `prompt_completion.SPLIT.jsonl` (TRL's `prompt`, `completion`), `rankings.SPLIT.jsonl` (`prompt`,
`completions`, `ranking`), `unpaired.SPLIT.jsonl` (TRL's `prompt`, `completion`, `label`), `rollouts.SPLIT.jsonl`, `raters.jsonl` (whose judgements
weigh how much and why), and `snapshot.json` with the counts; SPLIT is `train` or `held_out`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from alignment.errors import TrainingError
from alignment.prepared_json import rollout_from_json, rollout_to_json
from alignment.rater_records import RaterEstimate
from alignment.records import DatasetSnapshot, PromptCompletion, RankedCompletions, RolloutPrompt, Scrub
from chatbot.durable_files import sync_directory, sync_file
from knowledge_base.errors import StorageError

MANIFEST = "snapshot.json"
SNAPSHOT_FOLDER = "snapshot"
"""In a run's directory: where its snapshots are."""
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
    digest = hash_rows(partial)
    target = out_dir / digest[:16]
    snapshot = replace(draft, hash=digest, path=target)
    (partial / MANIFEST).write_text(manifest_text(snapshot), encoding="utf-8")
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
        snapshot = read_manifest(path)
        if hash_rows(path) != snapshot.hash:
            raise TrainingError(
                f"the dataset snapshot {path} was changed after it was written: start a new cycle"
            )
        train, held_out = (_read(path, split) for split in ("train", "held_out"))
        return LoadedSnapshot(snapshot=snapshot, train=train, held_out=held_out, raters=_read_raters(path))
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
        judgements=[*rows("rankings", ranking_from_json), *rows("unpaired", rating_from_json)],
        rollouts=rows("rollouts", rollout_from_json),
    )


def _pair_to_json(row: PromptCompletion) -> dict[str, Any]:
    return {
        "prompt": row.prompt,
        "completion": row.completion,
        "question_id": row.question_id,
        "origin": row.origin,
        "labeler_id": row.labeler_id,
        "document_ids": _listed(row.document_ids),
    }


def _listed(ids: Sequence[str] | None) -> list[str] | None:
    return None if ids is None else list(ids)


def _ranking_to_json(row: RankedCompletions) -> dict[str, Any]:
    return {
        "prompt": row.prompt,
        "completions": list(row.completions),
        "ranking": [list(group) for group in row.ranking],
        "question_id": row.question_id,
        "labeler_id": row.labeler_id,
        "weight": row.weight,
        "document_ids": _listed(row.document_ids),
    }


def ranking_from_json(value: dict[str, Any]) -> RankedCompletions:
    """A line of a file of rankings."""
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
        "document_ids": _listed(row.document_ids),
    }


def rating_from_json(value: dict[str, Any]) -> RankedCompletions:
    """A line of a file of ratings."""
    fields = {**value, "completions": (value["completion"],), "ranking": ()}
    del fields["completion"]
    return RankedCompletions(**fields)


def manifest_text(snapshot: DatasetSnapshot) -> str:
    """The manifest's file, as `read_manifest` reads it."""
    values = {
        "hash": snapshot.hash,
        "n_judgements": snapshot.n_judgements,
        "n_demonstrations": snapshot.n_demonstrations,
        "n_derived": snapshot.n_derived,
        "n_questions": snapshot.n_questions,
        "left_out": dict(sorted(snapshot.left_out.items())),
        "until": snapshot.until.isoformat(),
        "scrubs": [{**dataclasses.asdict(scrub), "at": scrub.at.isoformat()} for scrub in snapshot.scrubs],
    }
    return json.dumps(values, indent=2) + "\n"


def read_manifest(path: Path) -> DatasetSnapshot:
    """What a snapshot says of itself; its rows are neither read nor checked.

    Raises:
        OSError: there is none.
        ValueError: it cannot be understood; KeyError and TypeError say the same.
    """
    fields = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    scrubs = [
        Scrub(**{**scrub, "at": datetime.fromisoformat(scrub["at"])}) for scrub in fields.pop("scrubs", [])
    ]
    until = datetime.fromisoformat(fields.pop("until"))
    return DatasetSnapshot(**fields, path=path, until=until, scrubs=tuple(scrubs))


def hash_rows(folder: Path) -> str:
    """SHA-256 over the names and contents of the row files."""
    digest = hashlib.sha256()
    for file in row_files(folder):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def row_files(folder: Path) -> Sequence[Path]:
    """The files of a snapshot that hold rows, by name."""
    return sorted(folder.glob("*.jsonl"))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
