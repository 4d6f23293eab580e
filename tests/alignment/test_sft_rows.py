"""Which rows SFT imitates: all of them, or those of people alone where the base model can do already what documents teach."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment.records import PromptCompletion, StageProgress
from alignment.sft import SftSettings, train_sft
from alignment.sft_rows import derived_loss, encode_rows
from tests.chatbot.tiny_models import load_tiny_model, make_tiny_model

SETTINGS = SftSettings(batch_size=2, micro_batch_size=2, max_length=200, precision="float32")
ALWAYS_KNOWN = 1e9
"""Above the loss of a model with random weights: it passes for one that knows."""


def _ignore(_: StageProgress) -> None:
    return None


def _rows() -> list[PromptCompletion]:
    rows = [
        PromptCompletion(
            prompt=f"Question {i}: how many days?{' Please say.' * i}",
            completion=f"{20 + i} days of leave [1].",
            question_id=str(i),
            origin="derived",
        )
        for i in range(5)
    ]
    refused = replace(rows[0], question_id="x", completion="I don't know.", origin="unanswerable")
    written = replace(rows[0], question_id="y", origin="demonstration", labeler_id="ana")
    return [*rows, refused, written]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_loss_on_derived_pairs_is_the_mean_over_their_completions_tokens(
    tmp_path: Path, batch_size: int
) -> None:
    """Row by row with the model's own loss, weighed by tokens, it is the same, however rows are batched; prompts, refusals and people's answers do not count."""
    model, tokenizer = load_tiny_model(make_tiny_model(tmp_path / "base", "llama"))
    model.eval()
    encoded, _ = encode_rows(_rows()[:5], tokenizer, 200)
    total, n_tokens = 0.0, 0
    for row in encoded:
        n = sum(label != -100 for label in row["labels"])
        with torch.no_grad():
            loss = model(
                input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])
            ).loss
        total, n_tokens = total + float(loss) * n, n_tokens + n

    found = derived_loss(
        model, tokenizer, _rows(), max_length=200, batch_size=batch_size, precision="float32", seed=1
    )

    assert found == pytest.approx(total / n_tokens, rel=1e-5)


def test_where_no_derived_pair_fits_there_is_no_loss(tmp_path: Path) -> None:
    """Then nothing is decided by it."""
    model, tokenizer = load_tiny_model(make_tiny_model(tmp_path / "base", "llama"))

    assert (
        derived_loss(model, tokenizer, _rows()[5:], max_length=200, batch_size=2, precision="float32", seed=1)
        is None
    )


@pytest.mark.parametrize(("derived_above", "n_rows"), [(0.0, 7), (0.3, 7), (ALWAYS_KNOWN, 1)])
def test_a_model_that_finds_derived_pairs_likely_learns_from_people_alone(
    tmp_path: Path, derived_above: float, n_rows: int
) -> None:
    """Random weights do not, and imitate all; with 0 nobody asks. What is held out is measured in any case."""
    result = train_sft(
        replace(SETTINGS, derived_above=derived_above),
        base_dir=make_tiny_model(tmp_path / "base", "llama"),
        rows=_rows(),
        held_out=_rows(),
        out_dir=tmp_path / "out",
        progress=_ignore,
    )

    assert (n_rows, 1) == (result.metrics["n_rows"], result.metrics["n_demonstrations"])
    assert result.metrics["n_held_out"] == 7
    assert ("derived_loss" in result.metrics) == (derived_above > 0)
    assert math.isfinite(result.metrics["loss"])


def test_where_nobody_wrote_an_answer_such_a_model_stays_as_it_is(tmp_path: Path) -> None:
    """No step is taken, and what PPO starts from has the base model's weights."""
    base = make_tiny_model(tmp_path / "base", "llama")
    result = train_sft(
        replace(SETTINGS, derived_above=ALWAYS_KNOWN),
        base_dir=base,
        rows=_rows()[:6],
        out_dir=tmp_path / "out",
        progress=_ignore,
    )
    before, after = (load_tiny_model(path)[0].state_dict() for path in (base, result.path))

    assert result.metrics["n_steps"] == 0
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_limit_below_zero_is_refused_by_name() -> None:
    """0 is "always"."""
    with pytest.raises(ValueError, match="derived_above"):
        SftSettings(derived_above=-1)
