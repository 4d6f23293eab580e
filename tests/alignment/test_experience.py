"""Scores on their way to advantages."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from alignment.experience import relative_scores


@given(st.integers(2, 6), st.lists(st.floats(-5, 5), min_size=1, max_size=4), st.randoms())
def test_relative_scores_keep_differences_and_forget_the_prompt(k: int, levels: list[float], rng) -> None:  # type: ignore[no-untyped-def]
    """Whatever a prompt adds to all its samples is gone; between siblings, differences grow by k / (k - 1)."""
    within = torch.tensor([[rng.uniform(-1, 1) for _ in range(k)] for _ in levels], dtype=torch.float64)
    scores = (within + torch.tensor(levels, dtype=torch.float64)[:, None]).flatten()

    found = relative_scores(scores, k).view(-1, k)

    torch.testing.assert_close(found.sum(dim=1), torch.zeros(len(levels), dtype=torch.float64))
    expected = (within - within[:, :1]) * k / (k - 1)
    torch.testing.assert_close(found - found[:, :1], expected)


def test_a_prompt_with_one_sample_keeps_its_score() -> None:
    """There is nothing to compare it with."""
    scores = torch.tensor([1.0, -2.0])

    assert torch.equal(relative_scores(scores, 1), scores)
