"""Where the weights of a retrieval model lie, and whether they are what they should be.

Knows nothing of what a model computes. Different from the hub's own loaders: a local directory is never looked up anywhere, an id is fetched
as a whole or not at all, and pickled weights are refused, because loading them runs code.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from knowledge_base.errors import TacitError

log = structlog.get_logger(__name__)

_HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "*/config.json", "*/*.safetensors"]


def model_directory(name: str, what: str, error: type[TacitError]) -> Path:
    """The directory of a model given by a path or a hub id, which is fetched.

    Args:
        name: As in the settings.
        what: For the message: `embedder`, `reranker`.
        error: Raised when it is neither.
    """
    given = Path(name).expanduser()
    return given.resolve() if given.is_dir() else _fetch_from_hub(name, what, error)


def is_at_hand(name: str) -> bool:
    """Whether a directory or hub id names a model: one that lies here, was fetched before, or that the hub shows now."""
    if Path(name).expanduser().is_dir():
        return True
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, "config.json")
    except _hub_errors() as caught:
        log.info("model_not_at_hand", model=name, reason=first_line(caught))
        return False
    return True


def weights_sha256(directory: Path, error: type[TacitError]) -> str:
    """SHA-256 of a model directory's safetensors files, in the order of their names.

    Args:
        directory: Of the model.
        error: Raised when there are none or they cannot be read.
    """
    files = sorted(directory.rglob("*.safetensors"))
    if not files:
        raise error(f"{directory} holds no *.safetensors: give a sentence-transformers directory that does")
    return _hash(files, error)


def file_sha256(path: Path, error: type[TacitError]) -> str:
    """SHA-256 of one file of weights; `error` is raised when it cannot be read."""
    return _hash([path], error)


def _hash(files: Sequence[Path], error: type[TacitError]) -> str:
    try:
        return _sha256(tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files))
    except OSError as caught:
        raise error(f"the weights {files[0]} cannot be read ({caught}): check the file") from caught


@functools.lru_cache(maxsize=8)
def _sha256(files: tuple[tuple[str, int, int], ...]) -> str:
    # Time and size are in the key, so that a file that changed is read again and one that did not is read once a process.
    digest = hashlib.sha256()
    for name, _mtime, _size in files:
        with Path(name).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _fetch_from_hub(model_id: str, what: str, error: type[TacitError]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model_id, allow_patterns=_HUB_FILES))
    except _hub_errors() as caught:
        raise error(
            f"{what} {model_id!r} is neither a local directory nor found on the hub ({first_line(caught)}): "
            "give a directory, or leave the setting empty for the default"
        ) from caught


def _hub_errors() -> tuple[type[Exception], ...]:
    """Whatever the hub's client raises for a model that cannot be had: no such name, no answer, nothing fetched before."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    return HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters; its type when it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
