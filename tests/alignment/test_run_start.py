"""What a run began with is what it goes on with."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from alignment.cycle_settings import CycleSettings, TrainingSettings
from alignment.errors import TrainingError
from alignment.evidence_taste import TasteSettings
from alignment.finished_stages import FinishedStages
from alignment.ppo_settings import PpoSettings
from alignment.records import StageResult
from alignment.run_start import START_FILE, RunStart, begin, differences, model_hash, settings_of

START = RunStart(
    settings=TrainingSettings(
        ppo=PpoSettings(steps=3, kl_budget=None), taste=TasteSettings(cautions=(1.0, 8.0))
    ),
    base="/models/base",
    base_hash="abc",
    parent="ppo-1",
)


def _with(**sections: object) -> RunStart:
    return dataclasses.replace(START, settings=dataclasses.replace(START.settings, **sections))  # type: ignore[arg-type]


def test_a_run_goes_on_with_the_settings_it_began_with(tmp_path: Path) -> None:
    """Whatever the settings file and the serving policy are by then; tuples and None come back as they were."""
    begin(tmp_path, START)
    today = dataclasses.replace(_with(ppo=PpoSettings(steps=9)), parent="ppo-2", base="/moved/base")

    assert START == begin(tmp_path, today)
    assert START.settings == settings_of(tmp_path)


def test_a_run_that_has_not_begun_has_no_settings_yet(tmp_path: Path) -> None:
    """It takes those of the moment in which it begins."""
    assert settings_of(tmp_path) is None


def test_what_differs_today_is_named() -> None:
    """Section, name, both values."""
    today = _with(ppo=PpoSettings(steps=9, kl_budget=None), cycle=CycleSettings(promote=False))

    assert ["cycle.promote: True, today False", "ppo.steps: 3, today 9"] == list(
        differences(START.settings, today.settings)
    )


def test_another_base_model_stops_a_run_that_began(tmp_path: Path) -> None:
    """Its rows are rendered for the first one, and its weights come from it."""
    begin(tmp_path, START)

    with pytest.raises(TrainingError, match=r"/models/base.*set model\.base back"):
        begin(tmp_path, dataclasses.replace(START, base="/models/other", base_hash="def"))


def test_a_model_is_known_by_its_files_and_not_by_its_place(tmp_path: Path) -> None:
    """A base model that was moved is the same one."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "b" / "README.md").write_text("for people")
    same = model_hash(tmp_path / "a"), model_hash(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")

    assert same[0] == same[1] != model_hash(tmp_path / "b")


@pytest.mark.parametrize("text", ["{", '{"settings": {"ppo": {"stepz": 3}}}', "[]"])
def test_a_file_that_says_nothing_is_named(tmp_path: Path, text: str) -> None:
    """Cut off, or of another version."""
    (tmp_path / START_FILE).write_text(text)

    with pytest.raises(TrainingError, match=rf"{START_FILE}.*start a new run"):
        begin(tmp_path, START)


def test_a_finished_stage_is_found_after_the_home_was_moved(tmp_path: Path) -> None:
    """Its place is kept relative to the run's folder."""
    before, after = tmp_path / "before" / "run1", tmp_path / "after" / "run1"
    before.mkdir(parents=True)
    FinishedStages("run1", before).trained_once(
        "sft", lambda: StageResult(stage="sft", path=before / "sft", metrics={}, seconds=1.0)
    )
    shutil.move(before.parent, after.parent)

    assert after / "sft" == FinishedStages("run1", after).trained_once("sft", _never).path


def test_a_stage_that_an_earlier_version_finished_is_found_too(tmp_path: Path) -> None:
    """It wrote whole paths down, or such from where the process was started."""
    finished = FinishedStages("run1", tmp_path)

    assert tmp_path / "snapshot" / "abc" == finished.found("/old/home/runs/run1/snapshot/abc")
    assert tmp_path / "sft" == finished.found("var/runs/run1/sft")


def test_a_damaged_record_of_a_stage_says_how_to_go_on(tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "done.json").write_text('{"stage": "s')

    with pytest.raises(TrainingError, match=r"done\.json is damaged.*remove it"):
        FinishedStages("run1", tmp_path).trained_once("sft", _never)


def _never() -> StageResult:
    raise AssertionError("the stage is done")
