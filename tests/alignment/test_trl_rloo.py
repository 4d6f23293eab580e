"""TRL's RLOO behind our interface: it learns, goes on where it was cancelled, and leaves a bundle that serving can load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.errors import RunCancelled, TrainingError
from alignment.ppo_settings import PpoSettings
from alignment.records import ProgressFn, RolloutPrompt, StageProgress, StageResult
from alignment.trl_rloo import _arguments, _as_trl_reward, train_trl_rloo
from tests.alignment.ppo_fakes import LetterReward, ignore_progress, rollout_prompts, save_tiny_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy."""
    return save_tiny_models(tmp_path_factory.mktemp("models"))[0]


def _settings(**changes: Any) -> PpoSettings:
    chosen: dict[str, Any] = {
        "min_p": 0.0,
        "steps": 4,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "max_new_tokens": 6,
        "learning_rate": 3e-3,
        "temperature": 1.0,
        "precision": "float32",
        "kl_coef": 0.01,
        "kl_budget": None,
        "missing_eos_penalty": None,
        "device": "cpu",
        "save_every": 1,
    }
    return PpoSettings(**(chosen | changes))


def _train(
    policy: Path, directory: Path, chosen: PpoSettings, progress: ProgressFn = ignore_progress
) -> StageResult:
    return train_trl_rloo(
        chosen,
        policy_dir=policy,
        prompts=rollout_prompts(),
        reward=LetterReward(),
        out_dir=directory / "out",
        work_dir=directory / "work",
        progress=progress,
    )


def test_the_policy_learns_to_write_what_is_rewarded(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a share of 0.1 letters to more than 0.3, at a KL that is reported, and TRL prints nothing to stdout."""
    from transformers import AutoModelForCausalLM

    chosen = _settings(steps=16, prompts_per_step=16, samples_per_prompt=4, max_new_tokens=8)

    result = _train(policy, tmp_path, chosen)

    assert result.metrics["objective/scores_first"] < 0.15
    assert result.metrics["objective/scores"] > 0.3
    assert result.metrics["objective/kl"] > 1.0
    assert 16 == result.metrics["steps"]
    assert AutoModelForCausalLM.from_pretrained(result.path).dtype == torch.float32
    assert "'reward'" not in capsys.readouterr().out


def test_a_cancelled_run_goes_on_from_its_last_checkpoint(policy: Path, tmp_path: Path) -> None:
    """Not from the start: the steps before are not done again."""

    def cancel(told: StageProgress) -> None:
        if told.done >= 8:
            raise RunCancelled("stopped")

    with pytest.raises(RunCancelled):
        _train(policy, tmp_path, _settings(), cancel)
    begun: list[int] = []
    result = _train(policy, tmp_path, _settings(), lambda told: begun.append(told.done))

    assert min(begun) > 0
    assert 4 == result.metrics["steps"]


def test_a_run_that_goes_on_in_a_later_pass_over_the_prompts_ends_with_the_weights_of_one_that_was_not_stopped(
    policy: Path, tmp_path: Path
) -> None:
    """Its prompts come in the same order, however often each has been seen."""
    from safetensors.torch import load_file

    chosen = _settings(steps=8, prompts_per_step=8)
    assert chosen.steps * chosen.prompts_per_step > 2 * len(rollout_prompts())

    def cancel(told: StageProgress) -> None:
        if told.total and told.done >= 0.75 * told.total:
            raise RunCancelled("stopped")

    whole = _train(policy, tmp_path / "whole", chosen)
    with pytest.raises(RunCancelled):
        _train(policy, tmp_path / "stopped", chosen, cancel)
    resumed = _train(policy, tmp_path / "stopped", chosen)
    ours, theirs = (load_file(result.path / "model.safetensors") for result in (resumed, whole))

    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_beyond_the_budget_it_stops(policy: Path, tmp_path: Path) -> None:
    """With a line in the log, and steps to spare."""
    result = _train(policy, tmp_path, _settings(steps=30, learning_rate=1e-2, kl_coef=0.0, kl_budget=2.0))

    assert result.metrics["steps"] < 30


def test_batches_that_trl_cannot_make_are_refused_by_name(policy: Path, tmp_path: Path) -> None:
    """With the settings to change."""
    with pytest.raises(TrainingError, match="micro_batch_prompts=3"):
        _train(policy, tmp_path, _settings(micro_batch_prompts=3))


@pytest.mark.parametrize("name", ["normalize_scores", "ptx_coef", "ema_decay"])
def test_what_trl_cannot_do_is_refused_by_name(policy: Path, tmp_path: Path, name: str) -> None:
    """Passed over, it would be another algorithm under the same settings."""
    value = True if name == "normalize_scores" else 0.1
    with pytest.raises(TrainingError, match=rf"ppo\.{name}.*cycle\.optimiser=ppo"):
        _train(policy, tmp_path, _settings(**{name: value}))


def test_the_warm_up_does_not_need_a_decay(tmp_path: Path) -> None:
    """The constant rate of the library has none."""
    arguments = _arguments(_settings(lr_decay="none", lr_warmup_steps=2, micro_batch_prompts=2), tmp_path)

    assert ("constant_with_warmup", 8) == (arguments.lr_scheduler_type, arguments.warmup_steps)


def test_scores_are_clipped_before_the_penalty_for_not_ending() -> None:
    """As in our own loop."""

    class Excited(LetterReward):
        def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
            return [99.0 for _ in completions]

    reward = _as_trl_reward(
        Excited(), rollout_prompts(), frozenset({2}), _settings(score_clip=3.0, missing_eos_penalty=1.0)
    )

    assert [3.0, 2.0] == reward(completions=["a", "b"], completion_ids=[[5, 2], [5, 6]], place=[0, 1])


def test_no_prompt_that_fits_is_an_error(policy: Path, tmp_path: Path) -> None:
    """That names the limit."""
    with pytest.raises(TrainingError, match="max_prompt_tokens=2"):
        _train(policy, tmp_path, _settings(max_prompt_tokens=2))
