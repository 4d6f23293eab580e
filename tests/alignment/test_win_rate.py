"""Win rates, their interval and their judges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.records import RolloutPrompt
from alignment.win_rate import PreferenceJudge, RewardJudge, mean_interval, member_win_rates, win_rate
from chatbot.records import Answer
from tests.alignment.answers import make_answer


def _answers(texts: Sequence[str]) -> list[Answer]:
    return [make_answer(f"question {i}?", text) for i, text in enumerate(texts)]


def _shorter(_question: str, answers: Sequence[Answer]) -> list[list[int]]:
    lengths = sorted({len(a.text) for a in answers})
    return [[i for i, a in enumerate(answers) if len(a.text) == length] for length in lengths]


def _first(_question: str, answers: Sequence[Answer]) -> list[list[int]]:
    return [[i] for i in range(len(answers))]


class _LengthReward:
    name = "length"

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in completions]


def test_ties_count_half() -> None:
    """One win, one loss, one tie by the judge, one by equal texts."""
    won = win_rate(
        _answers(["a", "aaa", "aa", "b"]), _answers(["aa", "a", "bb", "b"]), PreferenceJudge(_shorter)
    )

    assert (0.5, 4, 2) == (won.win_rate, won.n, won.ties)


def test_swapping_the_sides_mirrors_the_result() -> None:
    """The win rate of old over new is the rest."""
    new, old = _answers(["a", "a", "aaa", "a"]), _answers(["aa", "aa", "a", "aa"])
    judge = PreferenceJudge(_shorter)

    assert win_rate(new, old, judge).win_rate == pytest.approx(1 - win_rate(old, new, judge).win_rate)


def test_a_judge_that_likes_the_first_place_gives_no_side_an_advantage() -> None:
    """The order shown is random."""
    n = 400
    won = win_rate(_answers(["new"] * n), _answers(["old!"] * n), PreferenceJudge(_first))

    assert 0.42 < won.win_rate < 0.58


def test_a_reward_model_judges_by_score() -> None:
    """The longer completion wins here."""
    judge = RewardJudge(_LengthReward(), lambda messages: messages[-1].content)
    won = win_rate(_answers(["long answer"] * 3), _answers(["short"] * 3), judge)

    assert (1.0, "length") == (won.win_rate, won.judge)


class _LengthOrBrevity:
    name = "length or brevity"

    def score_members(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        return [[float(len(text)), -float(len(text))] for text in completions]


def test_members_of_an_ensemble_judge_each_for_itself() -> None:
    """One likes what the other does not; equal texts are half a win for both, and so are equal scores."""
    new, old = _answers(["long answer", "b", "cc", "longer"]), _answers(["short", "b", "dd", "long"])

    found = member_win_rates(new, old, _LengthOrBrevity(), lambda messages: messages[-1].content)

    assert found == [0.75, 0.25]


def test_close_scores_are_a_tie_when_asked() -> None:
    """Within the margin."""
    judge = RewardJudge(_LengthReward(), lambda _: "", tie_margin=10)

    assert 0.5 == win_rate(_answers(["long answer"]), _answers(["short"]), judge).win_rate


def test_answers_to_one_question_count_as_one() -> None:
    """Ten samples of one question are no ten questions."""
    new = [make_answer("same?", "a") for _ in range(10)]
    won = win_rate(new, [make_answer("Same?".lower(), "aa") for _ in range(10)], PreferenceJudge(_shorter))

    assert 1 == won.n
    assert won.interval[0] < 0.5


def test_phrasings_of_one_question_count_as_one() -> None:
    """They are answered alike and judged alike: twenty of them are no twenty questions."""
    texts = ["a"] * 20
    one = win_rate(
        _answers(texts),
        _answers(["aa"] * 20),
        PreferenceJudge(_shorter),
        groups=["office"] * 10 + ["leave"] * 10,
    )

    assert (2, 1.0) == (one.n, one.win_rate)


def test_answers_to_different_questions_are_refused() -> None:
    """They cannot be paired."""
    with pytest.raises(ValueError, match="different questions"):
        win_rate(_answers(["a", "b"]), _answers(["a", "b"])[::-1], PreferenceJudge(_shorter))


@pytest.mark.parametrize("n", [12, 40, 100])
@pytest.mark.parametrize("shares", [(0.4, 0.3, 0.3), (0.6, 0.05, 0.35), (0.8, 0.1, 0.1)])
def test_the_interval_covers_the_truth_about_95_times_in_100(
    n: int, shares: tuple[float, float, float]
) -> None:
    """Simulated outcomes with a known mean."""
    rng = np.random.default_rng(4)
    truth = shares[0] + shares[1] / 2
    covered = 0
    for trial in range(300):
        low, high = mean_interval(
            rng.choice([1.0, 0.5, 0.0], p=shares, size=n).tolist(), seed=trial, resamples=400
        )
        covered += low <= truth <= high

    assert 0.91 <= covered / 300


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60))
def test_the_interval_holds_the_mean_and_stays_a_share(outcomes: list[float]) -> None:
    """Whatever the outcomes."""
    low, high = mean_interval(outcomes, resamples=200)

    assert 0 <= low <= sum(outcomes) / len(outcomes) + 1e-9
    assert sum(outcomes) / len(outcomes) - 1e-9 <= high <= 1


def test_ten_wins_in_ten_are_not_certainty() -> None:
    """Wilson: [0.72, 1]."""
    assert mean_interval([1.0] * 10)[0] == pytest.approx(0.722, abs=1e-3)


def test_the_interval_is_repeatable() -> None:
    """Seeded."""
    outcomes = [1.0, 0.0, 0.5] * 20

    assert mean_interval(outcomes, seed=3) == mean_interval(outcomes, seed=3)
