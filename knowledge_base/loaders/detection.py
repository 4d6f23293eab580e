"""Decides what a file is, by its extension and by its first bytes, which must agree.

An extension alone is not believed: a program renamed to `.md` would become thousands of nonsense chunks.
First bytes alone are not believed either: Markdown and plain text have none that mark them.
"""

from __future__ import annotations

from typing import Literal

from knowledge_base.errors import DocumentError

Family = Literal["markdown", "text", "html", "pdf", "docx"]

FAMILIES: dict[str, Family] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
}
SUPPORTED = " ".join(FAMILIES)
HEAD_BYTES = 8192
"""How much of a file is looked at."""

_PDF = "a PDF"
_ZIP = "a ZIP archive (or an Office document)"
_OLE = "an old or password-protected Office file"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", _PDF),
    (b"PK\x03\x04", _ZIP),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OLE),
    (b"{\\rtf", "a rich text (RTF) document"),
    (b"%!PS", "a PostScript file"),
    (b"\x7fELF", "a Linux program"),
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a macOS program or Java class"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a WebP image or WAV/AVI recording"),
    (b"OggS", "an Ogg recording"),
    (b"ID3", "an MP3 recording"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
)
_READABLE_MAGIC = (b"%PDF-", b"{\\rtf", b"%!PS")
"""First bytes that are letters yet do not open an ordinary text."""
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_PLAIN_CONTROLS = frozenset(b"\t\n\r\f\x1b\x08\x0b\x1a")


def detect_family(name: str, head: bytes) -> Family:
    """Name the format family of a file from its name and its first `HEAD_BYTES` bytes.

    Raises:
        DocumentError: the extension is not supported, or the bytes belong to something else.
    """
    suffix = _suffix(name)
    family = FAMILIES.get(suffix)
    if family is None:
        found = f"has the extension {suffix}" if suffix else "has no extension"
        raise DocumentError(f"{name} {found}, which cannot be read; supported: {SUPPORTED}")
    if family == "pdf":
        if b"%PDF-" not in head[:1024]:
            raise DocumentError(
                f"{name} is not a PDF but {seems(head)}: give it its right extension or leave it out"
            )
    elif family == "docx":
        _check_docx(name, head)
    elif (other := _binary(head)) is not None:
        raise DocumentError(f"{name} is not text but {other}: give it its right extension or leave it out")
    return family


def seems(head: bytes) -> str:
    """Say in words what a file's first bytes look like."""
    return _binary(head) or "plain text"


def _suffix(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _check_docx(name: str, head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        return
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DocumentError(
            f"{name} is encrypted or in the old Word format: save it as .docx without a password and ingest again"
        )
    raise DocumentError(
        f"{name} is not a Word document but {seems(head)}: give it its right extension or leave it out"
    )


def _binary(head: bytes) -> str | None:
    """Name what the bytes are when they are not text; None for text."""
    is_wide = head.startswith(_WIDE_MARKS)
    looks_plain = is_wide or not any(byte < 32 and byte not in _PLAIN_CONTROLS for byte in head)
    for magic, meaning in _MAGIC:
        if head.startswith(magic) and (magic in _READABLE_MAGIC or not _could_open_text(magic, looks_plain)):
            return meaning
    if head[4:8] == b"ftyp":
        return "an MP4 recording or HEIC image"
    return None if looks_plain else "binary data"


def _could_open_text(magic: bytes, looks_plain: bool) -> bool:
    """`MZ`, `ID3` and their like also open honest sentences."""
    return looks_plain and magic.isascii() and magic.isalnum()
