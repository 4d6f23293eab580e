"""Fakes of the turn's protocols: a scripted generator, a registry that promotes, a fixed retriever."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from chatbot.errors import GenerationError
from chatbot.evidence_order import EvidenceOrder
from chatbot.prompt import Message, render_prompt
from chatbot.protocols import Delta, Generator
from chatbot.records import Completion, PolicyVersion, Sampling
from knowledge_base.errors import NotFoundError
from knowledge_base.records import Passage, Reader


def make_policy(policy_id: str = "base", **changes: Any) -> PolicyVersion:
    """A policy version with everything filled in."""
    values: dict[str, Any] = {
        "id": policy_id,
        "stage": "base",
        "state": "serving",
        "parent": None,
        "path": f"/policies/{policy_id}",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "metrics": {},
        "gates": (),
        "manifest": {},
    }
    return PolicyVersion(**{**values, **changes})


class FakeGenerator:
    """Writes scripted completions in turn, the last one for ever; counts words as tokens."""

    def __init__(
        self,
        *completions: str,
        policy_id: str = "base",
        context_tokens: int = 1_000,
        ended: bool = True,
        evidence_order: EvidenceOrder | None = None,
    ) -> None:
        self.policy_id = policy_id
        self.evidence_order = evidence_order
        self.context_tokens = context_tokens
        self.prompts: list[list[Message]] = []
        self.samplings: list[Sampling] = []
        self._completions = list(completions) or ["You get 25 days [1]."]
        self._ended = ended

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def render(self, messages: Sequence[Message]) -> str:
        """Labelled lines."""
        return render_prompt(None, messages)

    def generate(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Completion]:
        """The next scripted completion for each prompt."""
        return [self._next(messages, sampling) for messages in prompts]

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """The next scripted completion word by word."""
        whole = self._next(messages, sampling)
        written = ""
        for piece in re.findall(r"\s*\S+", whole.text):
            if stop.is_set():
                break
            written += piece
            yield Delta(text=piece)
        done = written == whole.text
        yield Delta(
            text="",
            completion=Completion(
                text=written, token_ids=(), logprob=whole.logprob, ended=whole.ended and done
            ),
        )

    def _next(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        size = self.count_tokens(self.render(messages))
        if size >= self.context_tokens:
            raise GenerationError(f"the prompt has {size} tokens")
        self.prompts.append(list(messages))
        self.samplings.append(sampling)
        text = self._completions.pop(0) if len(self._completions) > 1 else self._completions[0]
        return Completion(text=text, token_ids=(), logprob=-1.0, ended=self._ended)


class FakeRegistry:
    """Implements `PolicySource`; `promote` is what another process would do."""

    def __init__(self, *policies: PolicyVersion) -> None:
        self._policies = {p.id: p for p in policies or (make_policy(),)}
        self._serving = next(iter(self._policies))

    def promote(self, policy_id: str) -> None:
        """Let another policy serve."""
        self._serving = policy_id

    def serving(self) -> PolicyVersion:
        """The promoted policy."""
        return self._policies[self._serving]

    def get(self, policy_id: str) -> PolicyVersion:
        """One policy."""
        if policy_id not in self._policies:
            raise NotFoundError(f"no policy {policy_id}")
        return self._policies[policy_id]


class FixedPolicies:
    """Implements the assistant's `Policies` with one generator, or several by id."""

    def __init__(self, *generators: Generator) -> None:
        self._generators = {g.policy_id: g for g in generators}
        self._serving = generators[0]

    def generator(self, policy_id: str | None = None) -> Generator:
        """The serving generator, or the one asked for."""
        return self._serving if policy_id is None else self._generators[policy_id]


def make_passage(text: str, chunk_id: int = 1, **changes: Any) -> Passage:
    """A passage of an open collection."""
    values: dict[str, Any] = {
        "chunk_id": chunk_id,
        "document_id": f"d{chunk_id}",
        "document": f"leave/document-{chunk_id}.md",
        "title": "Leave",
        "collection": "company",
        "collection_is_open": True,
        "heading": "Annual leave",
        "page": None,
        "text": text,
        "start": 100 * chunk_id,
        "end": 100 * chunk_id + len(text),
        "score": 1.0 / chunk_id,
        "similarity": 0.6,
        "rank": chunk_id,
    }
    return Passage(**{**values, **changes})


class FixedRetriever:
    """Implements `Retriever` with the same passages for every question."""

    version = "fixed"

    def __init__(self, *passages: Passage, then: Callable[[str], None] = lambda _: None) -> None:
        self.passages = list(passages)
        self.questions: list[str] = []
        self._then = then

    def retrieve(
        self, question: str, reader: Reader, *, collections: Sequence[str] | None = None, top_k: int = 8
    ) -> list[Passage]:
        """The passages, cut to `top_k`."""
        self.questions.append(question)
        self._then(question)
        return self.passages[:top_k]
