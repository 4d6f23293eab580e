"""Bundles are written once, whole, and a changed one is found out."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbot.bundles import delete_bundle, new_staging, read_bundle, verify_bundle, write_bundle
from chatbot.errors import PolicyError
from knowledge_base.errors import UsageError


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """A sealed bundle of two files."""
    directory = tmp_path / "policies" / "ppo-1"
    staging = new_staging(directory)
    (staging / "tokenizer").mkdir()
    (staging / "model.safetensors").write_bytes(b"weights")
    (staging / "tokenizer" / "tokenizer.json").write_text("{}")
    write_bundle(staging, directory, {"stage": "ppo", "base": "abc"})
    yield directory
    if directory.exists():
        delete_bundle(directory)


def test_a_bundle_holds_its_lineage_and_the_hash_of_every_file(bundle: Path) -> None:
    """With sorted keys, so that equal manifests are equal bytes."""
    manifest = read_bundle(bundle)

    assert ("ppo", "abc") == (manifest["stage"], manifest["base"])
    assert {"model.safetensors", "tokenizer/tokenizer.json"} == manifest["files"].keys()
    assert list(manifest) == sorted(manifest)
    verify_bundle(bundle)


def test_nothing_in_a_bundle_is_writable_and_no_staging_is_left(bundle: Path) -> None:
    """Files and folders alike."""
    modes = [path.stat().st_mode for path in [bundle, *bundle.rglob("*")]]

    assert not any(mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) for mode in modes)
    assert [bundle] == list(bundle.parent.iterdir())


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_damage_is_found_and_the_file_named(bundle: Path, damage: str) -> None:
    """Whatever was done to it."""
    for path in [bundle, *bundle.rglob("*")]:
        path.chmod(0o755)
    target = bundle / ("extra.py" if damage == "added" else "model.safetensors")
    if damage == "missing":
        target.unlink()
    else:
        target.write_bytes(b"other")

    with pytest.raises(PolicyError, match=target.name):
        verify_bundle(bundle)


def test_a_forged_manifest_does_not_help(bundle: Path) -> None:
    """The hashes recorded elsewhere decide."""
    recorded = read_bundle(bundle)["files"]
    for path in [bundle, *bundle.rglob("*")]:
        path.chmod(0o755)
    (bundle / "model.safetensors").write_bytes(b"other")
    forged = read_bundle(bundle)
    forged["files"]["model.safetensors"] = "00"
    (bundle / "manifest.json").write_text(json.dumps(forged))

    with pytest.raises(PolicyError, match="was changed"):
        verify_bundle(bundle, recorded)


def test_a_bundle_is_never_overwritten(bundle: Path) -> None:
    """The second one is refused, the first stays whole."""
    staging = new_staging(bundle)
    (staging / "model.safetensors").write_bytes(b"other")

    with pytest.raises(UsageError, match="never overwritten"):
        write_bundle(staging, bundle, {})
    verify_bundle(bundle)


def test_empty_linked_or_ready_made_bundles_are_refused(tmp_path: Path) -> None:
    """A bundle holds its files itself, and we write the manifest."""
    directory = tmp_path / "ppo-2"
    empty, linked, made = (new_staging(directory) for _ in range(3))
    (linked / "model.safetensors").symlink_to("/etc/hostname")
    (made / "manifest.json").write_text("{}")

    for staging in (empty, linked, made):
        with pytest.raises(UsageError):
            write_bundle(staging, directory, {})
    assert not directory.exists()


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    """Missing, damaged, or not an object."""
    for text in (None, "{", "[]"):
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(PolicyError):
            read_bundle(tmp_path)
    with pytest.raises(PolicyError, match="gone"):
        verify_bundle(tmp_path / "none", {"model.safetensors": "00"})
