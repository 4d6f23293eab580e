"""The reward of a cycle as a serving policy asks it: by messages, since that is all a generator knows of a turn.

Knows nothing of how many samples there are or what is done with the best. Different from training's use of the same reward: nobody knows the right answer
of a question that is being asked, so agreement with it is worth the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignment.records import RewardFunction, RolloutPrompt
from alignment.reward_mix import RewardMix
from chatbot.judgements import text_hash
from chatbot.prompt import Message, read_evidence, read_question
from chatbot.records import EvidenceSentence, PreparedTurn
from knowledge_base.records import Passage


class ServedReward:
    """Implements `chatbot.best_of_n.CompletionScorer`."""

    def __init__(self, reward: RewardFunction) -> None:
        """Wrap a reward."""
        self._reward = reward

    @classmethod
    def load(cls, directory: Path) -> ServedReward:
        """What `best_of_n.write_best_of_n` left in a bundle's `reward` folder.

        Raises:
            TrainingError: it cannot be read.
        """
        return cls(RewardMix.load(directory).build(directory))

    def score(self, messages: Sequence[Message], prompt: str, completions: Sequence[str]) -> list[float]:
        """See `CompletionScorer.score`."""
        turn = _turn_of(messages)
        asked = RolloutPrompt(
            id=text_hash(turn.question), question=turn.question, prompt=prompt, prepared=turn
        )
        return self._reward.score([asked] * len(completions), completions)


def _turn_of(messages: Sequence[Message]) -> PreparedTurn:
    content = messages[-1].content
    question = read_question(content) or content
    return PreparedTurn(
        question=question,
        search_text=question,
        passages=(),
        evidence=[_sentence(item.number, item.heading, item.text) for item in read_evidence(content)],
        messages=messages,
        answerable=True,
        support=0.0,
        versions={},
    )


def _sentence(number: int, heading: str, text: str) -> EvidenceSentence:
    # Where a sentence comes from does not matter to its support; its number tells it from the others.
    passage = Passage(
        chunk_id=number,
        document_id="",
        document="",
        title="",
        collection="",
        collection_is_open=True,
        heading=heading,
        page=None,
        text=text,
        start=0,
        end=len(text),
        score=0.0,
        similarity=0.0,
        rank=number,
    )
    return EvidenceSentence(
        number=number, text=text, heading=heading, similarity=0.0, start=0, end=len(text), passage=passage
    )
