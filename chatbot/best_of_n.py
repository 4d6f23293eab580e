"""A policy that writes several completions and gives the one that a reward prefers.

Owns when to choose and what to hand out; knows nothing of how completions are rewarded: the scorer is handed in. A bundle that wants it holds
`best_of_n.json` (how many, how they are drawn) and a folder `reward`.

Different from PPO, which learns to write what the reward prefers: nothing is forgotten and nothing over-trained, but every answer costs n
samples (the prompt is read once), and its first word comes when the last sample is done (Stiennon et al. 2020, arXiv:2009.01325; Gao et al.
2022, arXiv:2210.10760). Only answers that ask for no chance, at temperature 0, are chosen: samples to compare, which teach the next
reward, are the policy's own.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chatbot.errors import GenerationError
from chatbot.evidence_order import EvidenceOrder
from chatbot.prompt import Message
from chatbot.protocols import Delta
from chatbot.records import Completion, Sampling

if TYPE_CHECKING:  # loads torch
    from chatbot.local_generator import LocalGenerator

CHOICE_FILE = "best_of_n.json"
REWARD_FOLDER = "reward"
"""Of a bundle: what the scorer is loaded from."""


class CompletionScorer(Protocol):
    """Says what completions are worth."""

    def score(self, messages: Sequence[Message], prompt: str, completions: Sequence[str]) -> list[float]:
        """One finite number for each completion of one prompt, higher is better. Thread-safe.

        Args:
            messages: The prompt as a chat.
            prompt: The same, rendered by the policy's template.
            completions: As written.
        """


ScorerLoader = Callable[[Path], CompletionScorer]
"""Loads the scorer that a bundle's `reward` folder holds."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Among how many samples, and how they are drawn."""

    n: int
    temperature: float
    min_p: float

    def __post_init__(self) -> None:
        """Reject what could not be drawn."""
        if self.n < 2:
            raise ValueError(f"n={self.n} must be at least 2: one sample leaves nothing to choose")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be above 0: at 0 all samples are the same")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p={self.min_p} must be at least 0 and below 1")

    def save(self, directory: Path) -> None:
        """Write it beside a policy's weights."""
        (directory / CHOICE_FILE).write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Choice | None:
        """The choice of a policy's directory; None when it wants none.

        Raises:
            GenerationError: there is one, and it cannot be used.
        """
        file = directory / CHOICE_FILE
        if not file.is_file():
            return None
        try:
            return cls(**json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise GenerationError(f"{file} cannot be used ({error}): train again, or roll back") from error


class BestOfN:
    """Implements `Generator` over a local one. Thread-safe as that is."""

    def __init__(self, inner: LocalGenerator, choice: Choice, scorer: CompletionScorer) -> None:
        """Wrap a policy.

        Args:
            inner: Writes.
            choice: How many samples, and how they are drawn.
            scorer: Chooses.
        """
        self._inner, self._choice, self._scorer = inner, choice, scorer

    @property
    def policy_id(self) -> str:
        """Which policy version this is."""
        return self._inner.policy_id

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together, in tokens."""
        return self._inner.context_tokens

    @property
    def evidence_order(self) -> EvidenceOrder | None:
        """In which order it wants to read its evidence, when its bundle says so."""
        return self._inner.evidence_order

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, as a prompt would count them."""
        return self._inner.count_tokens(text)

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the model sees it."""
        return self._inner.render(messages)

    def generate(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Completion]:
        """Complete several prompts, in the order given; see `Generator.generate`."""
        if sampling.temperature > 0:
            return self._inner.generate(prompts, sampling)
        return [self._best(messages, sampling, threading.Event()) for messages in prompts]

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """Complete one prompt; the chosen text comes in one piece. See `Generator.stream`."""
        if sampling.temperature > 0:
            yield from self._inner.stream(messages, sampling, stop)
            return
        best = self._best(messages, sampling, stop)
        if best.text:
            yield Delta(text=best.text)
        yield Delta(text="", completion=best)

    def _best(self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event) -> Completion:
        choice = self._choice
        drawn = dataclasses.replace(
            sampling,
            temperature=choice.temperature,
            min_p=choice.min_p,
            top_p=1.0,
            # Asked for no chance: the same question gets the same answer.
            seed=sampling.seed if sampling.seed is not None else 0,
        )
        samples = self._inner.sample(messages, choice.n, drawn, stop)
        if stop.is_set():
            # Nobody waits for the best of half-written samples.
            return dataclasses.replace(samples[0], logprob=None)
        different = list({sample.text: sample for sample in reversed(samples)}.values())[::-1]
        texts = [sample.text for sample in different]
        scores = self._scorer.score(messages, self.render(messages), texts)
        best = different[max(range(len(different)), key=scores.__getitem__)]
        # How likely the choice was to fall on it is not how likely it was to be written.
        return dataclasses.replace(best, logprob=None)
