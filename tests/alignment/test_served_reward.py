"""The reward of a cycle, asked by messages: what a policy that chooses among samples maximises is what PPO does, as far as it can know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from alignment.errors import TrainingError
from alignment.records import RolloutPrompt
from alignment.reward_functions import GroundednessReward
from alignment.reward_mix import RewardMix
from alignment.served_reward import ServedReward
from chatbot.prompt import Message, NumberedEvidence, build_messages
from tests.alignment.answers import make_answer

MIX = RewardMix(
    reward_weight=1.0,
    uncertainty_weight=0.5,
    groundedness_weight=1.0,
    reference_weight=1.0,
    rejected_score=-2.0,
    refusal_score=None,
)


class _Seen:
    name = "seen"

    def __init__(self) -> None:
        self.prompts: list[RolloutPrompt] = []

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        self.prompts += prompts
        return [float(len(text)) for text in completions]


def test_a_turn_is_read_from_its_messages() -> None:
    """Question, evidence with headings and numbers, prompt; the answer that would be right is nobody's to know."""
    seen = _Seen()
    evidence = [
        NumberedEvidence(number=1, heading="Leave", text="You get 25 days."),
        NumberedEvidence(number=2, heading="", text="Ask HR."),
    ]
    messages = build_messages("How many days?", evidence, [Message(role="user", content="Hello")])

    assert ServedReward(seen).score(messages, "the prompt", ["a", "bb"]) == [1.0, 2.0]
    asked = seen.prompts[0]
    shown = [(item.number, item.heading, item.text) for item in asked.prepared.evidence]
    assert ("How many days?", "the prompt", None) == (asked.question, asked.prompt, asked.reference)
    assert shown == [(1, "Leave", "You get 25 days."), (2, "", "Ask HR.")]


@pytest.mark.parametrize(
    "completion",
    ["You get 25 days [1].", "You get 26 days [1].", "", "I don't know.", "Ask HR [2]. Ask HR [2]."],
)
def test_support_is_that_of_the_real_evidence(completion: str) -> None:
    """Where a sentence comes from is unknown here, and does not matter."""
    prepared = make_answer("How many days?", "x").prepared
    numbered = [
        NumberedEvidence(number=item.number, heading=item.heading, text=item.text)
        for item in prepared.evidence
    ]
    messages = build_messages(prepared.question, numbered)
    real = RolloutPrompt(id="q", question=prepared.question, prompt="", prepared=replace(prepared))

    served = ServedReward(GroundednessReward()).score(messages, "", [completion])

    assert served == GroundednessReward().score([real], [completion])


def test_messages_of_another_make_have_no_evidence() -> None:
    """They are scored all the same: a question typed past the assistant is no reason to fail."""
    assert ServedReward(GroundednessReward()).score([Message(role="user", content="Hi")], "Hi", ["Yes."]) == [
        0.0
    ]


def test_a_mix_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Bounds and weights of the cycle that made the policy, not of the settings of the day."""
    MIX.save(tmp_path)

    assert RewardMix.load(tmp_path) == MIX


def test_a_folder_without_a_reward_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(TrainingError, match="train again"):
        ServedReward.load(tmp_path)


def test_a_reward_is_known_by_its_files_and_its_weights(tmp_path: Path) -> None:
    """Not by when its stage was done: PPO goes on under the same reward only."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = MIX.fingerprint(tmp_path)
    (tmp_path / "done.json").write_text("{}")
    again, heavier = MIX.fingerprint(tmp_path), replace(MIX, reward_weight=2.0).fingerprint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other")

    assert first == again
    assert 3 == len({first, heavier, MIX.fingerprint(tmp_path)})
