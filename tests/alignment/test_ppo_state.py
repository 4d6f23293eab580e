"""Saved states and metrics survive crashes or are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.errors import TrainingError
from alignment.ppo_settings import PpoSettings
from alignment.ppo_state import (
    METRICS_FILE,
    STATE_FILE,
    MetricsFile,
    fingerprint,
    load_state,
    read_metrics,
    save_state,
)
from tests.alignment.ppo_fakes import rollout_prompts


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    """Tensors and numbers."""
    save_state(tmp_path, {"fingerprint": "a", "step": 3, "policy": {"w": torch.ones(2)}})

    state = load_state(tmp_path, "a")

    assert state is not None
    assert state["step"] == 3
    assert state["policy"]["w"].tolist() == [1.0, 1.0]
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    """Half a file is never half used."""
    save_state(tmp_path, {"fingerprint": "a", "policy": torch.ones(1000)})
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(TrainingError, match="is damaged: remove it"):
        load_state(tmp_path, "a")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_failed_save_leaves_the_old_state(tmp_path: Path) -> None:
    """A full disk disturbs nothing."""
    save_state(tmp_path, {"fingerprint": "a", "step": 1})
    (tmp_path / f".{STATE_FILE}.partial").symlink_to("/dev/full")

    with pytest.raises(TrainingError, match="cannot be saved"):
        save_state(tmp_path, {"fingerprint": "a", "step": 2})

    state = load_state(tmp_path, "a")
    assert state is not None
    assert state["step"] == 1


def test_metrics_of_steps_that_will_be_repeated_are_cut_off(tmp_path: Path) -> None:
    """And so is a row torn by a crash."""
    metrics = MetricsFile(tmp_path, first_step=0)
    for step in range(3):
        metrics.append({"step": step, "loss": 1.0})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 3, "lo')

    MetricsFile(tmp_path, first_step=2).append({"step": 2, "loss": 0.5})

    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(0, 1.0), (1, 1.0), (2, 0.5)]


def test_a_fingerprint_knows_settings_and_prompts_but_not_how_often_to_save() -> None:
    """Saving more often does not change a run, nor does how many prompts are in memory at once."""
    prompts = rollout_prompts()
    one = fingerprint(PpoSettings(), prompts, "letters")

    assert one == fingerprint(PpoSettings(save_every=3, micro_batch_prompts=1), prompts, "letters")
    assert one != fingerprint(PpoSettings(steps=9), prompts, "letters")
    assert one != fingerprint(PpoSettings(learning_rate=1e-5), prompts, "letters")
    assert one != fingerprint(PpoSettings(), prompts[::-1], "letters")


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "other words"},
        {"reference": "another answer"},
        {"answerable": False},
        {"key_facts": ("25",)},
    ],
)
def test_a_prompt_of_the_same_id_that_says_something_else_is_another_run(changes: dict[str, Any]) -> None:
    """An id is that of the question; what is read with it, and what is known of its answer, may change."""
    first, *others = rollout_prompts()

    assert fingerprint(PpoSettings(), [first, *others], "letters") != fingerprint(
        PpoSettings(), [dataclasses.replace(first, **changes), *others], "letters"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("samples_per_prompt", 0),
        ("minibatches", 3),
        ("temperature", 0.0),
        ("top_p", 0.0),
        ("lam", 1.5),
        ("kl_coef", -0.1),
        ("kl_loss_coef", -0.1),
        ("kl_budget", 0.0),
        ("learning_rate", float("nan")),
        ("ema_decay", 1.0),
    ],
)
def test_impossible_settings_are_refused_by_name(name: str, value: float) -> None:
    """When they are made, not when they are used."""
    with pytest.raises(ValueError, match=name):
        PpoSettings(**{name: value})


def test_a_value_model_that_only_warms_up_is_refused() -> None:
    """The policy would never learn; without a value model the setting says nothing."""
    with pytest.raises(ValueError, match="value_warmup_steps"):
        PpoSettings(advantage="gae", value_warmup_steps=60)
    PpoSettings(advantage="rloo", value_warmup_steps=60)


def test_a_single_sample_has_no_siblings() -> None:
    """Leave-one-out needs two."""
    with pytest.raises(ValueError, match="samples_per_prompt"):
        PpoSettings(advantage="rloo", samples_per_prompt=1)
