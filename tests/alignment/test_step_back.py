"""The way back from a step that went too far: which candidates take it, where it leads, and what ops read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from alignment.errors import TrainingError
from alignment.records import GateResult, StageResult
from alignment.step_back import PARTS, Attempt, choose, step_back, went_too_far
from tests.alignment.ppo_fakes import tiny_model, tiny_tokenizer


def _gates(*failed: str) -> list[GateResult]:
    names = dict.fromkeys(("win_rate", "length", "overlap", "injection", "kl", *failed))
    return [
        GateResult(name=name, passed=name not in failed, value=0.0, threshold=0.0, why=f"Of {name}.")
        for name in names
    ]


def _attempts(*failed: Sequence[str]) -> list[Attempt]:
    result = StageResult(stage="ppo", path=Path("ppo"), metrics={}, seconds=0.0)
    parts = ("", *PARTS)[: len(failed)]
    return [
        Attempt(part=part, result=result, gates=_gates(*names))
        for part, names in zip(parts, failed, strict=True)
    ]


@pytest.mark.parametrize(
    "failed",
    [("length",), ("overlap", "key_facts"), ("groundedness_over_base",), ("abstention", "injection")],
)
def test_what_lost_something_and_is_preferred_all_the_same_went_too_far(failed: tuple[str, ...]) -> None:
    """A smaller step may lose less."""
    assert went_too_far(_gates(*failed))


@pytest.mark.parametrize(
    "failed",
    [(), ("win_rate",), ("win_rate_over_base", "length"), ("ensemble",), ("kl", "overlap"), ("judgements",)],
)
def test_nobody_tries_again_what_a_smaller_step_cannot_mend(failed: tuple[str, ...]) -> None:
    """Each further try at the win rate would be a throw of the dice."""
    assert not went_too_far(_gates(*failed))


@given(st.lists(st.sampled_from([(), ("length",), ("win_rate",)]), min_size=1, max_size=4))
def test_the_longest_step_that_passes_is_the_runs(failed: list[tuple[str, ...]]) -> None:
    """Or the whole one, where none does."""
    attempts = _attempts(*failed)
    chosen, _ = choose(attempts)
    place = attempts.index(chosen)

    assert chosen.passed or place == 0
    assert not any(attempt.passed for attempt in attempts[:place])
    assert chosen.passed == any(attempt.passed for attempt in attempts)


def test_a_part_that_passes_says_why_the_whole_did_not() -> None:
    """In the one line that ops read."""
    _, reason = choose(_attempts(("length",), ()))

    assert reason.startswith("Half of the optimiser's step. All 5 gates passed.")
    assert reason.endswith("The whole step had failed: Of length.")


def test_where_no_part_passes_the_reason_names_what_stopped_each() -> None:
    """The whole step's sentence first."""
    _, reason = choose(_attempts(("length", "overlap"), ("length",), ("win_rate",)))

    assert reason == (
        "Of length. Of overlap. Half of the step failed too, by length. A quarter of the step failed too, by win_rate."
    )


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, StageResult]:
    """Two policies with tied embeddings; the second has an order of evidence and a record of its own beside it."""
    for name, seed in (("sft", 0), ("ppo", 1)):
        tiny_model(seed=seed).save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
    (tmp_path / "ppo" / "evidence_order.json").write_text("{}", "utf-8")
    (tmp_path / "ppo" / "ppo.json").write_text("{}", "utf-8")
    metrics = {"objective/kl": 4.0}
    return tmp_path / "sft", StageResult(stage="ppo", path=tmp_path / "ppo", metrics=metrics, seconds=9.0)


@pytest.mark.parametrize(("part", "share"), [("half", 0.5), ("quarter", 0.25)])
def test_each_weight_lies_that_far_on_the_way(
    ends: tuple[Path, StageResult], tmp_path: Path, part: str, share: float
) -> None:
    """Tied ones take the step once."""
    start, whole = ends
    result = step_back(start, whole, tmp_path / part, part)
    first, last, found = (
        load_file(folder / "model.safetensors") for folder in (start, whole.path, result.path)
    )

    assert found.keys() == last.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, first[name] + share * (last[name] - first[name]))
    assert result.metrics == {"objective/kl": 4.0, "share_of_step": share}


def test_the_policy_of_a_part_has_what_lay_beside_the_whole_ones_weights(
    ends: tuple[Path, StageResult], tmp_path: Path
) -> None:
    """The order of the evidence, the tokenizer; not the record of a training that made other weights."""
    start, whole = ends
    step_back(start, whole, tmp_path / "half", "half")
    names = {file.name for file in (tmp_path / "half").iterdir()}

    assert {"evidence_order.json", "tokenizer.json", "config.json"} <= names
    assert "ppo.json" not in names


def test_a_part_is_written_in_the_type_of_the_whole(ends: tuple[Path, StageResult], tmp_path: Path) -> None:
    """A policy in bfloat16 does not come back twice its size."""
    start, whole = ends
    tiny_model(seed=1).to(torch.bfloat16).save_pretrained(whole.path)
    step_back(start, whole, tmp_path / "half", "half")
    tensors = load_file(tmp_path / "half" / "model.safetensors").values()

    assert {torch.bfloat16} == {tensor.dtype for tensor in tensors}


def test_a_part_of_a_policy_that_is_gone_says_so(ends: tuple[Path, StageResult], tmp_path: Path) -> None:
    """In one line that names the folder."""
    start, whole = ends
    shutil.rmtree(whole.path)

    with pytest.raises(TrainingError, match=str(whole.path)):
        step_back(start, whole, tmp_path / "half", "half")
