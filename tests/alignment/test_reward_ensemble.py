"""Members of a reward model: how they come to differ, and what their disagreement costs a policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.records import RankedCompletions, RolloutPrompt
from alignment.reward_ensemble import bootstrap_shares, cautious_score
from alignment.reward_functions import CautiousReward
from alignment.reward_model import RewardModel
from alignment.reward_training import train_reward
from alignment.value_model import load_value_model
from tests.alignment.answers import make_evidence, make_passage, make_prepared
from tests.alignment.tiny_reward import SETTINGS as LONGER
from tests.alignment.tiny_reward import ignore
from tests.chatbot.tiny_models import make_tiny_model

SETTINGS = dataclasses.replace(LONGER, epochs=4)


def _judgements(n: int) -> list[RankedCompletions]:
    """Cited answers win everywhere; whether the polite or the blunt one wins changes from question to question."""
    made = []
    for i in range(n):
        common: dict[str, Any] = {
            "prompt": f"Question {i}: how many days?",
            "question_id": str(i),
            "labeler_id": "ana",
        }
        polite, blunt = f"Happy to help, {i} days", f"{i}, look it up"
        made.append(
            RankedCompletions(completions=(f"{i} days", f"{i} days [1]."), ranking=((1,), (0,)), **common)
        )
        order = ((0,), (1,)) if i % 2 else ((1,), (0,))
        made.append(RankedCompletions(completions=(polite, blunt), ranking=order, **common))
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with four members."""
    folder = tmp_path_factory.mktemp("ensemble")
    base = make_tiny_model(folder / "base", "llama")
    result = train_reward(
        SETTINGS, init_dir=base, judgements=_judgements(12), out_dir=folder / "out", progress=ignore
    )
    return result.path


def test_members_disagree_more_where_the_judgements_contradict_each_other(trained: Path) -> None:
    """Whether a citation is liked is known; whether politeness is, is not."""
    model = RewardModel.load(trained, precision="float32")
    prompts = [f"Question {i}: how many days?" for i in range(40, 52)]
    pairs = {
        "known": [(f"{i} days [1].", f"{i} days") for i in range(12)],
        "unknown": [(f"Happy to help, {i} days", f"{i}, look it up") for i in range(12)],
    }
    signal = {}
    for name, texts in pairs.items():
        first = np.array(model.score_members(prompts, [a for a, _ in texts]))
        second = np.array(model.score_members(prompts, [b for _, b in texts]))
        gaps = first - second  # (12, 4)
        signal[name] = float((np.abs(gaps.mean(axis=1)) / gaps.std(axis=1)).mean())

    assert signal["known"] > 2 * signal["unknown"]


def test_the_score_is_the_members_mean(trained: Path) -> None:
    """What serving, gates and the plot read is one number."""
    model = RewardModel.load(trained, precision="float32")
    prompts, texts = ["Question 3: how many days?"] * 2, ["3 days [1].", "3 days"]
    members = model.score_members(prompts, texts)

    assert all(len(row) == SETTINGS.members for row in members)
    assert model.score_texts(prompts, texts) == pytest.approx([sum(row) / len(row) for row in members])


def test_one_member_is_a_plain_reward_model(tmp_path: Path) -> None:
    """No weights are drawn and nothing is uncertain."""
    base = make_tiny_model(tmp_path / "base", "llama")
    train_reward(
        dataclasses.replace(SETTINGS, members=1, max_steps=2),
        init_dir=base,
        judgements=_judgements(4),
        out_dir=tmp_path / "out",
        progress=ignore,
    )
    model = RewardModel.load(tmp_path / "out", precision="float32")
    scores = model.score_members(["Question 3: how many days?"], ["3 days"])

    assert [[model.score_texts(["Question 3: how many days?"], ["3 days"])[0]]] == scores


def test_a_value_model_starts_from_an_ensemble(trained: Path) -> None:
    """Its trunk is taken and its heads are left."""
    import torch

    assert load_value_model(trained, torch.device("cpu")).head.out_features == 1


@given(
    ids=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30),
    members=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_a_question_weighs_the_same_wherever_its_judgements_stand(
    ids: list[str], members: int, seed: int
) -> None:
    """Shuffling judgements changes no weight; over the questions every member's weights have mean 1."""
    shares = bootstrap_shares(ids, members, seed)
    turned = bootstrap_shares(ids[::-1], members, seed)[::-1]
    first_of_each = [ids.index(name) for name in sorted(set(ids))]

    assert np.array_equal(shares, turned)
    assert np.allclose(shares[first_of_each].mean(axis=0), 1.0)
    assert (shares > 0).all()


def test_one_member_takes_judgements_as_they_are() -> None:
    """All weights are 1."""
    assert bootstrap_shares(["a", "b"], 1, seed=3).tolist() == [[1.0], [1.0]]


@given(scores=st.lists(st.floats(-5, 5), min_size=1, max_size=6), weight=st.floats(0, 2))
def test_caution_never_raises_a_score(scores: list[float], weight: float) -> None:
    """At most the mean."""
    assert cautious_score(scores, weight) <= sum(scores) / len(scores) + 1e-9


class _Members:
    name = "reward_model"

    def score_members(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        return [[1.0, 1.0] if text == "agreed" else [3.0, -0.5] for text in completions]


def test_a_policy_is_paid_less_for_what_the_members_disagree_about() -> None:
    """The mean says 1.25 against 1; caution turns them round."""
    text = "Leave is 12 weeks."
    prepared = make_prepared("How long?", make_evidence([(make_passage(text), text)]))
    prompt = RolloutPrompt(id="1", question=prepared.question, prompt="", prepared=prepared)
    agreed, disputed = CautiousReward(_Members(), uncertainty_weight=0.5).score(
        [prompt] * 2, ["agreed", "disputed"]
    )

    assert agreed == 1.0
    assert disputed == pytest.approx(1.25 - 0.5 * 1.75)


def test_caution_below_zero_is_refused() -> None:
    """It would pay for disagreement."""
    with pytest.raises(ValueError, match="uncertainty_weight"):
        CautiousReward(_Members(), uncertainty_weight=-1.0)
