from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from alignment.pretrain import main, pretrain
from alignment.pretrain_settings import PretrainSettings
from alignment.run_control import TrainingProgress
from tests.alignment.tiny_corpora import write_corpora


def tiny(data_dir: Path, work_dir: Path, *, total_steps: int = 6) -> PretrainSettings:
    """A model of some thousand weights that trains in float32, uncompiled: bit for bit the same each time."""
    return PretrainSettings(
        data_dir=data_dir,
        work_dir=work_dir,
        vocabulary_size=320,
        layers=1,
        width=32,
        heads=2,
        intermediate=48,
        max_position_tokens=64,
        sequence_tokens=24,
        batch_sequences=4,
        micro_batch_sequences=2,
        total_steps=total_steps,
        warmup_steps=2,
        decay_steps=2,
        held_out_share=0.2,
        evaluation_rows=2,
        precision="float32",
        compile=False,
        device="cpu",
        log_every_steps=1,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny corpora."""
    return write_corpora(tmp_path_factory.mktemp("text"))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint."""
    return load_file(checkpoint / "model.safetensors")


def test_a_stopped_and_resumed_run_has_the_weights_of_an_uninterrupted_one(
    data_dir: Path, tmp_path: Path
) -> None:
    """Bit for bit: model, both optimisers, schedule and data position are restored."""
    whole = pretrain(tiny(data_dir, tmp_path / "whole"))

    def stop_after_third(progress: TrainingProgress) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = pretrain(tiny(data_dir, tmp_path / "halves"), progress=stop_after_third)
    resumed = pretrain(tiny(data_dir, tmp_path / "halves"))

    assert (stopped.step, stopped.finished) == (3, False)
    assert (resumed.step, resumed.finished, resumed.tokens) == (6, True, whole.tokens)
    expected = weights(whole.checkpoint)
    assert all(torch.equal(expected[name], tensor) for name, tensor in weights(resumed.checkpoint).items())


def test_training_lowers_the_loss(data_dir: Path, tmp_path: Path) -> None:
    """Also on text that was held out."""
    losses: list[float] = []
    pretrain(tiny(data_dir, tmp_path, total_steps=30), progress=lambda report: losses.append(report.loss))

    assert losses[-1] < losses[0] - 0.3


def test_a_finished_run_reports_every_source(data_dir: Path, tmp_path: Path) -> None:
    """Held-out loss by source, tokens and the checkpoint's place."""
    result = pretrain(tiny(data_dir, tmp_path, total_steps=4))

    assert set(result.held_out_loss) == {"hb_gitlab", "txt_eltec"}
    assert result.tokens == 4 * 4 * 24
    assert (result.checkpoint / "tokenizer.json").exists()


def test_a_checkpoint_left_half_written_is_ignored(data_dir: Path, tmp_path: Path) -> None:
    """A killed save leaves a partial folder that no later run takes for a checkpoint."""
    pretrain(tiny(data_dir, tmp_path, total_steps=4))
    (tmp_path / "checkpoints" / "partial-00000005").mkdir()
    (tmp_path / "checkpoints" / "step-00000009").mkdir()

    assert pretrain(tiny(data_dir, tmp_path, total_steps=5)).step == 5


def test_the_command_names_an_unknown_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one line with the legal names."""
    assert main(["--set", "leyers=3"]) == 2
    assert "Legal names" in capsys.readouterr().err


def test_the_command_says_where_corpora_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and one line."""
    assert main(["--set", f"data_dir={tmp_path}", "--set", f"work_dir={tmp_path / 'work'}"]) == 1
    assert "data_dir" in capsys.readouterr().err


def test_heads_must_divide_the_width(tmp_path: Path) -> None:
    """Rejected at construction, by name."""
    with pytest.raises(ValueError, match="heads=5"):
        PretrainSettings(data_dir=tmp_path, work_dir=tmp_path, heads=5)
