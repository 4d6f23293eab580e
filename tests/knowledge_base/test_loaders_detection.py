"""What is refused before or instead of parsing, each with one clear line."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.dispatch import load_document
from knowledge_base.loaders.limits import LoadLimits


def zip_bytes(entries: dict[str, bytes]) -> bytes:
    """A ZIP archive of these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.md", b"\x7fELF\x02\x01\x01\x00\x00", "not text but a Linux program"),
        ("a.pdf", b"\x89PNG\r\n\x1a\n\x00\x00", "not a PDF but a PNG image"),
        ("a.txt", b"MZ\x90\x00\x03\x00", "not text but a Windows program"),
        ("a.html", zip_bytes({"x": b"y"}), "not text but a ZIP archive"),
        ("a.md", b"%PDF-1.7\n1 0 obj", "not text but a PDF"),
        ("a.pdf", b"Just words.", "not a PDF but plain text"),
        ("a.docx", b"Just words.", "not a Word document but plain text"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64),
            "encrypted or in the old Word format: save it as .docx",
        ),
        ("a.docx", zip_bytes({"xl/workbook.xml": b""}), "not a Word document but an Excel workbook"),
        ("a.docx", b"PK\x03\x04torn", "damaged Word document"),
        ("a.md", b"words\x00\x01\x02\x03 words", "not text but binary data"),
        ("a.md", b"", "is empty"),
        ("a.txt", b"\n \n", "is empty"),
        ("a.xlsx", b"PK\x03\x04", "supported: .md .markdown .txt .html .htm .pdf .docx"),
        ("README", b"words", "has no extension"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """The line says what the file seems to be."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DocumentError) as caught:
        load_document(path)

    assert message in str(caught.value)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "opening", ["MZ is our code for", "ID3 tags explained", "GIF89 is a format", "BZh, said he"]
)
def test_text_that_opens_like_a_binary_is_text(tmp_path: Path, opening: str) -> None:
    """Two letters do not make a program."""
    path = tmp_path / "a.txt"
    path.write_text(opening)

    assert opening == load_document(path).text


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    """The line gives the limit and what to do."""
    path = tmp_path / "big.txt"
    with path.open("wb") as file:
        file.truncate(200 * 1024 * 1024)

    with pytest.raises(DocumentError) as caught:
        load_document(path)

    expected = (
        "big.txt is 200 MiB, the limit is 50 MiB: split it into smaller documents, or raise max_file_bytes"
    )
    assert expected == str(caught.value)


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    """Nothing is opened that could block or never end."""
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)

    for path, message in (
        (tmp_path / "no.md", "No such file"),
        (tmp_path, "not a regular file"),
        (pipe, "not a regular file"),
    ):
        with pytest.raises(DocumentError, match=message):
            load_document(path)


def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    """Permissions are named."""
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    path = tmp_path / "a.md"
    path.write_text("x")
    path.chmod(0)

    with pytest.raises(DocumentError, match="Permission denied"):
        load_document(path)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (LoadLimits(max_zip_bytes=1024 * 1024), "would unpack to 20 MiB"),
        (LoadLimits(max_zip_ratio=100), "-fold when unpacked"),
        (LoadLimits(max_zip_entries=1), "holds 2 files"),
    ],
)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, limits: LoadLimits, message: str
) -> None:
    """Entries, size and ratio have limits each."""
    path = tmp_path / "bomb.docx"
    path.write_bytes(zip_bytes({"word/document.xml": bytes(20 * 1024 * 1024), "word/x.xml": b""}))

    with pytest.raises(DocumentError, match=message):
        load_document(path, limits=limits)


def test_whatever_a_parser_raises_becomes_one_line(tmp_path: Path) -> None:
    """A Word document with broken XML inside costs that document only."""
    path = tmp_path / "broken.docx"
    path.write_bytes(zip_bytes({"word/document.xml": b"<w:document", "[Content_Types].xml": b"<Types"}))

    with pytest.raises(DocumentError, match=r"broken\.docx cannot be parsed"):
        load_document(path)


def test_a_limit_of_nothing_is_refused_by_name() -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match="max_pages must be above 0"):
        LoadLimits(max_pages=0)
