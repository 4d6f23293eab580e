"""The best of several samples by a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.best_of_n import best_of_n_kl, choose_best
from alignment.records import RolloutPrompt
from chatbot.records import Answer
from tests.alignment.answers import make_answer


class _Length:
    name = "length"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        assert len(prompts) == len(completions)
        return [float(len(text)) for text in completions]


def _answers(*completions: str) -> list[Answer]:
    return [
        replace(make_answer("How long?", text or "I don't know."), id=f"{at}-{text}", completion=text)
        for at, text in enumerate(completions)
    ]


def _render(_: object) -> str:
    return "prompt"


@given(
    st.lists(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=4), min_size=1, max_size=4)
)
def test_nothing_that_was_sampled_earns_more_than_what_is_chosen(texts: list[list[str]]) -> None:
    """And the choice is one of the question's own samples."""
    samples = [_answers(*row) for row in texts]
    chosen = choose_best(samples, _Length(), _render)

    assert [max(map(len, row)) for row in texts] == [len(answer.completion) for answer in chosen]
    assert all(answer in row for answer, row in zip(chosen, samples, strict=True))


def test_equals_leave_plain_sampling() -> None:
    """The first of those that earn the same."""
    assert choose_best([_answers("bb", "aa")], _Length(), _render)[0].completion == "bb"


def test_a_question_no_policy_was_asked_keeps_its_refusal() -> None:
    """There is nothing to choose from, and the reward is not asked."""
    assert choose_best([_answers("", "")], _Length(), _render)[0].completion == ""


def test_a_question_without_samples_is_an_error() -> None:
    """Not an answer out of nowhere."""
    with pytest.raises(ValueError, match="at least one sample"):
        choose_best([[]], _Length(), _render)


def test_one_sample_is_the_policy_itself() -> None:
    """It moves nowhere; more samples move further."""
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_kl(4) < best_of_n_kl(16)
