"""Says which file of a model's directory is damaged, once loading it has failed.

The libraries that load weights say "incomplete metadata" or "Expecting value", and not of which file. Knows nothing of models, and cannot find
every damage: a flipped bit in a weight is still a weight, which only a recorded hash tells.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path


def damaged_file(directory: Path) -> str | None:
    """`FILE is damaged (REASON)` of the first file of a directory that cannot be read as what its name says; None where all can.

    Weights (`.safetensors`) must be as long as their header says, `.json` must be JSON, saved states (`.pt`, `.pth`) whole archives.
    """
    for file in sorted(directory.iterdir()) if directory.is_dir() else ():
        if reason := _damage(file):
            return f"{file} is damaged ({reason})"
    return None


def _damage(file: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np"):
                return None
        if file.suffix == ".json":
            json.loads(file.read_text("utf-8"))
        if file.suffix in {".pt", ".pth"} and not zipfile.is_zipfile(file):
            return "cut off"
    except SafetensorError as error:
        return " ".join(str(error).split())
    except (OSError, ValueError) as error:
        return str(error)
    return None
