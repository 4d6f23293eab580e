"""What the command line prints: JSON or text on stdout, progress and errors on stderr, and the exit code.

Knows nothing of what the commands do. The rule it keeps: with `--json`, stdout holds exactly one JSON object, as its last line.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_HOME = "./var"
REPORT_EVERY_SECONDS = 10.0
"""How often progress is a log line when stderr is no terminal."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """What every command gets: where the data lies and how to speak."""

    home: Path
    as_json: bool
    debug: bool

    def emit(self, payload: dict[str, Any], text: str | Sequence[str]) -> None:
        """Print the outcome: the payload with `--json`, else the text."""
        if self.as_json:
            sys.stdout.write(json.dumps(payload, default=_plain, ensure_ascii=False) + "\n")
        else:
            lines = [text] if isinstance(text, str) else text
            sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def note(self, line: str) -> None:
        """Say something on the way, on stderr."""
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def complain(self, line: str) -> None:
        """Say what went wrong with a part of the work, in the form of all errors."""
        self.note("tacit: " + " ".join(line.split()))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def command_options(function: F) -> F:
    """Give a click command `--home`, `--json`, `--debug` and pass them as a `Context`, its first argument."""

    @click.option(
        "--home",
        envvar="TACIT_HOME",
        default=DEFAULT_HOME,
        show_default=True,
        type=click.Path(path_type=Path),
        help="Where Tacit keeps its data.",
    )
    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error and debug logs.")
    @functools.wraps(function)
    def wrapped(home: Path, as_json: bool, debug: bool, **rest: Any) -> Any:
        from ui.logging import configure_logging

        configure_logging(debug=debug)
        return function(Context(home=home.expanduser(), as_json=as_json, debug=debug), **rest)

    return wrapped  # type: ignore[return-value]  # click's decorators keep the callable but not its type


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar with an ETA on a terminal; a log line every ten seconds elsewhere.

    Yields a function `(done, total, note)`; total 0 means unknown.
    """
    if sys.stderr.isatty():
        with _rich_bar(description) as update:
            yield update
    else:
        yield _line_reporter(description)


@contextmanager
def _rich_bar(description: str) -> Iterator[Callable[[int, int, str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total or None, note=note)

        yield update


def _line_reporter(description: str) -> Callable[[int, int, str], None]:
    started = last = time.monotonic()
    first: tuple[float, int, int] | None = None

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        # The first item waits for models to load, which says nothing of the pace of the others; a new stage has its own pace.
        if first is None or total != first[2] or done < first[1]:
            first = now, done, total
        # The end is told only where there was something to wait for: a command of a second says nothing.
        if now - last < REPORT_EVERY_SECONDS and (done != total or last == started):
            return
        last = now
        since, before, _ = first
        eta = (
            f", {(now - since) / (done - before) * (total - done):.0f} s left"
            if done > before and total
            else ""
        )
        sys.stderr.write(f"{description}: {done}/{total or '?'}{eta} {note}".rstrip() + "\n")
        sys.stderr.flush()

    return update


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> list[str]:
    """Rows as aligned text columns.

    >>> table([["a", 1]], ["name", "n"])
    ['name  n', 'a     1']
    """
    cells = [[str(c) for c in headers], *[[str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
