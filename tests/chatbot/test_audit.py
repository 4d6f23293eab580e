"""The audit trail exists with the act, and holds no secrets."""

from __future__ import annotations

import pytest

from chatbot.audit import AuditLog
from knowledge_base.database import Database
from tests.chatbot.cast import START, Clock, quick_passwords


@pytest.fixture
def audit(db: Database, clock: Clock) -> AuditLog:
    """The trail under test."""
    return AuditLog(db, clock=clock)


def test_events_come_back_newest_first(audit: AuditLog) -> None:
    """With who, what, when and the detail."""
    audit.record("olga", "user.add", "alice", role="ops")
    audit.record("olga", "policy.promote", "ppo-1")

    newest, oldest = audit.list()

    assert ("policy.promote", {}) == (newest.action, newest.detail)
    assert ("olga", "user.add", "alice", {"role": "ops"}, START) == (
        oldest.actor,
        oldest.action,
        oldest.subject,
        oldest.detail,
        oldest.at,
    )


def test_a_filter_takes_one_verb_or_all_of_a_thing(audit: AuditLog) -> None:
    """`user` is not `user_group`."""
    for action in ("user.add", "user.disable", "user_group.add"):
        audit.record("olga", action, "x")

    assert ["user.disable", "user.add"] == [event.action for event in audit.list(action="user")]
    assert ["user.add"] == [event.action for event in audit.list(action="user.add")]
    assert (1, []) == (len(audit.list(1)), list(audit.list(actor="bob")))


def test_an_event_shares_the_fate_of_its_transaction(audit: AuditLog, db: Database) -> None:
    """Undone with the act."""

    def act() -> None:
        with db.write() as connection:
            audit.record("olga", "user.add", "alice", connection=connection)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        act()

    assert audit.list() == []


def test_secrets_are_refused(audit: AuditLog) -> None:
    """By the detail's name or by its looks."""
    for detail in (
        {"password": "x"},
        {"session_token": "x"},
        {"note": "tacit_" + "a" * 43},
        {"note": [quick_passwords().hash("correct horse")]},
    ):
        with pytest.raises(ValueError, match="secret"):
            audit.record("olga", "user.add", "alice", **detail)
    audit.record("olga", "train.sft", "run", n_tokens=5, key="0123")

    assert len(audit.list()) == 1


def test_a_forgotten_name_is_one_pseudonym_everywhere(audit: AuditLog, db: Database) -> None:
    """As typed at sign-in too; what others did to other things stays, a collection of that name included."""
    audit.record("Alice", "sign_in", "session")
    audit.record("olga", "rater.review", "alice", note="clicks at random")
    audit.record("alice", "collection.create", "alice", owner="Legal")

    with db.write() as connection:
        audit.forget_name("alice", "deleted-1", connection=connection)

    made, reviewed, signed_in = audit.list()
    assert ("deleted-1", "alice", {"owner": "Legal"}) == (made.actor, made.subject, made.detail)
    assert ("olga", "deleted-1", {}) == (reviewed.actor, reviewed.subject, reviewed.detail)
    assert "deleted-1" == signed_in.actor
