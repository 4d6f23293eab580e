"""Reads one file and hands it to the loader of its format family. Runs in the calling process: see `process` for the sandbox."""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.detection import FAMILIES, HEAD_BYTES, SUPPORTED, Family, detect_family
from knowledge_base.loaders.limits import LoadLimits, in_units
from knowledge_base.records import ParsedDocument

Loader = Callable[[bytes, str, LoadLimits], ParsedDocument]
DEFAULT_LIMITS = LoadLimits()


def load_document(path: Path, *, limits: LoadLimits = DEFAULT_LIMITS) -> ParsedDocument:
    """Parse one document.

    Raises:
        DocumentError: one line that names the file, what is wrong with it, and what to do.
    """
    check_file(path, limits)
    data = _read(path, limits)
    family = detect_family(path.name, data[:HEAD_BYTES])
    if not data.strip():
        raise DocumentError(f"{path.name} is empty: there is nothing to ingest")
    try:
        return _loader(family)(data, path.name, limits)
    except DocumentError:
        raise
    except MemoryError as error:
        raise DocumentError(
            f"{path.name} needs more than {in_units(limits.memory_bytes)} of memory to read: split it into smaller documents"
        ) from error
    except Exception as error:  # parsers of other people's files raise anything at all on damaged ones
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DocumentError(
            f"{path.name} cannot be parsed ({detail}): open it, save it again, and ingest that"
        ) from error


def check_file(path: Path, limits: LoadLimits) -> None:
    """Refuse what can be refused without reading: no such file, a folder or device, too large, an unknown extension.

    Raises:
        DocumentError: saying which.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DocumentError(
            f"{path.name} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError(f"{path.name} is not a regular file: name a document; supported: {SUPPORTED}")
    if path.suffix.lower() not in FAMILIES:
        detect_family(path.name, b"")  # raises, naming the extension
    if status.st_size > limits.max_file_bytes:
        raise _too_large(path, status.st_size, limits)
    if status.st_size == 0:
        raise DocumentError(f"{path.name} is empty: there is nothing to ingest")


def _read(path: Path, limits: LoadLimits) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_file_bytes + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DocumentError(
            f"{path.name} cannot be read ({error.strerror}): check its permissions"
        ) from error
    if len(data) > limits.max_file_bytes:
        raise _too_large(path, size, limits)  # it grew since it was looked at
    return data


def _too_large(path: Path, size: int, limits: LoadLimits) -> DocumentError:
    return DocumentError(
        f"{path.name} is {in_units(size)}, the limit is {in_units(limits.max_file_bytes)}: "
        "split it into smaller documents, or raise max_file_bytes"
    )


def _loader(family: Family) -> Loader:
    """Import one loader only: a folder of Markdown never pays for PDFium."""
    module = importlib.import_module(f"knowledge_base.loaders.{family}")
    loader: Loader = getattr(module, f"load_{family}")
    return loader
