"""Checks a DOCX archive before it is unpacked: the number of entries, their size, how much they would grow.

An archive may lie about sizes; `zipfile` never reads more of an entry than the size it declares, so the sum of the declared
sizes is a true bound.
"""

from __future__ import annotations

import io
import zipfile

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.limits import MEBIBYTE, LoadLimits, in_units

_RATIO_COUNTS_FROM_BYTES = 10 * MEBIBYTE
_WORD = "word/document.xml"
_OTHERS = (
    ("xl/workbook.xml", "an Excel workbook"),
    ("ppt/presentation.xml", "a PowerPoint presentation"),
    ("mimetype", "an OpenDocument file or e-book"),
)


def check_docx_archive(data: bytes, name: str, limits: LoadLimits) -> None:
    """Refuse what is no Word document, or would unpack to more than the limits allow.

    Raises:
        DocumentError: saying which.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DocumentError(
            f"{name} is a damaged Word document: open it, save it again, and ingest that"
        ) from error
    _check_sizes(entries, name, limits)
    names = {entry.filename for entry in entries}
    if _WORD not in names and not any(entry.startswith("word/") for entry in names):
        kind = next((meaning for marker, meaning in _OTHERS if marker in names), "another ZIP archive")
        raise DocumentError(
            f"{name} is not a Word document but {kind}: give it its right extension or leave it out"
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise DocumentError(f"{name} is encrypted: save it without a password and ingest again")


def _check_sizes(entries: list[zipfile.ZipInfo], name: str, limits: LoadLimits) -> None:
    if len(entries) > limits.max_zip_entries:
        raise DocumentError(
            f"{name} holds {len(entries):,} files, the limit is {limits.max_zip_entries:,}: save it again from Word"
        )
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(1, sum(entry.compress_size for entry in entries))
    if unpacked > limits.max_zip_bytes:
        raise DocumentError(
            f"{name} would unpack to {in_units(unpacked)}, the limit is {in_units(limits.max_zip_bytes)}: split it"
        )
    if unpacked > _RATIO_COUNTS_FROM_BYTES and unpacked / packed > limits.max_zip_ratio:
        raise DocumentError(
            f"{name} grows {unpacked / packed:,.0f}-fold when unpacked (a ZIP bomb?), "
            f"the limit is {limits.max_zip_ratio:g}-fold: save it again from Word"
        )
