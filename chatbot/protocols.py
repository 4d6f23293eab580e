"""Contracts of the chatbot, with their semantics. `tests/contracts.py` proves every implementation."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatbot.evidence_order import EvidenceOrder
from chatbot.prompt import Message
from chatbot.records import Completion, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a completion while it is written. The last one carries the whole `completion`."""

    text: str
    completion: Completion | None = None


class Generator(Protocol):
    """A policy that can write: messages to completions."""

    @property
    def policy_id(self) -> str:
        """Which policy version this is; stored with each answer."""

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and completion may take together."""

    @property
    def evidence_order(self) -> EvidenceOrder | None:
        """In which order it wants to read its evidence; None for the order in which it was chosen."""

    def count_tokens(self, text: str) -> int:
        """How many tokens a text takes."""

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the model sees it (`chatbot.prompt.render_prompt` with the model's own template)."""

    def generate(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Completion]:
        """Complete several prompts, in the order given. Thread-safe.

        Raises:
            GenerationError: a prompt is too long for the context, or the engine failed.
        """

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """Complete one prompt piece by piece; ends soon after `stop` is set, with `ended=False`. Thread-safe.

        The pieces joined are the completion's text. Closing the iterator early stops the engine too.
        """
