"""Which files an ingest takes, passes over and refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knowledge_base.errors import UsageError
from knowledge_base.source_walk import find_sources

SUFFIXES = {".md", ".txt"}


def write(path: Path, text: str = "x") -> Path:
    """Make a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_gives_its_documents_in_order(tmp_path: Path) -> None:
    """Paths are relative to it, with forward slashes; files of other kinds are passed over without complaint."""
    for name in ("b.md", "a/z.TXT", "a/b/c.md", "picture.png"):
        write(tmp_path / "docs" / name)

    found = find_sources([tmp_path / "docs"], SUFFIXES)

    assert ["a/b/c.md", "a/z.TXT", "b.md"] == [f.path for f in found.files]
    assert () == found.failed


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    """`.git` most of all."""
    for name in (".git/config.md", ".secret.md", "open.md"):
        write(tmp_path / name)

    assert ["open.md"] == [f.path for f in find_sources([tmp_path], SUFFIXES).files]


def test_links_are_followed_only_within_the_folder(tmp_path: Path) -> None:
    """Neither a file outside nor something hidden can be published through a link."""
    secret = write(tmp_path / "outside" / "secret.md")
    docs = tmp_path / "docs"
    real = write(docs / "real.md")
    hidden = write(docs / ".git" / "config.md")
    (docs / "out.md").symlink_to(secret)
    (docs / "in.md").symlink_to(real)
    (docs / "hid.md").symlink_to(hidden)
    (docs / "broken.md").symlink_to(docs / "nothing.md")
    (docs / "folder").symlink_to(tmp_path / "outside")

    found = find_sources([docs], SUFFIXES)

    assert ["in.md", "real.md"] == [f.path for f in found.files]


def test_what_is_named_but_refused_is_reported(tmp_path: Path) -> None:
    """Hidden files, links and devices."""
    target = write(tmp_path / "a.md")
    link = tmp_path / "link.md"
    link.symlink_to(target)
    os.mkfifo(tmp_path / "pipe.md")

    found = find_sources([write(tmp_path / ".hidden.md"), link, tmp_path / "pipe.md"], SUFFIXES)

    assert () == found.files
    assert ["hidden", "symbolic link", "regular file"] == [
        next(word for word in ("hidden", "symbolic link", "regular file") if word in f.error)
        for f in found.failed
    ]


def test_a_named_file_keeps_its_name_whatever_its_kind(tmp_path: Path) -> None:
    """The loader will say what it thinks of it."""
    assert ["a.xyz"] == [f.path for f in find_sources([write(tmp_path / "deep" / "a.xyz")], SUFFIXES).files]


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    """Before anything is ingested; naming nothing is one too."""
    with pytest.raises(UsageError, match="nope does not exist"):
        find_sources([tmp_path, tmp_path / "nope"], SUFFIXES)
    with pytest.raises(UsageError, match="nothing to ingest"):
        find_sources([], SUFFIXES)


def test_two_files_of_one_path_are_not_both_taken(tmp_path: Path) -> None:
    """The second would replace the first at every ingest; the same file named twice is no conflict."""
    one, two = write(tmp_path / "1" / "a.md"), write(tmp_path / "2" / "a.md")

    found = find_sources([one.parent, two.parent, one], SUFFIXES)

    assert [one] == [f.file for f in found.files]
    assert [str(two)] == [f.path for f in found.failed]


def test_a_name_that_is_not_utf8_is_reported_legibly(tmp_path: Path) -> None:
    """It can neither be stored nor printed as it is."""
    folder = tmp_path / "docs"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.md")).write_text("x")

    found = find_sources([folder], SUFFIXES)

    assert () == found.files
    assert ["bad\\xff.md"] == [f.path for f in found.failed]
