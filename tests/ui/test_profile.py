"""One setting names stronger parts; those that cannot be had are the embedded ones, and doctor tells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge_base.embedder import SentenceTransformerEmbedder
from ui.home import open_home
from ui.profile import HUB, with_embedded_where_missing
from ui.settings import Settings, load_settings
from ui.wiring import EMBEDDED_MODEL, open_services

EMBEDDER, RERANKER, BASE = (choice.model for choice in HUB)


def read(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> Settings:
    """The settings of a home with this file."""
    (tmp_path / "settings.toml").write_text(text)
    return load_settings(open_home(tmp_path, create=False), environment or {})


def named(settings: Settings) -> tuple[str, str, str]:
    """Embedder, reranker, base model."""
    return settings.embedder.model, settings.reranker.model, settings.model.base


def test_without_a_profile_nothing_comes_from_a_hub(tmp_path: Path) -> None:
    """Nor is asked there."""
    settings, lines = with_embedded_where_missing(read(tmp_path, ""), lambda _: pytest.fail("asked a hub"))

    assert (("", "", ""), []) == (named(settings), lines)


def test_the_hub_profile_names_three_parts(tmp_path: Path) -> None:
    """In the file or in the environment."""
    assert (EMBEDDER, RERANKER, BASE) == named(read(tmp_path, '[profile]\nname = "hub"\n'))
    assert (EMBEDDER, RERANKER, BASE) == named(read(tmp_path, "", {"TACIT_PROFILE_NAME": "hub"}))


def test_a_part_s_own_setting_goes_before_the_profile(tmp_path: Path) -> None:
    """And is not replaced when it cannot be had: that is an error where it is used."""
    settings = read(
        tmp_path, '[profile]\nname = "hub"\n[model]\nbase = "our/model"\n[reranker]\nmodel = ""\n'
    )

    settings, lines = with_embedded_where_missing(settings, lambda _: False)

    assert ("", "", "our/model") == named(settings)
    assert [
        f"embedder all-MiniLM-L6-v2, because {EMBEDDER} could not be fetched",
        "reranker none (your own setting)",
        "base model our/model (your own setting)",
    ] == lines


def test_parts_that_are_there_work_and_the_others_are_told(tmp_path: Path) -> None:
    """With a cache that holds two of the three and no network, both are loaded by their ids and doctor names the third."""
    cache = tmp_path / "hub_home"
    put_into_cache(cache, EMBEDDER, SentenceTransformerEmbedder().directory)
    put_into_cache(cache, BASE, EMBEDDED_MODEL)
    home = tmp_path / "home"
    with open_services(home, create=True):
        pass

    found = doctor(home, {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "TACIT_PROFILE_NAME": "hub"})

    assert found["profile"] == (
        f"hub; embedder {EMBEDDER}; reranker none, because {RERANKER} could not be fetched; base model {BASE}"
    )
    assert found["embedder"].startswith("gte-base/53aa5117/mean")
    assert found["reranker"].startswith("none")
    assert f"base from {BASE}" in found["policy"]


def put_into_cache(cache: Path, model: str, source: Path) -> None:
    """A snapshot as the hub's library keeps it."""
    folder = cache / "hub" / f"models--{model.replace('/', '--')}"
    shutil.copytree(source, folder / "snapshots" / "0123")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")


def doctor(home: Path, environment: dict[str, str]) -> dict[str, str]:
    """What `tacit doctor` says, by check; all must pass."""
    done = subprocess.run(
        [sys.executable, "-m", "ui", "doctor", "--home", str(home), "--json"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {check["name"]: check["detail"] for check in json.loads(done.stdout.splitlines()[-1])["checks"]}
