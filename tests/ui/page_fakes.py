"""Services for page tests: a real home on SQLite with a real index, a word-counting embedder, and scripted policies."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chatbot.prompt import REFUSAL, Message, render_prompt
from chatbot.protocols import Delta
from chatbot.records import Completion, PolicyVersion, Sampling, User
from knowledge_base.database import now
from knowledge_base.properties import set_property
from tests.fakes import FakeEmbedder
from ui.fragments import Act
from ui.wiring import Services, open_services

PASSWORD = "correct horse battery"
DOCUMENTS = {
    "leave.md": "# Annual leave\n\nEvery employee gets 25 days of annual leave each year.\n\n"
    "Up to 5 days of annual leave can be carried over into the next year.\n",
    "travel.md": "# Travel\n\nThe hotel limit in London is 180 pounds per night.\n\n"
    "Rail travel under four hours is second class.\n",
}
STARTERS = ("How many days of annual leave do I get?", "What is the hotel limit in London?")
RESTRICTED = {"pay.md": "# Pay bands\n\nThe middle of pay band T3 is 52000 euros per year.\n"}


class QuotingGenerator:
    """Answers with evidence sentences and their marks; which one depends on policy and seed, so that samples differ."""

    context_tokens = 2_000
    evidence_order = None

    def __init__(self, policy_id: str = "base", *, offset: int = 0, delay_seconds: float = 0.0) -> None:
        self.policy_id = policy_id
        self._offset = offset
        self._delay = delay_seconds
        self._drawn = 0
        self.started = threading.Event()

    def count_tokens(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def render(self, messages: Sequence[Message]) -> str:
        """Labelled lines."""
        return render_prompt(None, messages)

    def generate(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Completion]:
        """One quote a prompt."""
        return [self._complete(messages, sampling) for messages in prompts]

    def stream(
        self, messages: Sequence[Message], sampling: Sampling, stop: threading.Event
    ) -> Iterator[Delta]:
        """The quote word by word."""
        whole = self._complete(messages, sampling)
        written = ""
        self.started.set()
        for piece in re.findall(r"\s*\S+", whole.text):
            if stop.is_set():
                break
            if self._delay:
                time.sleep(self._delay)
            written += piece
            yield Delta(text=piece)
        done = written == whole.text
        yield Delta(text="", completion=Completion(text=written, token_ids=(), logprob=-1.0, ended=done))

    def _complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        found = re.findall(r"^(\d+)\. ([^\n]+) \[\1\]$", messages[-1].content, re.MULTILINE)
        if not found:
            return Completion(text=REFUSAL, token_ids=(), logprob=-1.0, ended=True)
        place = self._offset
        if sampling.temperature > 0:
            place += self._drawn
            self._drawn += 1
        number, text = found[place % len(found)]
        return Completion(text=f"{text} [{number}]", token_ids=(), logprob=-1.0, ended=True)


class ScriptedPolicies:
    """Implements the assistant's `Policies`: the registry's serving policy, written by quoting generators."""

    last_error = None
    serving_id = "base"

    def __init__(self, services: Services, *, delay_seconds: float = 0.0) -> None:
        self._services = services
        self._delay = delay_seconds
        self.made: dict[str, QuotingGenerator] = {}

    def generator(self, policy_id: str | None = None) -> QuotingGenerator:
        """Of the policy asked for, or the serving one."""
        wanted = self._services.registry.get(policy_id) if policy_id else self._services.registry.serving()
        offset = 1 if wanted.stage == "ppo" else 0
        return self.made.setdefault(
            wanted.id, QuotingGenerator(wanted.id, offset=offset, delay_seconds=self._delay)
        )


@contextmanager
def page_services(home: Path, *, delay_seconds: float = 0.0) -> Iterator[Services]:
    """Services on a home made by `make_home`, or a copy of one, with a fake embedder and scripted policies."""
    with open_services(home) as services:
        services.__dict__["embedder"] = services.__dict__["evidence_embedder"] = FakeEmbedder()
        services.__dict__["answer_judge"] = None
        services.__dict__["serving"] = ScriptedPolicies(services, delay_seconds=delay_seconds)
        yield services


def make_home(home: Path) -> Path:
    """A home with two collections: two documents open to all and one for the group `hr`."""
    with open_services(home, create=True) as services:
        services.__dict__["embedder"] = services.__dict__["evidence_embedder"] = FakeEmbedder()
        services.__dict__["answer_judge"] = None
        _ingest(services, home, "handbook", DOCUMENTS, None)
        _ingest(services, home, "hr-files", RESTRICTED, ["hr"])
        with services.db.write() as connection:
            set_property(connection, "starters", "\n".join(STARTERS))
    return home


def _ingest(
    services: Services, home: Path, name: str, texts: dict[str, str], groups: list[str] | None
) -> None:
    services.knowledge.create_collection(name, title=name.title(), owner="People Operations", groups=groups)
    folder = home.parent / f"{home.name}-{name}"
    folder.mkdir()
    for path, text in texts.items():
        (folder / path).write_text(text, "utf-8")
    report = services.ingestor.ingest([folder], name)
    assert not report.failed


def add_user(services: Services, name: str, role: str = "employee", groups: Sequence[str] = ()) -> User:
    """An account without a password: handlers are called directly."""
    return services.accounts.add(name, role=role, groups=groups)


def add_policy(services: Services, policy_id: str, **changes: Any) -> PolicyVersion:
    """A candidate beside the base model."""
    values: dict[str, Any] = {
        "id": policy_id,
        "stage": "ppo",
        "state": "candidate",
        "parent": "base",
        "path": f"/policies/{policy_id}",
        "created_at": now(),
        "metrics": {"objective/kl": 1.5},
        "gates": (
            {
                "name": "win_rate",
                "passed": True,
                "value": 0.6,
                "threshold": 0.5,
                "why": "wins 60% of 50 comparisons",
            },
        ),
        "manifest": {},
    }
    services.registry.add(PolicyVersion(**{**values, **changes}))
    return services.registry.get(policy_id)


def act(name: str, /, **fields: str | list[str]) -> Act:
    """An act as the browser would send it."""
    return Act(name, {key: value if isinstance(value, list) else [value] for key, value in fields.items()})
