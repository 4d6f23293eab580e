"""Keeps reader examples on disk: to resume a run without making them again, and to mix them into pretraining.

Knows nothing of how examples are made. One JSON object a line, as everything else that is exchanged here.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from alignment.reader_data import build_reader_data
from alignment.reader_examples import FurtherQuestion, ReaderData, ReaderDataSettings, ReaderExample
from alignment.tokenizer import END
from chatbot.prompt import Message, NumberedEvidence, render_prompt

_log = structlog.get_logger(__name__)


def load_or_build_reader_data(settings: ReaderDataSettings, path: Path) -> ReaderData:
    """The examples of these settings: read from a file written by an earlier call with the same settings, else made and written.

    Args:
        settings: What the examples depend on, apart from the data folder's content.
        path: A `*.jsonl.gz` file; its first line says what it was made from.
    """
    return load_or_make(repr(settings), path, lambda: build_reader_data(settings))


def load_or_make(made_from: str, path: Path, make: Callable[[], ReaderData]) -> ReaderData:
    """Examples read from a file that an earlier call wrote, if it was made from the same, else made and written.

    Args:
        made_from: Names everything that the examples depend on.
        path: A `*.jsonl.gz` file.
        make: Makes them.
    """
    if path.exists():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            if json.loads(next(lines)) == {"settings": made_from}:
                rows = [json.loads(line) for line in lines]
                _log.info("reader_data_read", path=str(path), examples=len(rows))
                return ReaderData(
                    train=[_from_row(row) for row in rows if not row["held_out"]],
                    held_out=[_from_row(row) for row in rows if row["held_out"]],
                )
    data = make()
    _save(data, made_from, path)
    return data


def _save(data: ReaderData, made_from: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with gzip.open(partial, "wt", encoding="utf-8", compresslevel=1) as lines:
        lines.write(json.dumps({"settings": made_from}) + "\n")
        for held_out, examples in ((False, data.train), (True, data.held_out)):
            for example in examples:
                lines.write(json.dumps({"held_out": held_out, **asdict(example)}) + "\n")
    partial.replace(path)


def _from_row(row: dict[str, Any]) -> ReaderExample:
    return ReaderExample(
        document=row["document"],
        kind=row["kind"],
        style=row["style"],
        question=row["question"],
        evidence=tuple(NumberedEvidence(**item) for item in row["evidence"]),
        history=tuple(Message(**item) for item in row["history"]),
        completion=row["completion"],
        cited=tuple(row["cited"]),
        right=tuple(row["right"]),
        further=tuple(
            FurtherQuestion(
                question=item["question"], completion=item["completion"], right=tuple(item["right"])
            )
            for item in row["further"]
        ),
    )


def write_as_corpus(examples: Sequence[ReaderExample], tokenizer: Any, path: Path) -> None:
    """Write examples as a `*.jsonl.xz` corpus of rendered chats, which pretraining takes as `late_data_dir`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8", preset=1) as lines:
        for number, example in enumerate(examples):
            text = render_prompt(tokenizer, example.messages) + example.completion + END
            row = {"source": "reader", "path": f"{example.document}#{number}", "text": text}
            lines.write(json.dumps(row) + "\n")
