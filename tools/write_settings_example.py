"""Write settings.example.toml from the settings dataclasses: every section and field, its docstring, its default.

`--check` writes nothing and exits with 1 when the file is not what it would write; a test runs it. The values are commented out with `#`
and no space: a copy of the file changes nothing, and a release that changes a default reaches everybody who did not choose.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "settings.example.toml"
WIDTH = 118
HEAD = """# Every setting of Tacit, with its default. Written by tools/write_settings_example.py; do not edit by hand.
#
# Copy what you want to change into settings.toml in the home directory (./var, or --home). A value may also come from the environment:
# TACIT_ + section + _ + field, as in TACIT_DATABASE_URL; the sections of training (cycle, snapshot, sft, reward, ppo, gates) come from
# the file and from `tacit train cycle --set ppo.steps=10`. An unknown section or field stops the start and names the legal ones.
"""


def sections() -> dict[str, type[Any]]:
    """Section names and the dataclasses that own them, in the order of the file."""
    from alignment.cycle_settings import TrainingSettings
    from ui.settings import Settings

    owners = [*dataclasses.fields(Settings), *dataclasses.fields(TrainingSettings)]
    factories: list[tuple[str, Any]] = [(field.name, field.default_factory) for field in owners]
    return {name: made for name, made in factories if isinstance(made, type) and name != "training"}


def field_docs(owner: type[Any]) -> dict[str, str]:
    """The docstring below each field, white space folded; a field without one is left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            docs[statement.target.id] = " ".join(str(following.value.value).split())
    return docs


def toml_value(value: Any) -> str:
    """A default as TOML; None is the text `none`, which settings read as None."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f'"{key}" = {toml_value(item)}' for key, item in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def render() -> str:
    """The whole file."""
    lines = [HEAD]
    for name, owner in sections().items():
        lines += [*_comment((inspect.getdoc(owner) or "").split("\n\n")[0]), f"[{name}]"]
        defaults, docs = owner(), field_docs(owner)
        for item in dataclasses.fields(owner):
            lines += [
                *_comment(docs.get(item.name, "")),
                f"#{item.name} = {toml_value(getattr(defaults, item.name))}",
            ]
        lines.append("")
    return "\n".join(lines)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")


def main() -> int:
    """Write or check."""
    sys.path.insert(0, str(ROOT))
    text = render()
    if "--check" in sys.argv[1:]:
        if EXAMPLE.exists() and EXAMPLE.read_text("utf-8") == text:
            return 0
        print(f"{EXAMPLE.name} is out of date: run python tools/write_settings_example.py", file=sys.stderr)
        return 1
    EXAMPLE.write_text(text, "utf-8")
    print(f"{EXAMPLE.name}: {len(sections())} sections")
    return 0


if __name__ == "__main__":
    sys.exit(main())
