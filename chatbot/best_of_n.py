"""A policy that considers several completions and gives the one that a reward prefers.

Owns what is considered and what is handed out; knows nothing of how completions are rewarded: the scorer is handed in. A bundle that wants it holds
`best_of_n.json` (what is considered) and a folder `reward`.

Different from PPO, which learns to write what the reward prefers: nothing is forgotten and nothing over-trained, but every answer costs several
completions, and its first word comes when the last of them is done. Different from the textbook (Stiennon et al. 2020, arXiv:2009.01325; Gao et al.
2022, arXiv:2210.10760): besides samples, or in their place, the likeliest completion under each of several layouts of the evidence is considered
(`evidence_views`). Only answers that ask for no chance, at temperature 0, are chosen: samples to compare, which teach the next reward, are the
policy's own.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chatbot.bundles import read_part
from chatbot.evidence_order import EvidenceOrder
from chatbot.evidence_views import MOST_VIEWS, evidence_views
from chatbot.prompt import Message, with_numbers
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
    """What is considered."""

    samples: int
    """Completions drawn under the prompt as it is."""
    temperature: float
    """Of the samples."""
    min_p: float
    """Of the samples."""
    views: bool
    """Whether the likeliest completion under each view of the evidence is considered."""
    margin: float = 0.0
    """How much better, in units of the reward, another must be than the first: the policy's own with views, else the first sample."""

    def __post_init__(self) -> None:
        """Reject what leaves no choice."""
        if self.samples < 0 or (self.samples < 2 and not self.views):
            raise ValueError(
                f"samples={self.samples} must be at least 2 unless views=true: one leaves nothing to choose"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be above 0: at 0 all samples are the same")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p={self.min_p} must be at least 0 and below 1")
        if not self.margin >= 0:
            raise ValueError(f"margin={self.margin} must not be negative")

    @property
    def most(self) -> int:
        """Completions that are considered at most."""
        return self.samples + (MOST_VIEWS if self.views else 0)

    def save(self, directory: Path) -> None:
        """Write it beside a policy's weights."""
        (directory / CHOICE_FILE).write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Choice | None:
        """The choice of a policy's directory; None when it wants none.

        Raises:
            GenerationError: there is one, and it cannot be used.
        """
        return read_part(directory / CHOICE_FILE, lambda stored: cls(**stored))


class BestOfN:
    """Implements `Generator` over a local one. Thread-safe as that is."""

    def __init__(self, inner: LocalGenerator, choice: Choice, scorer: CompletionScorer) -> None:
        """Wrap a policy.

        Args:
            inner: Writes.
            choice: What is considered.
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
        considered = [*self._under_views(messages, sampling, stop), *self._samples(messages, sampling, stop)]
        # How likely the choice was to fall on it is not how likely it was to be written.
        considered = [dataclasses.replace(completion, logprob=None) for completion in considered]
        if stop.is_set():
            # Nobody waits for the best of what is half written.
            return considered[0]
        first: dict[str, Completion] = {}
        for completion in considered:
            # Where it is written first, so that the policy's own stays in front: views often repeat it.
            first.setdefault(completion.text, completion)
        different = list(first.values())
        texts = [completion.text for completion in different]
        scores = self._scorer.score(messages, self.render(messages), texts)
        scores = [scores[0] + self._choice.margin, *scores[1:]]
        return different[max(range(len(different)), key=scores.__getitem__)]

    def _under_views(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> list[Completion]:
        """What the policy writes by itself under each view that leaves room for it, in the numbers of the turn."""
        if not self._choice.views:
            return []
        as_it_is, *others = evidence_views(messages)
        room = self.context_tokens - sampling.max_new_tokens
        views = [as_it_is, *(v for v in others if self.count_tokens(self.render(v.messages)) <= room)]
        written = self._inner.generate([view.messages for view in views], sampling, stop)
        return [
            completion
            if view is as_it_is
            else dataclasses.replace(
                completion, text=with_numbers(completion.text, view.numbers), token_ids=()
            )
            for view, completion in zip(views, written, strict=True)
        ]

    def _samples(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> list[Completion]:
        choice = self._choice
        drawn = dataclasses.replace(
            sampling,
            temperature=choice.temperature,
            min_p=choice.min_p,
            top_p=1.0,
            # Asked for no chance: the same question gets the same answer.
            seed=sampling.seed if sampling.seed is not None else 0,
        )
        return self._inner.generate([messages] * choice.samples, drawn, stop)
