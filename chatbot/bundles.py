"""Policy bundles: a directory of weights with a manifest, written once. Knows nothing of models or of who serves.

Different from a checkpoint folder: the manifest holds the SHA-256 of every file; the directory takes its name only when everything
in it is on the disk; afterwards nothing in it can be written, and a changed, missing or added file is found before it serves.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from chatbot.durable_files import file_hash, storage_failure, sync_directory, sync_file
from chatbot.errors import GenerationError, PolicyError
from knowledge_base.errors import UsageError

T = TypeVar("T")

MANIFEST = "manifest.json"
"""The manifest's file name in a bundle; its `files` maps relative paths to SHA-256 digests."""


def new_staging(directory: Path) -> Path:
    """An empty directory beside a bundle to be, to write its files into; `write_bundle` gives it its final name.

    Raises:
        StorageError: it can not be made.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".partial"))
    except OSError as error:
        raise storage_failure(error, directory) from error


def write_bundle(staging: Path, directory: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Seal the files of a staging directory as an immutable bundle.

    Args:
        staging: From `new_staging(directory)`, with the bundle's files in it; gone afterwards.
        directory: Where the bundle shall be; must not exist.
        manifest: Lineage in values that JSON can hold; `files` is added here.

    Returns:
        The manifest as written.

    Raises:
        UsageError: the bundle exists, or the staging directory is empty or holds a link or a manifest.
        StorageError: it can not be written; the staging directory is left for another try.
    """
    if directory.exists():
        raise UsageError(f"{directory} exists: a bundle is never overwritten, choose a new id")
    _refuse_odd_files(staging)
    files = bundle_hashes(staging)
    if not files:
        raise UsageError(f"{staging} is empty: a bundle needs at least one file")
    sealed = {**manifest, "files": files}
    text = json.dumps(sealed, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        (staging / MANIFEST).write_text(text, encoding="utf-8")
        _sync_and_lock(staging)
        staging.rename(directory)
        # The directory itself last: renaming one that can not be written needs more rights on some systems.
        directory.chmod(0o555)
        sync_directory(directory.parent)
    except OSError as error:
        raise storage_failure(error, directory) from error
    return sealed


def read_bundle(directory: Path) -> dict[str, Any]:
    """A bundle's manifest.

    Raises:
        PolicyError: there is no bundle, or its manifest can not be read.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{directory} is not a policy bundle ({path.name} can not be read)") from error
    except ValueError as error:
        raise PolicyError(f"{path} is damaged: restore the bundle from a backup or train again") from error
    if not isinstance(manifest, dict):
        raise PolicyError(f"{path} is damaged: it should hold one JSON object")
    return manifest


def read_part(file: Path, make: Callable[[Any], T]) -> T | None:
    """What a small JSON file of a bundle says; None where the bundle has none.

    Args:
        file: Of the bundle.
        make: Makes it of the JSON value; ValueError, KeyError and TypeError say that it cannot.

    Raises:
        GenerationError: there is one, and it cannot be used.
    """
    if not file.is_file():
        return None
    try:
        return make(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GenerationError(f"{file} cannot be used ({error}): train again, or roll back") from error


def verify_bundle(directory: Path, files: Mapping[str, str] | None = None) -> None:
    """Check every file of a bundle against its manifest.

    Args:
        directory: The bundle.
        files: Relative path to SHA-256, as recorded elsewhere (the database), so that a forged manifest does not help; None for
            the bundle's own manifest.

    Raises:
        PolicyError: a file was changed, is missing, or was added; the message names it.
    """
    expected = dict(files if files is not None else read_bundle(directory).get("files", {}))
    if not directory.is_dir():
        raise PolicyError(f"the bundle {directory} is gone: restore it from a backup or train again")
    try:
        found = bundle_hashes(directory)
    except OSError as error:
        raise PolicyError(f"the bundle {directory} can not be read ({error.strerror})") from error
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise PolicyError(
                f"{directory / name} is missing: restore the bundle from a backup or train again"
            )
        if name not in expected:
            raise PolicyError(f"{directory / name} is not part of the bundle: remove it")
        if found[name] != expected[name]:
            raise PolicyError(
                f"{directory / name} was changed: restore the bundle from a backup or train again"
            )


def bundle_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file in a directory but the manifest, by relative path with forward slashes."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    names = {path.relative_to(directory).as_posix(): path for path in paths}
    return {name: file_hash(path) for name, path in names.items() if name != MANIFEST}


def delete_bundle(directory: Path) -> None:
    """Remove a bundle or an abandoned staging directory, read-only or not.

    Raises:
        StorageError: it can not be removed.
    """
    try:
        for folder, _, _ in os.walk(directory):
            Path(folder).chmod(0o755)
        shutil.rmtree(directory)
    except OSError as error:
        raise storage_failure(error, directory) from error


def _refuse_odd_files(staging: Path) -> None:
    for path in staging.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise UsageError(f"{path} is not a plain file: a bundle holds its files itself")
    if (staging / MANIFEST).exists():
        raise UsageError(f"{staging / MANIFEST} exists: the manifest is written when the bundle is sealed")


def _sync_and_lock(staging: Path) -> None:
    for path in sorted(staging.rglob("*"), reverse=True):  # files before the folders that hold them
        if path.is_file():
            sync_file(path)
            path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        else:
            sync_directory(path)
            path.chmod(0o555)
    sync_directory(staging)
