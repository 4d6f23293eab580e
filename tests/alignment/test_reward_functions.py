"""Rewards that are not learned, and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from alignment.records import RolloutPrompt
from alignment.reward_functions import (
    CautiousOnRefusals,
    GroundednessReward,
    ReferenceReward,
    RewardOfShownText,
    WeightedReward,
)
from chatbot.prompt import REFUSAL
from tests.alignment.answers import make_evidence, make_passage, make_prepared

TEXT = "You do not need to take all 12 weeks at once."


def _prompt(*, answerable: bool | None = None) -> RolloutPrompt:
    prepared = make_prepared("Must I take it at once?", make_evidence([(make_passage(TEXT), TEXT)]))
    return RolloutPrompt(
        id="1", question=prepared.question, prompt="", prepared=prepared, answerable=answerable
    )


class _Constant:
    def __init__(self, name: str, value: float) -> None:
        self.name = name
        self._value = value

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        return [self._value] * len(completions)


def test_a_quoted_sentence_is_grounded_and_its_negation_is_not() -> None:
    """The lie that a preference reward paid for."""
    lie = "You need to take all 12 weeks at once [1]."

    assert [1.0, 0.0] == GroundednessReward().score([_prompt()] * 2, [f"{TEXT[:-1]} [1].", lie])


@pytest.mark.parametrize(("answerable", "worth"), [(None, 0.5), (True, 0.0), (False, 1.0)])
def test_what_a_refusal_is_worth_depends_on_what_is_known(answerable: bool | None, worth: float) -> None:
    """A due refusal is a good answer."""
    assert [worth] == GroundednessReward().score([_prompt(answerable=answerable)], [REFUSAL])


def test_an_answer_to_an_unanswerable_question_is_worth_nothing() -> None:
    """However well it quotes."""
    assert [0.0] == GroundednessReward().score([_prompt(answerable=False)], [f"{TEXT} [1]"])


def test_weights_multiply_and_zero_leaves_out() -> None:
    """The name tells the sum."""
    reward = WeightedReward(
        [(_Constant("a", 2.0), 1.0), (_Constant("b", 3.0), 0.5), (_Constant("c", 9.0), 0.0)]
    )

    assert [3.5, 3.5] == reward.score([_prompt()] * 2, ["x", "y"])
    assert "1*a + 0.5*b" == reward.name


@pytest.mark.parametrize("weights", [[], [0.0], [float("nan")], [1.0, 1.0]])
def test_a_sum_of_nothing_or_of_twins_is_refused(weights: list[float]) -> None:
    """At construction."""
    with pytest.raises(ValueError, match="rewards"):
        WeightedReward([(_Constant("a", 1.0), weight) for weight in weights])


def test_a_refusal_that_hardly_anybody_judged_is_not_praised() -> None:
    """Answers keep their scores, and so do refusals where none can be given."""
    reward = CautiousOnRefusals(_Constant("generous", 2.0), most=-1.0)
    prompts = [_prompt(), _prompt(), _prompt(answerable=False)]

    assert [-1.0, 2.0, 2.0] == reward.score(prompts, [REFUSAL, f"{TEXT} [1]", REFUSAL])
    assert "generous" == reward.name


class _Remembering:
    name = "remembering"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        self.seen += completions
        return [0.0] * len(completions)


def test_a_learned_reward_reads_what_people_would_be_shown() -> None:
    """What is supported as it was written, nonsense as the quotation in its place, a refusal as it is."""
    reward = _Remembering()

    RewardOfShownText(reward).score(
        [_prompt()] * 3, [f"{TEXT} [1]", "Green ideas sleep furiously [1].", REFUSAL]
    )

    assert [f"{TEXT} [1]", f"{TEXT} [1]", REFUSAL] == reward.seen


@pytest.mark.parametrize("nothing", ["", "Green ideas sleep furiously [1]."])
def test_the_quotation_shown_for_a_rejected_completion_earns_the_policy_nothing(nothing: str) -> None:
    """Else it learns to write nothing."""
    reward = RewardOfShownText(_Constant("liked", 1.0), rejected=-2.0)

    assert [-2.0, 1.0] == reward.score([_prompt()] * 2, [nothing, f"{TEXT} [1]"])


def test_a_known_answer_is_worth_its_overlap() -> None:
    """More of it is worth more, what was not asked for less, and a refusal, an unsupported text or a prompt without one nothing."""
    prompt = replace(_prompt(), reference=TEXT)
    first_half = " ".join(TEXT.split()[: len(TEXT.split()) // 2])
    reward = ReferenceReward()

    whole, half, refused, nonsense, unknown = reward.score(
        [*[prompt] * 4, _prompt()],
        [f"{TEXT} [1]", f"{first_half} [1]", REFUSAL, "Green ideas sleep furiously [1].", f"{TEXT} [1]"],
    )

    assert 1.0 == pytest.approx(whole)
    assert 0.0 < half < 1.0
    assert [0.0, 0.0, 0.0] == [refused, nonsense, unknown]
