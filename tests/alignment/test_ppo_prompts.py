"""Which prompts a step takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.ppo_models import PpoModels
from alignment.ppo_prompts import TrainingPrompts
from alignment.ppo_settings import PpoSettings
from tests.alignment.ppo_fakes import rollout_prompts, save_tiny_models


@cache
def models() -> PpoModels:
    """Of a tiny policy; loaded whole, so that its folder may go."""
    with TemporaryDirectory() as folder:
        policy = save_tiny_models(Path(folder))[0]
        return PpoModels(PpoSettings(precision="float32", device="cpu"), policy, policy, None)


def prompts_of(
    n_asked: int, n_others: int, steps: int, *, size: int = 4, share: float = 0.5
) -> list[list[str]]:
    """Ids of each step's prompts; those that were asked begin with an a."""
    made = rollout_prompts(n_asked + n_others)
    prompts = [
        replace(prompt, id=f"{'a' if at < n_asked else 'd'}{at}", asked=at < n_asked)
        for at, prompt in enumerate(made)
    ]
    chosen = PpoSettings(prompts_per_step=size, minibatches=1, asked_share=share, steps=steps)
    training = TrainingPrompts(chosen, prompts, policy=models().policy, tokenizer=models().tokenizer)
    return [[prompt.id for prompt, _ in training.of_step(step)] for step in range(steps)]


def test_half_of_a_step_was_asked_where_few_prompts_were() -> None:
    """Two of four, though one in eight was asked."""
    for step in prompts_of(2, 14, 6):
        assert sum(name.startswith("a") for name in step) == 2


def test_where_most_was_asked_most_of_a_step_was() -> None:
    """The share is the least."""
    assert all(sum(name.startswith("a") for name in step) == 3 for step in prompts_of(9, 3, 4))


@pytest.mark.parametrize(("n_asked", "n_others"), [(0, 5), (5, 0)])
def test_one_kind_alone_fills_the_step(n_asked: int, n_others: int) -> None:
    """A new company has no questions yet; one without headings has nothing else."""
    assert all(len(step) == 4 for step in prompts_of(n_asked, n_others, 3))


@settings(max_examples=20, deadline=None)
@given(n_asked=st.integers(1, 7), n_others=st.integers(1, 7), share=st.floats(0, 1))
def test_prompts_of_a_kind_are_used_equally_often(n_asked: int, n_others: int, share: float) -> None:
    """Nobody comes up again before all others of the kind have come up."""
    steps = prompts_of(n_asked, n_others, 9, share=share)
    used = Counter(name for step in steps for name in step)
    for kind, n in (("a", n_asked), ("d", n_others)):
        counts = [count for name, count in used.items() if name.startswith(kind)]
        counts += [0] * (n - len(counts))
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("n_asked", "n_others", "size"), [(19, 1, 4), (1, 19, 1), (1, 19, 2)])
def test_no_kind_is_rounded_away(n_asked: int, n_others: int, size: int) -> None:
    """A share of a small step may be less than a prompt: then some steps have one."""
    kinds = {name[0] for step in prompts_of(n_asked, n_others, 24, size=size, share=0.1) for name in step}

    assert kinds == {"a", "d"}


def test_the_prompts_of_a_step_depend_on_nothing_but_seed_and_step() -> None:
    """A resumed run takes what the uninterrupted one would have taken."""
    assert prompts_of(3, 9, 7) == prompts_of(3, 9, 7)
    assert prompts_of(3, 9, 7)[:4] == prompts_of(3, 9, 4)
