"""The documents tell the truth: names that exist, commands that run, settings that are legal, links that lead somewhere."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from ui.cli import tacit
from ui.home import open_home
from ui.settings import load_settings, training_settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [path for name in ("README.md", "CONTRIBUTING.md", "docs/*.md") for path in sorted(ROOT.glob(name))]
README = ROOT / "README.md"
needs_readme = pytest.mark.skipif(not README.exists(), reason="README.md is not written yet")


def _commands(text: str) -> set[str]:
    """What follows `tacit` in code: in backticks and at the start of lines of code blocks."""
    code = re.findall(r"`([^`\n]+)`", text)
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL):
        code += block.splitlines()
    return {match[1].strip() for part in code if (match := re.match(r"(?:\.venv/bin/)?tacit\b([^#]*)", part))}


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = tacit
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    """`tacit ingest --collection`: both the command and the option."""
    for text in _commands(page.read_text("utf-8")):
        command, rest = _resolve(text.split())
        options = {option for parameter in command.params for option in parameter.opts}
        for word in rest:
            if word.startswith("--"):
                assert word.split("=")[0] in options, f"`tacit {text}`: no option {word}"


@needs_readme
def test_the_readme_names_every_command() -> None:
    """Adding a command means telling people."""
    named = {text.split()[0] for text in _commands(README.read_text("utf-8")) if text}

    assert set(tacit.commands) <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_into_the_repository_leads_somewhere(page: Path) -> None:
    """Relative links and images."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]

    assert [] == missing


@needs_readme
def test_every_file_and_folder_that_the_readme_names_exists() -> None:
    """In backticks, with a slash or a known ending."""
    names = re.findall(r"`([\w./-]+(?:/|\.(?:py|md|toml|lock)))`", README.read_text("utf-8"))
    own = [name for name in names if not name.startswith(("/", "~", "."))]
    missing = [name for name in own if name != "settings.toml" and not (ROOT / name).exists()]

    assert names
    assert [] == missing


@needs_readme
def test_every_package_is_in_the_readme() -> None:
    """A new folder needs its line."""
    text = README.read_text("utf-8")

    for package in ("knowledge_base", "chatbot", "alignment", "ui", "tests", "benchmarks"):
        assert f"`{package}/`" in text


@needs_readme
@pytest.mark.parametrize("target", ["setup", "demo", "test", "lint", "bench"])
def test_make_has_the_promised_targets(target: str) -> None:
    """README and continuous integration use them."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


# Docstrings

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("knowledge_base", "chatbot", "alignment", "ui")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>>" in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    """They are run."""
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)

    assert 0 == result.failed


# Settings


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """The program that writes settings.example.toml."""
    spec = importlib.util.spec_from_file_location("writer", ROOT / "tools" / "write_settings_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_of_all_settings_is_up_to_date() -> None:
    """Its own program says so."""
    command = [sys.executable, str(ROOT / "tools" / "write_settings_example.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr


def test_every_setting_has_its_line(writer: ModuleType) -> None:
    """Field by field."""
    shown = _uncommented()

    for name, owner in writer.sections().items():
        assert {field.name for field in dataclasses.fields(owner)} == set(shown[name])


def test_the_example_is_legal_and_changes_nothing(writer: ModuleType, tmp_path: Path) -> None:
    """Every value in it, read as settings, is the default."""
    (tmp_path / "settings.toml").write_text(_uncommented_text())
    loaded = load_settings(open_home(tmp_path, create=True), environment={})

    for name, owner in writer.sections().items():
        if name in loaded.training:
            assert owner() == training_settings(loaded, name, owner)
        else:
            assert owner() == getattr(loaded, name)


def test_every_setting_is_explained(writer: ModuleType) -> None:
    """By the docstring below its field."""
    unexplained = [
        f"{name}.{field.name}"
        for name, owner in writer.sections().items()
        for field in dataclasses.fields(owner)
        if field.name not in writer.field_docs(owner)
    ]

    assert [] == unexplained


def _uncommented_text() -> str:
    text = (ROOT / "settings.example.toml").read_text("utf-8")
    return re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)


def _uncommented() -> dict[str, Any]:
    return tomllib.loads(_uncommented_text())
