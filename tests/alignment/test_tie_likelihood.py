"""The likelihood against hand-computed numbers in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignment.tie_likelihood import (
    FIRST_WINS,
    SECOND_WINS,
    TIE,
    comparison_log_likelihood,
    davidson_log_probs,
    log_nu_at_tie_rate,
    pairs_of_ranking,
    rating_log_likelihood,
    threshold_at_up_rate,
)

scores = st.floats(-20, 20)


def _double(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


@given(a=scores, b=scores, log_nu=st.floats(-5, 5))
def test_davidson_agrees_with_the_formula_of_the_paper(a: float, b: float, log_nu: float) -> None:
    """exp(a) : exp(b) : nu exp((a + b) / 2), computed the plain way."""
    weights = [math.exp(a), math.exp(b), math.exp(log_nu) * math.exp((a + b) / 2)]
    expected = torch.tensor([[math.log(w / sum(weights)) for w in weights]], dtype=torch.float64)
    found = davidson_log_probs(_double(a), _double(b), torch.tensor(log_nu, dtype=torch.float64))

    assert torch.allclose(expected, found, atol=1e-6)


def test_a_worked_example_by_hand() -> None:
    """With a = 1, b = 0, nu = 2: e, 1 and 2 sqrt(e) over their sum 7.015724..."""
    total = math.e + 1 + 2 * math.sqrt(math.e)
    found = davidson_log_probs(
        _double(1.0), _double(0.0), torch.tensor(math.log(2.0), dtype=torch.float64)
    ).exp()

    assert found[0].tolist() == pytest.approx(
        [math.e / total, 1 / total, 2 * math.sqrt(math.e) / total], abs=1e-9
    )


def test_huge_scores_do_not_overflow() -> None:
    """The stable form gives finite numbers and gradients."""
    a = torch.tensor([1e4], requires_grad=True)
    value = comparison_log_likelihood(a, torch.tensor([-1e4]), torch.tensor([SECOND_WINS]), torch.tensor(0.0))
    value.sum().backward()

    assert torch.isfinite(value).all()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


@given(a=scores, b=scores)
def test_without_ties_it_is_bradley_terry(a: float, b: float) -> None:
    """Letting nu go to 0 leaves ln sigmoid(a - b)."""
    found = comparison_log_likelihood(
        _double(a), _double(b), torch.tensor([FIRST_WINS]), torch.tensor(-60.0, dtype=torch.float64)
    )

    assert float(found) == pytest.approx(float(torch.nn.functional.logsigmoid(_double(a - b))), abs=1e-6)


@given(p=st.floats(0.05, 0.85))
def test_the_start_of_nu_gives_back_the_tie_rate(p: float) -> None:
    """Equal scores tie as often as the data does."""
    log_nu = torch.tensor(log_nu_at_tie_rate(p), dtype=torch.float64)

    assert float(davidson_log_probs(_double(0), _double(0), log_nu).exp()[0, TIE]) == pytest.approx(
        p, abs=1e-9
    )


@given(p=st.floats(0.06, 0.94))
def test_the_start_of_the_threshold_gives_back_the_up_rate(p: float) -> None:
    """A score of 0 is liked as often as the data says."""
    up = rating_log_likelihood(
        _double(0), _double(1), torch.tensor(threshold_at_up_rate(p), dtype=torch.float64)
    )

    assert float(up.exp()) == pytest.approx(p, abs=1e-9)


def test_thumbs_agree_with_the_logistic_function() -> None:
    """The value of ln sigmoid(label (r - b)) with r = 2, b = 0.5."""
    found = rating_log_likelihood(_double(2.0), _double(-1.0), torch.tensor(0.5, dtype=torch.float64))

    assert float(found) == pytest.approx(math.log(1 / (1 + math.exp(1.5))), abs=1e-9)


def test_a_slope_says_how_closely_thumbs_follow_the_score() -> None:
    """The value of ln sigmoid(label s (r - b)) with r = 2, b = 0.5, s = 0.4."""
    found = rating_log_likelihood(
        _double(2.0),
        _double(1.0),
        torch.tensor(0.5, dtype=torch.float64),
        torch.tensor(0.4, dtype=torch.float64),
    )

    assert float(found) == pytest.approx(math.log(1 / (1 + math.exp(-0.6))), abs=1e-9)


def test_gradients_are_right() -> None:
    """Checked against finite differences, for scores and for both scalars."""
    a, b = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scalar = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    outcome = torch.tensor([FIRST_WINS, SECOND_WINS, TIE, TIE])
    label = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda x, y, nu: comparison_log_likelihood(x, y, outcome, nu), (a, b, scalar)
    )
    assert torch.autograd.gradcheck(lambda x, t: rating_log_likelihood(x, label, t), (a, scalar))


@given(st.permutations(range(5)), st.integers(1, 4))
def test_the_pairs_of_a_ranking_weigh_one_together(order: list[int], cut: int) -> None:
    """Every pair once, 1 / C(5, 2) each."""
    pairs = pairs_of_ranking([order[:cut], order[cut:]])

    assert sum(pair.weight for pair in pairs) == pytest.approx(1.0)
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == len(pairs) == 10


def test_a_ranking_that_names_one_answer_twice_is_refused() -> None:
    """It contradicts itself."""
    with pytest.raises(ValueError, match="each once"):
        pairs_of_ranking([[0], [0, 1]])
