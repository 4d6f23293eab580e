"""The cast of the chatbot's tests: Alice asks, Bob is a stranger to her answers; and answers made up whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from chatbot.accounts import Accounts
from chatbot.passwords import Passwords, PasswordSettings
from chatbot.records import Answer, Citation, EvidenceSentence, GroundingReport, PreparedTurn, Sampling, User
from knowledge_base.database import Database, new_id
from knowledge_base.records import Passage

DOCUMENTS = ("d1", "d2", "d9", "secret")
"""That the database of the tests knows."""
START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.at

    def advance(self, **amount: float) -> None:
        """Move on, by `timedelta` arguments."""
        self.at += timedelta(**amount)


def quick_passwords() -> Passwords:
    """argon2id with the least work it takes."""
    return Passwords(PasswordSettings(iterations=1, memory_kib=8, lanes=1))


def add_user(db: Database, name: str = "alice") -> User:
    """An employee without a password."""
    return Accounts(db).add(name, groups=["staff"])


def make_passage(document_id: str = "d1", *, is_open: bool = True) -> Passage:
    """A passage about leave."""
    return Passage(
        chunk_id=7,
        document_id=document_id,
        document="leave/annual.md",
        title="Annual leave",
        collection="handbook",
        collection_is_open=is_open,
        heading="Days",
        page=None,
        text="You get 25 days. Ask early.",
        start=100,
        end=127,
        score=0.5,
        similarity=0.75,
        rank=1,
    )


def make_answer(question: str = "How many days of leave?", **changes: Any) -> Answer:
    """An answer with every field filled; `evidence_from` names the passages it rests on."""
    passages: Sequence[Passage] = changes.pop("evidence_from", [make_passage()])
    evidence = [
        EvidenceSentence(
            number=number,
            text="You get 25 days.",
            heading="Annual leave > Days",
            similarity=0.625,
            start=100,
            end=116,
            passage=passage,
        )
        for number, passage in enumerate(passages, start=1)
    ]
    prepared = PreparedTurn(
        question=question,
        search_text=question,
        passages=passages,
        evidence=evidence,
        messages=(),
        answerable=True,
        support=0.5,
        versions={"index": "1", "retriever": "hybrid-1", "prompt": "1"},
    )
    values: dict[str, Any] = {
        "id": new_id(),
        "question": question,
        "text": "You get 25 days [1].",
        "abstained": False,
        "citations": (make_citation(),),
        "policy_id": "base",
        "completion": "You get 25 days [2].",
        "prompt": f"Question: {question}\nAnswer:",
        "logprob": -3.5,
        "sampling": Sampling(temperature=0.5, seed=3),
        "grounding": GroundingReport(n_sentences=2, n_supported=1, dropped=("It is sunny.",)),
        "prepared": prepared,
        "seconds_to_first_token": 0.25,
        "seconds": 1.5,
        "created_at": START,
    }
    return Answer(**{**values, **changes})


def make_citation() -> Citation:
    """A citation of the passage about leave."""
    return Citation(
        number=1,
        document_id="d1",
        document="leave/annual.md",
        title="Annual leave",
        heading="Days",
        page=None,
        text="You get 25 days.",
        start=100,
        end=116,
        chunk_id=7,
    )
