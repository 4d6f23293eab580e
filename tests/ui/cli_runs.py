"""Runs `tacit` in this process and reads what it printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ui.cli import run


def call(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str | Path) -> dict[str, Any]:
    """A command that succeeds; its JSON object, which is all that stdout holds."""
    capsys.readouterr()
    code = run([*map(str, arguments), "--home", str(home), "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert printed.out.count("\n") == 1
    payload = json.loads(printed.out)
    assert isinstance(payload, dict)
    return payload


def refused(capsys: pytest.CaptureFixture[str], home: Path, *arguments: str | Path) -> tuple[int, str]:
    """A command that fails; its exit code and its one line."""
    capsys.readouterr()
    code = run([*map(str, arguments), "--home", str(home)])
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("tacit: ")
    return code, lines[0].removeprefix("tacit: ")
