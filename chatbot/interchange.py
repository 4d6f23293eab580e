"""Judgements from and to files: our JSON lines, and the three data set forms that TRL reads. Knows nothing of training.

Different from a dump: a file is read twice, first to check every line, so that a bad file changes nothing; and what is imported is named
by its content, so that importing it again adds nothing, while an edited line becomes a new revision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

import structlog

from chatbot.accounts import Accounts
from chatbot.durable_files import written_atomically
from chatbot.errors import FeedbackError
from chatbot.feedback import FeedbackStore
from chatbot.interchange_lines import ImportedLine, judgement_to_line, parse_line, to_judgement
from chatbot.records import Judgement
from knowledge_base.errors import UsageError

log = structlog.get_logger(__name__)

ExportFormat = Literal["jsonl", "trl-preference", "trl-unpaired", "trl-prompt-completion"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

MAX_LINE_CHARACTERS = 1_000_000
_ERRORS_SHOWN = 5
_LINES_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did."""

    lines: int
    """Judgements read; empty lines are not counted."""
    added: int
    unchanged: int
    """Known already."""
    users_created: int
    by_kind: Mapping[str, int]
    """Judgements read, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What an export wrote, and what it left out."""

    format: ExportFormat
    judgements: int
    """Judgements that count, of the kinds that the format can express."""
    rows: int
    """Lines written; a ranking gives one for each ordered pair."""
    ties_left_out: int = 0
    """Pairs of answers ranked equal (trl-preference)."""
    restricted_left_out: int = 0
    """Judgements of answers from collections that not everyone may read: no training format holds them."""


def import_feedback(path: Path, feedback: FeedbackStore, accounts: Accounts) -> ImportReport:
    """Read judgements from a file of JSON lines.

    Unknown users are created without a password. Ranked answers make a comparison when they are two, else a ranking.

    Args:
        path: One object a line: `{"kind":"rating","question","answer","label","user"}`,
            `{"kind":"comparison","question","answers":[...],"ranking":[[0],[1,2]],"user"}` or
            `{"kind":"demonstration","question","answer","user"}`; `chatbot.interchange_lines` lists the optional keys.
        feedback: Where they go.
        accounts: Whose they are.

    Raises:
        UsageError: the file can not be read, or lines in it are wrong: it names the first few by number, and nothing was imported.
    """
    _check_all(path)
    users: dict[str, str] = {}
    lines = added = users_created = 0
    by_kind: dict[str, int] = {}
    batch: list[Judgement] = []
    for _, line in _parsed(path):
        if line.user not in users:
            known = accounts.find(line.user)
            users_created += known is None
            users[line.user] = (known or accounts.ensure(line.user)).id
        batch.append(to_judgement(line, users[line.user]))
        lines += 1
        by_kind[batch[-1].kind] = by_kind.get(batch[-1].kind, 0) + 1
        if len(batch) == _LINES_AT_ONCE:
            added += feedback.add_all(batch)
            batch = []
    added += feedback.add_all(batch)
    log.info("judgements_imported", lines=lines, added=added, users_created=users_created)
    return ImportReport(
        lines=lines, added=added, unchanged=lines - added, users_created=users_created, by_kind=by_kind
    )


def export_feedback(
    path: Path, feedback: FeedbackStore, accounts: Accounts, *, kind: str = "jsonl"
) -> ExportReport:
    """Write the judgements that count to a file, which appears only when it is complete.

    Args:
        path: The file; an older one is replaced.
        feedback: Where they come from.
        accounts: Gives the names.
        kind: `jsonl` (everything, reads back in), `trl-preference` (`prompt, chosen, rejected`; from comparisons and rankings),
            `trl-unpaired` (`prompt, completion, label`; from ratings) or `trl-prompt-completion` (from demonstrations).
            `prompt` is the rendered prompt, or the question where there was none.

    Raises:
        UsageError: there is no such format.
        StorageError: the file can not be written.
    """
    writers: dict[str, Callable[[_Export], None]] = {
        "jsonl": lambda export: _write_jsonl(export, feedback, accounts),
        "trl-preference": lambda export: _write_preferences(export, feedback),
        "trl-unpaired": lambda export: _write_unpaired(export, feedback),
        "trl-prompt-completion": lambda export: _write_demonstrations(export, feedback),
    }
    chosen = next((legal for legal in EXPORT_FORMATS if legal == kind), None)
    if chosen is None:
        raise UsageError(f"{kind!r} is not an export format: use one of {', '.join(EXPORT_FORMATS)}")
    with written_atomically(path) as file:
        export = _Export(file=file)
        writers[chosen](export)
    log.info("judgements_exported", format=chosen, rows=export.rows)
    return ExportReport(
        format=chosen,
        judgements=export.judgements,
        rows=export.rows,
        ties_left_out=export.ties,
        restricted_left_out=export.restricted,
    )


@dataclass(kw_only=True)
class _Export:
    """A file being written, and the counts so far."""

    file: IO[str]
    judgements: int = 0
    rows: int = 0
    ties: int = 0
    restricted: int = 0
    names: dict[str, str] = field(default_factory=dict)

    def write(self, row: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows += 1

    def trainable(self, judgements: Iterator[Judgement]) -> Iterator[Judgement]:
        for judgement in judgements:
            self.judgements += 1
            if judgement.all_open:
                yield judgement
            else:
                self.restricted += 1


def _write_jsonl(export: _Export, feedback: FeedbackStore, accounts: Accounts) -> None:
    names = {user.id: user.name for user in accounts.list()}
    for judgement in feedback.current():
        name = names.get(judgement.user_id)
        if name is None:  # added while we write
            name = names[judgement.user_id] = accounts.get(judgement.user_id).name
        export.judgements += 1
        export.write(judgement_to_line(judgement, name))


def _write_preferences(export: _Export, feedback: FeedbackStore) -> None:
    for judgement in export.trainable(feedback.current(kinds=("comparison", "ranking"))):
        prompt = judgement.prompt or judgement.question
        groups = [[judgement.answers[index].text for index in group] for group in judgement.ranking]
        for better, group in enumerate(groups):
            export.ties += len(group) * (len(group) - 1) // 2
            for worse in groups[better + 1 :]:
                for chosen in group:
                    for rejected in worse:
                        export.write({"prompt": prompt, "chosen": chosen, "rejected": rejected})


def _write_unpaired(export: _Export, feedback: FeedbackStore) -> None:
    for judgement in export.trainable(feedback.current(kinds=("rating",))):
        completion = judgement.answers[0].text
        prompt = judgement.prompt or judgement.question
        export.write({"prompt": prompt, "completion": completion, "label": judgement.label})


def _write_demonstrations(export: _Export, feedback: FeedbackStore) -> None:
    for judgement in export.trainable(feedback.current(kinds=("demonstration",))):
        prompt = judgement.prompt or judgement.question
        export.write({"prompt": prompt, "completion": judgement.answers[0].text})


def _check_all(path: Path) -> None:
    errors: list[str] = []
    for number, text in _texts(path):
        try:
            parse_line(text)
        except (FeedbackError, UsageError) as error:
            errors.append(f"line {number}: {error}")
    if errors:
        more = len(errors) - _ERRORS_SHOWN
        shown = "; ".join(errors[:_ERRORS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise UsageError(f"nothing was imported from {path}, correct it and try again: {shown}")


def _parsed(path: Path) -> Iterator[tuple[int, ImportedLine]]:
    for number, text in _texts(path):
        try:
            yield number, parse_line(text)
        except (FeedbackError, UsageError) as error:
            raise UsageError(f"{path} changed while it was imported (line {number}: {error})") from error


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            number = 0
            while text := file.readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                if len(text) > MAX_LINE_CHARACTERS:
                    raise UsageError(
                        f"line {number} of {path} is longer than {MAX_LINE_CHARACTERS} characters: is this a feedback file?"
                    )
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: save it as UTF-8 and try again") from error
    except OSError as error:
        raise UsageError(f"{path} can not be read ({error.strerror}): check the path") from error
