"""What a cycle needs of the rest of the product, as a contract; `ui.training` implements it over the real services."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from alignment.datasets import Permissions
from alignment.rater_records import KnownRaters
from chatbot.prompt import Message
from chatbot.protocols import Generator
from chatbot.records import Answer, Completion, Judgement, PolicyVersion, PreparedTurn, Sampling
from knowledge_base.records import DocumentText


class CycleWorld(Protocol):
    """What a cycle needs of the rest of the product; `ui.training` is the real one."""

    def judgements(self) -> Iterable[Judgement]:
        """The judgements that count now."""

    def documents(self) -> Sequence[DocumentText]:
        """All documents that every employee may read."""

    def permissions(self) -> Permissions:
        """What may be trained on."""

    def known_raters(self) -> KnownRaters:
        """People's teams, and what reviewers decided about them."""

    def prepare(self, question: str) -> PreparedTurn:
        """A turn as a reader of the open collections only would get it."""

    def passage_weight(self) -> float:
        """What a passage's similarity adds to its sentences' when evidence is chosen."""

    def render(self, messages: Sequence[Message]) -> str:
        """Messages in the base model's template."""

    def base(self) -> PolicyVersion:
        """The base model, as a policy with a local directory."""

    def serving(self) -> PolicyVersion:
        """The policy that a candidate would replace."""

    def load(self, policy: PolicyVersion) -> Generator:
        """A generator for a policy, registered or not."""

    def served_sampling(self) -> Sampling:
        """How answers are written when they are served."""

    def finish(
        self, prepared: PreparedTurn, completion: Completion, generator: Generator, sampling: Sampling
    ) -> Answer:
        """The answer that a completion amounts to."""

    def publish(self, policy: PolicyVersion, source: Path) -> PolicyVersion:
        """Copy weights into an immutable bundle and register the policy; one that is registered already is returned as it is."""

    def promote(self, policy_id: str) -> None:
        """Let it serve.

        Raises:
            RunCancelled: the run was cancelled, or is another process's by now; then nothing was promoted.
        """

    def note_snapshot(self, until: datetime) -> None:
        """Remember the newest judgement that the run learns from: the next cycle counts new feedback from there."""
