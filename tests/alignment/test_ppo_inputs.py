"""What a cycle gives PPO beside prompts: rows of the text that SFT learned from."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment.errors import TrainingError
from alignment.ppo_inputs import make_ptx_rows
from alignment.ppo_settings import PpoSettings
from alignment.records import PromptCompletion
from tests.alignment.ppo_fakes import save_tiny_models

PAIRS = [
    PromptCompletion(prompt=f"Question {n}?", completion="yes " * n, question_id=f"q{n}", origin="derived")
    for n in range(1, 9)
]


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy with its tokenizer."""
    return save_tiny_models(tmp_path_factory.mktemp("models"))[0]


def test_without_a_coefficient_there_are_no_rows(policy_dir: Path) -> None:
    """Nothing is encoded for nothing."""
    assert make_ptx_rows(PAIRS, policy_dir, PpoSettings()) is None


def test_the_rows_of_an_update_are_always_the_same_ones(policy_dir: Path) -> None:
    """Whoever asks again, after a crash, gets them again; other updates get others."""
    settings = PpoSettings(ptx_coef=0.1, ptx_rows=3)
    rows, again = (make_ptx_rows(PAIRS, policy_dir, settings) for _ in range(2))
    assert rows is not None
    assert again is not None

    assert rows(5) == again(5)
    assert rows(5) != rows(6)
    assert all(len(rows(update)) == 3 for update in range(5))


def test_rows_too_long_for_training_are_left_out(policy_dir: Path) -> None:
    """And fewer rows than wanted are all there are."""
    settings = PpoSettings(ptx_coef=0.1, ptx_rows=20, max_prompt_tokens=16, max_new_tokens=8)
    rows = make_ptx_rows(PAIRS, policy_dir, settings)
    assert rows is not None

    assert 0 < len(rows(0)) < len(PAIRS)
    assert max(map(len, rows(0))) <= 24


def test_a_wish_for_rows_of_which_none_fits_is_refused(policy_dir: Path) -> None:
    """Training without them would be silently another algorithm."""
    settings = PpoSettings(ptx_coef=0.1, max_prompt_tokens=1, max_new_tokens=1)

    with pytest.raises(TrainingError, match="max_prompt_tokens"):
        make_ptx_rows(PAIRS, policy_dir, settings)
