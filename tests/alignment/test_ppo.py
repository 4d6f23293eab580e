"""The loop: it learns, stops in time, resumes to the same bits, and leaves a bundle that serving can load."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignment.errors import RunCancelled, TrainingError
from alignment.policy_kl import kl_of, sampled_kl_of
from alignment.ppo import train_ppo
from alignment.ppo_settings import PpoSettings
from alignment.ppo_state import read_metrics
from alignment.records import ProgressFn, RewardFunction, RolloutPrompt, StageProgress, StageResult
from tests.alignment.ppo_fakes import (
    LengthReward,
    LetterReward,
    ignore_progress,
    rollout_prompts,
    save_tiny_models,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Sums in one order: bit-identity is promised for one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny policy and reward model."""
    return save_tiny_models(tmp_path_factory.mktemp("models"))


def settings(**changes: Any) -> PpoSettings:
    """Large steps for a tiny model, no limits."""
    chosen: dict[str, Any] = {
        "advantage": "gae",
        "min_p": 0.0,
        "steps": 4,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "max_new_tokens": 6,
        "learning_rate": 3e-3,
        "value_learning_rate": 1e-3,
        "value_warmup_steps": 1,
        "temperature": 1.0,
        "precision": "float32",
        "kl_coef": 0.01,
        "kl_budget": None,
        "approxkl_limit": None,
        "ratio_limit": None,
        "missing_eos_penalty": None,
        "device": "cpu",
    }
    return PpoSettings(**(chosen | changes))


def train(
    models: tuple[Path, Path],
    directory: Path,
    chosen: PpoSettings,
    *,
    reward: RewardFunction | None = None,
    prompts: Sequence[RolloutPrompt] | None = None,
    progress: ProgressFn = ignore_progress,
    resume: bool = True,
    reward_hash: str = "",
) -> StageResult:
    """Train the tiny policy in `directory`."""
    policy_dir, reward_dir = models
    return train_ppo(
        chosen,
        policy_dir=policy_dir,
        reference_dir=policy_dir,
        value_init_dir=reward_dir if chosen.advantage == "gae" else None,
        prompts=rollout_prompts() if prompts is None else prompts,
        reward=reward or LetterReward(),
        out_dir=directory / "out",
        work_dir=directory / "work",
        progress=progress,
        resume=resume,
        reward_hash=reward_hash,
    )


def stop_at(step: int) -> ProgressFn:
    """Cancel the run in the middle of the updates of a step."""

    def progress(told: StageProgress) -> None:
        if told.done == step and told.note == "updating":
            raise RunCancelled("stopped")

    return progress


@pytest.mark.parametrize("advantage", ["gae", "rloo"])
def test_the_policy_learns_to_write_what_is_rewarded(
    models: tuple[Path, Path], tmp_path: Path, advantage: str
) -> None:
    """From a share of 0.1 letters to more than 0.35, at a KL that is reported."""
    chosen = settings(
        advantage=advantage, steps=16, prompts_per_step=16, samples_per_prompt=4, max_new_tokens=8
    )

    result = train(models, tmp_path, chosen)

    assert result.metrics["objective/scores_first"] < 0.15
    assert result.metrics["objective/scores"] > 0.35
    assert result.metrics["objective/kl"] > 1.0
    assert result.stage == ("ppo" if advantage == "gae" else "rloo")


def test_completions_learn_to_end(tmp_path: Path) -> None:
    """With the end of text as padding token too: it is in the loss, so rewarding brevity makes it likelier."""
    policy_dir, reward_dir = save_tiny_models(tmp_path / "models")
    for path in (policy_dir, reward_dir):
        config = json.loads((path / "tokenizer_config.json").read_text())
        config["pad_token"] = config["eos_token"]
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    chosen = settings(
        advantage="rloo", steps=16, prompts_per_step=16, samples_per_prompt=4, missing_eos_penalty=1.0
    )

    train((policy_dir, reward_dir), tmp_path, chosen, reward=LengthReward())

    rows = read_metrics(tmp_path / "work")
    assert rows[0]["val/num_eos_tokens"] < 10
    assert rows[-1]["val/num_eos_tokens"] > 40


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"advantage": "rloo", "ema_decay": 0.5},
        {"advantage": "rloo", "temperature": 1.5, "min_p": 0.3, "choices_coef": 0.1},
        {"lora_rank": 4},
    ],
)
def test_a_stopped_run_resumes_to_the_same_bits(
    models: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Weights and metrics of a run cancelled twice equal those of one that was not."""
    chosen = settings(save_every=2, kl_target=1.0, normalize_scores=True, kl_horizon=50, **changes)
    straight = train(models, tmp_path / "straight", chosen)
    for step in (1, 3):
        with pytest.raises(RunCancelled):
            train(models, tmp_path / "stopped", chosen, progress=stop_at(step))

    resumed = train(models, tmp_path / "stopped", chosen)

    assert straight.metrics == resumed.metrics
    assert read_metrics(tmp_path / "straight/work") == read_metrics(tmp_path / "stopped/work")
    weights = load_file(straight.path / "model.safetensors")
    again = load_file(resumed.path / "model.safetensors")
    assert weights.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_the_kl_of_averaged_weights_is_their_own(models: tuple[Path, Path], tmp_path: Path) -> None:
    """They lag behind those that sample, and what is exported is what is measured."""
    chosen = settings(advantage="rloo", ema_decay=0.97, learning_rate=1e-2)

    result = train(models, tmp_path, chosen)

    sampled = sampled_kl_of(result.metrics)
    assert sampled is not None
    assert 0 < result.metrics["objective/kl_average"] < 0.7 * sampled
    assert kl_of(result.metrics) == result.metrics["objective/kl_average"]


def test_a_finished_run_is_not_trained_again(models: tuple[Path, Path], tmp_path: Path) -> None:
    """A crash after training costs nothing: the bundle is written once more from the state."""
    first = train(models, tmp_path, settings())
    rows = read_metrics(tmp_path / "work")

    class Unasked:
        name = LetterReward.name

        def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
            raise AssertionError("nothing is left to score")

    again = train(models, tmp_path, settings(), reward=Unasked())

    assert first.metrics == again.metrics
    assert rows == read_metrics(tmp_path / "work")


def test_the_reference_model_is_matched_at_first(models: tuple[Path, Path], tmp_path: Path) -> None:
    """KL starts at zero exactly, and each step has its metrics."""
    train(models, tmp_path, settings())

    rows = read_metrics(tmp_path / "work")
    assert rows[0]["objective/kl"] == 0.0
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    wanted = (
        "objective/entropy objective/non_score_reward objective/rlhf_reward objective/scores policy/approxkl_avg "
        "policy/clipfrac_avg loss/policy_avg loss/value_avg val/ratio val/num_eos_tokens lr episode"
    )
    assert set(wanted.split()) <= rows[0].keys()


def test_beyond_the_budget_the_last_policy_within_it_is_exported(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    """The run ends early, and the exported policy's measured KL is within the budget."""
    chosen = settings(
        advantage="rloo", steps=30, learning_rate=1e-2, kl_coef=0.0, kl_loss_coef=0.0, kl_budget=3.0
    )

    result = train(models, tmp_path, chosen)

    assert result.metrics["stopped_early"] == 1.0
    assert result.metrics["objective/kl"] <= 3.0
    assert read_metrics(tmp_path / "work")[-1]["objective/kl"] > 3.0


def test_the_bundle_is_what_serving_loads(models: tuple[Path, Path], tmp_path: Path) -> None:
    """A model directory in the precision asked for, with tokenizer and the settings it was made with."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    result = train(models, tmp_path, settings(export_precision="bfloat16"))

    model = AutoModelForCausalLM.from_pretrained(result.path)
    assert model.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(result.path).eos_token == "<|end|>"
    record = json.loads((result.path / "ppo.json").read_text())
    assert record["settings"]["export_precision"] == "bfloat16"


def test_adapters_are_merged_into_the_bundle_and_kept_beside_it(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    """The merged model equals the base with its adapter, and differs from the base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    result = train(models, tmp_path, settings(advantage="rloo", lora_rank=4, learning_rate=1e-2))

    ids = torch.tensor([[1, 3, 70, 71, 4]])
    merged = AutoModelForCausalLM.from_pretrained(result.path)
    base = AutoModelForCausalLM.from_pretrained(models[0])
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, str(result.path / "adapter"))(ids).logits
        assert torch.allclose(adapted, merged(ids).logits, atol=1e-4)
        assert not torch.allclose(plain, merged(ids).logits, atol=1e-2)
    assert read_metrics(tmp_path / "work")[0]["objective/kl"] == pytest.approx(0.0, abs=1e-5)


def test_a_state_of_other_settings_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Unless the run starts again."""
    train(models, tmp_path, settings(advantage="rloo", steps=1))

    with pytest.raises(TrainingError, match="other settings"):
        train(models, tmp_path, settings(advantage="rloo", steps=2))
    result = train(models, tmp_path, settings(advantage="rloo", steps=2), resume=False)
    assert result.metrics["steps"] == 2


def test_a_state_is_not_gone_on_with_under_another_reward(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Of another name, or of the same name and made of something else."""
    chosen = settings(advantage="rloo", steps=1)
    train(models, tmp_path, chosen, reward_hash="a")

    for other in ({"reward": LengthReward()}, {"reward_hash": "b"}):
        with pytest.raises(TrainingError, match="another reward"):
            train(models, tmp_path, chosen, **{"reward_hash": "a", **other})


def test_a_score_that_is_not_finite_names_its_prompt(models: tuple[Path, Path], tmp_path: Path) -> None:
    """The run ends with one line."""

    class Broken:
        name = "broken"

        def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
            return [math.nan] * len(completions)

    with pytest.raises(TrainingError, match="'broken' gave nan for a completion of prompt 'q"):
        train(models, tmp_path, settings(), reward=Broken())


def test_prompts_that_are_too_long_are_left_out_and_counted(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    """A cut prompt would teach answers without evidence; with none left, the error says what to do."""
    long = [p for p in rollout_prompts(6) if len(p.question) > 10]
    chosen = settings(advantage="rloo", steps=1, max_prompt_tokens=12)

    result = train(models, tmp_path / "some", chosen, prompts=rollout_prompts(6))
    assert result.metrics["prompts_left_out"] == len(long)
    with pytest.raises(TrainingError, match="Raise max_prompt_tokens"):
        train(models, tmp_path / "none", chosen, prompts=long)


def test_without_a_reward_model_gae_says_what_to_do(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Before anything is loaded."""
    with pytest.raises(TrainingError, match="advantage=rloo"):
        train_ppo(
            settings(),
            policy_dir=models[0],
            reference_dir=models[0],
            value_init_dir=None,
            prompts=rollout_prompts(),
            reward=LetterReward(),
            out_dir=tmp_path / "out",
            work_dir=tmp_path / "work",
            progress=ignore_progress,
        )


def test_each_prompt_is_used_equally_often(models: tuple[Path, Path], tmp_path: Path) -> None:
    """Three passes over eight prompts, each pass in another order."""
    seen: list[str] = []

    class Counting(LetterReward):
        def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
            seen.extend(p.id for p in prompts[::2])
            return super().score(prompts, completions)

    train(models, tmp_path, settings(advantage="rloo", steps=5, max_new_tokens=1), reward=Counting())

    passes = [seen[i : i + 8] for i in (0, 8, 16)]
    assert all(sorted(one) == [f"q{i}" for i in range(8)] for one in passes)
    assert passes[0] != passes[1]
