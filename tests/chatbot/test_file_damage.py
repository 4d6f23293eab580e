"""Which file of a directory is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from chatbot.file_damage import damaged_file


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Weights, a configuration, a saved state, and a text that means nothing."""
    save_file({"w": np.ones(1000, dtype=np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"layers": 2}')
    torch.save({"step": 1}, tmp_path / "optimizer.pt")
    (tmp_path / "README.md").write_text("{")
    return tmp_path


def test_whole_files_are_not_accused(directory: Path) -> None:
    """Nor is a directory that is not there."""
    assert damaged_file(directory) is None
    assert damaged_file(directory / "gone") is None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "optimizer.pt"])
def test_a_file_that_was_cut_off_is_named(directory: Path, name: str) -> None:
    """As a full disk or a lost connection leaves it."""
    whole = (directory / name).read_bytes()
    (directory / name).write_bytes(whole[: len(whole) // 2])

    assert str(damaged_file(directory)).startswith(f"{directory / name} is damaged (")
