"""How much of the machine one document may take. Knows nothing of formats."""

from __future__ import annotations

from dataclasses import dataclass, fields

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class LoadLimits:
    """Bounds for reading one document; a document beyond any of them is refused with one clear line."""

    max_file_bytes: int = 50 * MEBIBYTE
    """Size of the file on disk, in bytes."""
    max_pages: int = 2_000
    """Pages of a PDF."""
    max_text_characters: int = 10_000_000
    """Characters of clean text."""
    wall_seconds: float = 120.0
    """Time the child process may take for one document, in seconds."""
    cpu_seconds: int = 120
    """Processor time the child process may take for one document, in seconds (where the system can limit it)."""
    memory_bytes: int = 2048 * MEBIBYTE
    """Address space of the child process, in bytes (where the system can limit it)."""
    max_zip_entries: int = 5_000
    """Files inside a DOCX."""
    max_zip_bytes: int = 300 * MEBIBYTE
    """Size of a DOCX once unpacked, in bytes."""
    max_zip_ratio: float = 200.0
    """Unpacked size over packed size of a DOCX; counts from 10 MiB unpacked, since small XML packs very well."""
    documents_per_child: int = 500
    """Documents after which the child process is replaced, so that leaks in parsers cannot add up."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be above 0, not {value}")


def in_units(n_bytes: int) -> str:
    """Say a size the way people do.

    >>> in_units(200 * 1024 * 1024)
    '200 MiB'
    """
    for unit, size in (("GiB", 1024 * MEBIBYTE), ("MiB", MEBIBYTE), ("KiB", 1024)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{n_bytes} bytes"
