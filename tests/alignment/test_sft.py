"""SFT on tiny random models, through TRL's real trainer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import RunCancelled, TrainingError
from alignment.records import PromptCompletion, StageProgress, StageResult
from alignment.sft import SftSettings, train_sft
from alignment.trl_trainers import discard_checkpoints, newest_whole_checkpoint
from tests.chatbot.tiny_models import load_tiny_model, make_tiny_model

SETTINGS = SftSettings(
    epochs=8,
    learning_rate=5e-3,
    batch_size=4,
    micro_batch_size=2,
    max_length=200,
    save_steps=4,
    precision="float32",
)


def _rows(n: int = 8) -> list[PromptCompletion]:
    return [
        PromptCompletion(
            prompt=f"Question {i}: how many days?",
            completion="25 days [1]." if i % 2 else "I don't know.",
            question_id=str(i),
            origin="demonstration" if i == 0 else "derived",
        )
        for i in range(n)
    ]


def _ignore(_: StageProgress) -> None:
    return None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A tiny Llama after a few steps."""
    folder = tmp_path_factory.mktemp("sft")
    base = make_tiny_model(folder / "base", "llama")
    result = train_sft(
        SETTINGS, base_dir=base, rows=_rows(), held_out=_rows(2), out_dir=folder / "out", progress=_ignore
    )
    return result.path, result.metrics


def test_the_model_learns_the_completions_and_to_stop(trained: tuple[Path, dict[str, float]]) -> None:
    """Greedy decoding gives back the completion and the end token."""
    import torch

    model, tokenizer = load_tiny_model(trained[0])
    ids = torch.tensor([tokenizer("Question 1: how many days?", add_special_tokens=False)["input_ids"]])
    written = model.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :].tolist()

    assert tokenizer.eos_token_id == written[-1]
    assert tokenizer.decode(written, skip_special_tokens=True) in {"25 days [1].", "I don't know."}


def test_metrics_are_finite_and_counted(trained: tuple[Path, dict[str, float]]) -> None:
    """Held-out loss, rows and demonstrations are reported."""
    metrics = trained[1]

    assert metrics["held_out_loss"] < 2.0
    assert (8, 1, 0) == (metrics["n_rows"], metrics["n_demonstrations"], metrics["n_too_long"])


def test_the_result_is_safetensors_and_tokenizer_without_leftovers(
    trained: tuple[Path, dict[str, float]],
) -> None:
    """No checkpoints, no logs, no generated model card."""
    names = {path.name for path in trained[0].iterdir()}

    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not names & {"checkpoints", "runs", "README.md"}


def test_gpt2_without_padding_gets_a_pad_token_that_is_not_the_end(tmp_path: Path) -> None:
    """The end token stays a thing to be learnt."""
    base = make_tiny_model(tmp_path / "base", "gpt2")
    settings = SftSettings(max_steps=1, batch_size=2, micro_batch_size=2, precision="float32")
    result = train_sft(settings, base_dir=base, rows=_rows(4), out_dir=tmp_path / "out", progress=_ignore)
    model, tokenizer = load_tiny_model(result.path)

    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id < model.get_input_embeddings().weight.shape[0]


def test_a_lora_result_is_a_whole_model(tmp_path: Path) -> None:
    """The adapter is merged on export."""
    base = make_tiny_model(tmp_path / "base", "qwen2")
    settings = SftSettings(max_steps=2, batch_size=2, micro_batch_size=2, lora_rank=4, precision="float32")
    result = train_sft(settings, base_dir=base, rows=_rows(4), out_dir=tmp_path / "out", progress=_ignore)

    assert (result.path / "model.safetensors").is_file()
    assert not (result.path / "adapter_config.json").exists()


def test_rows_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    """A long prompt is left out and said so."""
    base = make_tiny_model(tmp_path / "base", "llama")
    long = PromptCompletion(prompt="why " * 300, completion="so", question_id="x", origin="derived")
    settings = SftSettings(max_steps=1, batch_size=2, micro_batch_size=2, max_length=64, precision="float32")
    result = train_sft(
        settings, base_dir=base, rows=[*_rows(4), long], out_dir=tmp_path / "out", progress=_ignore
    )

    assert result.metrics["n_too_long"] == 1


def test_no_row_that_fits_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Nothing to train on."""
    base = make_tiny_model(tmp_path / "base", "llama")

    with pytest.raises(TrainingError, match="collect demonstrations"):
        train_sft(SETTINGS, base_dir=base, rows=[], out_dir=tmp_path / "out", progress=_ignore)


@pytest.mark.parametrize(("save_steps", "last"), [(4, 8), (3, 12)])
def test_a_cancelled_run_resumes_to_the_same_weights_and_metrics(
    tmp_path: Path, save_steps: int, last: int
) -> None:
    """Stopped while a checkpoint was written, resumed from the one before: as if it had never stopped, also where a loss was logged between."""
    from safetensors.torch import load_file

    base = make_tiny_model(tmp_path / "base", "llama")
    settings = SftSettings(
        epochs=1,
        max_steps=last,
        batch_size=2,
        micro_batch_size=2,
        save_steps=save_steps,
        precision="float32",
        learning_rate=1e-3,
    )

    def cancel(progress: StageProgress) -> None:
        if progress.done >= last - 2:
            raise RunCancelled("stop")

    def run(out: str, progress: Any, *, resume: bool = False) -> StageResult:
        return train_sft(
            settings,
            base_dir=base,
            rows=_rows(),
            held_out=_rows(2),
            out_dir=tmp_path / out,
            progress=progress,
            resume=resume,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alignment.trl_trainers._SECONDS_BETWEEN_REPORTS", 0.0)
        with pytest.raises(RunCancelled):
            run("stopped", cancel)
    torn = tmp_path / "stopped" / "checkpoints" / f"checkpoint-{last - 1}"
    torn.mkdir()
    (torn / "config.json").write_text("{")
    resumed_run, whole_run = run("stopped", _ignore, resume=True), run("whole", _ignore)
    resumed = load_file(resumed_run.path / "model.safetensors")
    whole = load_file(whole_run.path / "model.safetensors")

    assert whole_run.metrics == resumed_run.metrics
    assert all((resumed[name] == whole[name]).all() for name in whole)


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json", "optimizer.pt"])
def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    """It was whole when it was written: removing it leads to the one before."""
    base = make_tiny_model(tmp_path / "base", "llama")
    settings = SftSettings(max_steps=4, batch_size=2, micro_batch_size=2, save_steps=1, precision="float32")

    def cancel(progress: StageProgress) -> None:
        if progress.done >= 3:
            raise RunCancelled("stop")

    def run(progress: Any) -> StageResult:
        return train_sft(
            settings, base_dir=base, rows=_rows(), out_dir=tmp_path / "out", progress=progress, resume=True
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alignment.trl_trainers._SECONDS_BETWEEN_REPORTS", 0.0)
        with pytest.raises(RunCancelled):
            run(cancel)
    newest = tmp_path / "out" / "checkpoints" / "checkpoint-2"
    (newest / name).write_bytes((newest / name).read_bytes()[:50])

    with pytest.raises(TrainingError, match=rf"{name} is damaged .*: remove the folder {newest}"):
        run(_ignore)
    shutil.rmtree(newest)
    assert run(_ignore).metrics["n_steps"] == 4


def test_a_damaged_model_is_named_before_training(tmp_path: Path) -> None:
    """The library says "incomplete metadata", and not of which file."""
    base = make_tiny_model(tmp_path / "base", "llama")
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:5000])

    with pytest.raises(TrainingError, match=r"model\.safetensors is damaged .*restore it"):
        train_sft(SETTINGS, base_dir=base, rows=_rows(4), out_dir=tmp_path / "out", progress=_ignore)


def test_checkpoints_vanish_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed while they are removed leaves none that looks whole and is not."""
    checkpoint = tmp_path / "checkpoints" / "checkpoint-6"
    checkpoint.mkdir(parents=True)
    (checkpoint / "whole").touch()

    def killed(folder: Path, **_: Any) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            discard_checkpoints(tmp_path / "checkpoints")
    assert newest_whole_checkpoint(tmp_path / "checkpoints") is None

    discard_checkpoints(tmp_path / "checkpoints")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_sent_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's telemetry is off whatever the environment says."""
    told: list[object] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(
        "trl.trainer.base_trainer.send_telemetry", lambda *args, **kwargs: told.append(args or kwargs)
    )
    base = make_tiny_model(tmp_path / "base", "llama")
    settings = SftSettings(max_steps=1, batch_size=2, micro_batch_size=2, precision="float32")
    train_sft(settings, base_dir=base, rows=_rows(4), out_dir=tmp_path / "out", progress=_ignore)

    assert [] == told


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("micro_batch_size", 3), ("lora_rank", -1), ("max_steps", 0), ("warmup_share", 1)],
)
def test_bad_settings_are_refused_by_name(name: str, value: float) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=name):
        SftSettings(**{name: value})  # type: ignore[arg-type]  # the point of the test


def test_a_demonstration_is_seen_as_often_as_its_author_weighs(tmp_path: Path) -> None:
    """Four times where nothing is said of the author, once where the author weighs a quarter: so many steps of one row each."""

    def steps(name: str, authors: dict[str, float]) -> float:
        rows = [replace(row, origin="demonstration", labeler_id="writer") for row in _rows(6)]
        settings = SftSettings(batch_size=1, micro_batch_size=1, precision="float32")
        result = train_sft(
            settings,
            base_dir=make_tiny_model(tmp_path / "base", "llama"),
            rows=rows,
            out_dir=tmp_path / name,
            progress=_ignore,
            authors=authors,
        )
        return result.metrics["n_steps"]

    assert (24, 6) == (steps("plain", {}), steps("capped", {"writer": 0.25}))
