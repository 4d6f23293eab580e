"""Write requirements.lock from the packages of this environment; pins of packages that only other extras need are kept.

Run it in an environment made by `make setup` after changing pyproject.toml and running all tests. Local version parts (`+cpu`) are
dropped, so that the same pin finds the build that an ordinary machine has.
"""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
OURSELVES = {"tacit", "pip", "setuptools"}
HEAD = """# Exact versions of everything Tacit installs, used as pip constraints by `make setup`.
# Written by tools/write_lock.py from an environment in which all tests pass; do not edit by hand.
"""


def canonical(name: str) -> str:
    """A package name as pip compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def main() -> None:
    """Merge the installed versions into the lock."""
    pins: dict[str, str] = {}
    if LOCK.exists():
        for line in LOCK.read_text("utf-8").splitlines():
            if "==" in line and not line.startswith("#"):
                name, version = line.split("==")
                pins[canonical(name)] = f"{name}=={version}"
    for package in distributions():
        name = package.metadata["Name"]
        if canonical(name) not in OURSELVES:
            pins[canonical(name)] = f"{name}=={package.version.split('+')[0]}"
    LOCK.write_text(HEAD + "\n".join(pins[key] for key in sorted(pins)) + "\n", "utf-8")
    print(f"{LOCK.name}: {len(pins)} pins")


if __name__ == "__main__":
    main()
