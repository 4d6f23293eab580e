"""Takes rows out of a snapshot whose person, document or judgement was deleted, and says in the manifest that it did.

Knows the files of a snapshot, nothing of runs or of the database. Different from deleting the folder: the other rows stay, so that policies can
still be compared on what was held out; and different from editing it in silence: the hash before stands beside the hash now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from alignment.prepared_json import rollout_from_json
from alignment.records import PromptCompletion, RankedCompletions, RolloutPrompt, Scrub
from alignment.row_origin import is_demonstrated_in, is_said_in
from alignment.snapshot import (
    MANIFEST,
    RATERS,
    hash_rows,
    manifest_text,
    ranking_from_json,
    rating_from_json,
    read_manifest,
    row_files,
)
from chatbot.durable_files import written_atomically
from chatbot.records import Judgement
from knowledge_base.errors import StorageError

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""What reading a damaged file of a snapshot raises."""


class DamagedSnapshotError(StorageError):
    """Files of a snapshot cannot be read, so nobody can say whether what is deleted is in them; what could be read is done."""

    def __init__(self, message: str, n_rows: int) -> None:
        """Say what to do, and how many rows went from what could be read."""
        super().__init__(message)
        self.n_rows = n_rows


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """What is gone: a person with all they said, a document, or a judgement that was taken back."""

    user_id: str = ""
    """A person who is gone."""
    document_id: str = ""
    """A document that is gone."""
    judgements: Sequence[Judgement] = ()
    """What was said and is gone, every revision of it."""
    questions: Collection[str] = ()
    """Questions of these judgements that nobody else's judgements ask."""

    def was_in_pair(self, row: PromptCompletion) -> bool:
        """Whether a pair was made of it."""
        return self._is_theirs_or_shows_it(row) or any(is_demonstrated_in(j, row) for j in self.judgements)

    def was_in_judgement(self, row: RankedCompletions) -> bool:
        """Whether a judgement's row was made of it."""
        return self._is_theirs_or_shows_it(row) or any(is_said_in(j, row) for j in self.judgements)

    def was_in_rollout(self, row: RolloutPrompt) -> bool:
        """Whether a prompt asks, answers or shows it."""
        if self.document_id:
            passages = [*row.prepared.passages, *(item.passage for item in row.prepared.evidence)]
            # Made of a document that it does not show, and an earlier version did not write down of which.
            is_of_unknown = not row.asked and not row.made_of
            return (
                row.made_of == self.document_id
                or is_of_unknown
                or any(passage.document_id == self.document_id for passage in passages)
            )
        answers = {j.answers[0].text for j in self.judgements if j.kind == "demonstration" and j.answers}
        return row.question in self.questions or row.reference in answers

    def was_in_rater(self, labeler_id: str) -> bool:
        """Whether an estimate is of the person."""
        return bool(self.user_id) and labeler_id == self.user_id

    def _is_theirs_or_shows_it(self, row: PromptCompletion | RankedCompletions) -> bool:
        may_show = row.document_ids is None or self.document_id in row.document_ids
        return self.was_in_rater(row.labeler_id) or (bool(self.document_id) and may_show)


def scrub_snapshot(path: Path, deleted: Deleted, *, at: datetime) -> int:
    """Take out of a snapshot what was made of something deleted. One at a time: `run_scrub` sees to that.

    Args:
        path: The snapshot's folder.
        deleted: What is gone.
        at: The present, for the manifest.

    Returns:
        How many rows went; 0 leaves every file as it is.

    Raises:
        StorageError: a file cannot be written; repeat it, nothing is half done that a repetition would not finish.
        DamagedSnapshotError: files cannot be read; the others are done.
    """
    for left in path.glob(".*.partial"):  # by a scrub that was killed
        left.unlink()
    n_rows = 0
    damaged: dict[Path, Exception] = {}
    for file in row_files(path):
        try:
            lines, kept = _lines_kept(file, deleted)
        except UNREADABLE as error:
            damaged[file] = error
            continue
        if len(kept) < len(lines):
            n_rows += len(lines) - len(kept)
            _replace(file, "".join(kept))
    try:
        snapshot = read_manifest(path)
    except UNREADABLE as error:
        damaged[path / MANIFEST] = error
    if damaged:
        # The manifest stays: it must not vouch for rows that cannot be read.
        raise _damage(path, damaged, n_rows)
    found = hash_rows(path)
    if found != snapshot.hash:
        # Also after a scrub that was killed between the rows and the manifest.
        scrub = Scrub(at=at, n_rows=n_rows, hash_before=snapshot.hash)
        _replace(
            path / MANIFEST, manifest_text(replace(snapshot, hash=found, scrubs=(*snapshot.scrubs, scrub)))
        )
    return n_rows


def _lines_kept(file: Path, deleted: Deleted) -> tuple[list[str], list[str]]:
    """All lines of a file, and those that stay."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    is_gone = _reader_of(file.name, deleted)
    return lines, [line for line in lines if not is_gone(json.loads(line))]


def _damage(path: Path, damaged: Mapping[Path, Exception], n_rows: int) -> DamagedSnapshotError:
    file, error = next(iter(damaged.items()))
    # Without the words of the error: a message goes to logs and pages, and the file holds what people wrote.
    return DamagedSnapshotError(
        f"{file} is damaged ({type(error).__name__}), and may hold what is deleted: put it back from a backup, or remove {path}, then delete again",
        n_rows,
    )


def _reader_of(name: str, deleted: Deleted) -> Callable[[dict[str, Any]], bool]:
    if name == RATERS:
        return lambda value: deleted.was_in_rater(value["labeler_id"])
    readers: dict[str, Callable[[dict[str, Any]], bool]] = {
        "prompt_completion": lambda value: deleted.was_in_pair(PromptCompletion(**value)),
        "rankings": lambda value: deleted.was_in_judgement(ranking_from_json(value)),
        "unpaired": lambda value: deleted.was_in_judgement(rating_from_json(value)),
        "rollouts": lambda value: deleted.was_in_rollout(rollout_from_json(value)),
    }
    return readers[name.split(".", maxsplit=1)[0]]


def _replace(file: Path, text: str) -> None:
    with written_atomically(file) as out:
        out.write(text)
    file.chmod(0o444)
