"""Demonstrations as comparisons with what the model says by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from alignment.demonstration_rankings import rank_demonstrations
from alignment.ppo_settings import PpoSettings
from alignment.records import PromptCompletion, RankedCompletions
from tests.alignment.ppo_fakes import save_tiny_models


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy with its tokenizer."""
    return save_tiny_models(tmp_path_factory.mktemp("models"))[0]


def row(
    prompt: str,
    completion: str = "Ask the desk [1].",
    origin: Literal["demonstration", "derived", "unanswerable"] = "demonstration",
) -> PromptCompletion:
    """A row for SFT."""
    return PromptCompletion(
        prompt=prompt, completion=completion, question_id=f"q {prompt}", origin=origin, labeler_id="ann"
    )


def ranked(rows: list[PromptCompletion], policy_dir: Path, **changes: Any) -> list[RankedCompletions]:
    """Two samples, a weight of one half."""
    sampling = PpoSettings(max_new_tokens=6, temperature=1.0, min_p=0.0, precision="float32", device="cpu")
    wanted: dict[str, Any] = {"samples": 2, "weight": 0.5, "sampling": sampling}
    return rank_demonstrations(rows, policy_dir=policy_dir, **(wanted | changes))


def test_a_demonstration_wins_against_each_answer_of_the_model(policy_dir: Path) -> None:
    """The comparisons of one demonstration share its weight and belong to its question and to who wrote it."""
    found = ranked([row("How?"), row("Where?", "At the desk.")], policy_dir)

    assert [judgement.completions[0] for judgement in found] == ["Ask the desk [1]."] * 2 + [
        "At the desk."
    ] * 2
    assert all(judgement.ranking == ((0,), (1,)) for judgement in found)
    assert all(judgement.completions[1] != judgement.completions[0] for judgement in found)
    assert {judgement.labeler_id for judgement in found} == {"ann"}
    assert [judgement.question_id for judgement in found] == ["q How?"] * 2 + ["q Where?"] * 2
    assert sum(judgement.weight for judgement in found) == pytest.approx(1.0)
    assert not any(judgement.seen for judgement in found)


def test_what_nobody_wrote_is_compared_with_nothing(policy_dir: Path) -> None:
    """Rows made of documents are no judgements, and a weight of 0 turns all of it off."""
    assert ranked([row("How?", origin="derived")], policy_dir) == []
    assert ranked([row("How?")], policy_dir, weight=0.0) == []


def test_a_model_that_already_says_it_is_no_comparison(policy_dir: Path) -> None:
    """A text is not better than itself."""
    said = ranked([row("How?")], policy_dir)[0].completions[1]

    again = ranked([row("How?", said)], policy_dir)

    assert said not in [judgement.completions[1] for judgement in again]


def test_the_same_seed_makes_the_same_comparisons(policy_dir: Path) -> None:
    """A reward stage that was killed starts again and must find the same."""
    assert ranked([row("How?")], policy_dir) == ranked([row("How?")], policy_dir)


def test_prompts_too_long_to_train_on_are_passed_over(policy_dir: Path) -> None:
    """They could not be answered in training either."""
    sampling = PpoSettings(max_new_tokens=6, max_prompt_tokens=4, precision="float32", device="cpu")
    assert ranked([row("A question of many more tokens than four?")], policy_dir, sampling=sampling) == []
