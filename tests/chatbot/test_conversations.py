"""Conversations belong to one person, in every call."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chatbot.conversations import ConversationStore
from chatbot.prompt import Message
from chatbot.records import User
from knowledge_base.database import Database
from knowledge_base.errors import NotFoundError, UsageError
from tests.chatbot.cast import Clock, add_user


@pytest.fixture
def conversations(db: Database, clock: Clock) -> ConversationStore:
    """The store under test."""
    return ConversationStore(db, clock=clock)


@pytest.fixture
def alice(db: Database) -> User:
    """Who asks."""
    return add_user(db)


OWNED_CALLS: dict[str, Callable[[ConversationStore, str, str], Any]] = {
    "get": lambda store, user, c: store.get(user, c),
    "rename": lambda store, user, c: store.rename(user, c, "Mine"),
    "delete": lambda store, user, c: store.delete(user, c),
    "append_question": lambda store, user, c: store.append_question(user, c, "?"),
    "append_answer": lambda store, user, c: store.append_answer(user, c, "!", None),
    "append_turn": lambda store, user, c: store.append_turn(user, c, "?", "!", None),
    "regenerate": lambda store, user, c: store.regenerate(user, c, "!", None),
    "messages": lambda store, user, c: store.messages(user, c),
    "history": lambda store, user, c: store.history(user, c),
}


def test_every_public_call_is_checked_below() -> None:
    """A new method must be added to the table of calls (or to the ones that name no conversation)."""
    public = {name for name in vars(ConversationStore) if not name.startswith("_")}

    assert public == OWNED_CALLS.keys() | {"create", "list", "export", "purge_deleted"}


@pytest.mark.parametrize("call", OWNED_CALLS)
def test_another_persons_conversation_is_not_found(
    conversations: ConversationStore, db: Database, alice: User, call: str
) -> None:
    """The message is that of a conversation that does not exist, and nothing changed."""
    bob = add_user(db, "bob")
    theirs = conversations.create(alice.id)
    conversations.append_turn(alice.id, theirs.id, "How many days?", "25.", None)
    before = (conversations.get(alice.id, theirs.id), conversations.messages(alice.id, theirs.id))

    with pytest.raises(NotFoundError) as real:
        OWNED_CALLS[call](conversations, bob.id, theirs.id)
    with pytest.raises(NotFoundError) as made_up:
        OWNED_CALLS[call](conversations, bob.id, "0" * 32)

    assert str(real.value).replace(theirs.id, "") == str(made_up.value).replace("0" * 32, "")
    assert before == (conversations.get(alice.id, theirs.id), conversations.messages(alice.id, theirs.id))
    assert conversations.list(bob.id) == []


def test_the_first_question_names_the_conversation(conversations: ConversationStore, alice: User) -> None:
    """Later ones do not; long ones are cut at a word."""
    conversation = conversations.create(alice.id)
    conversations.append_question(alice.id, conversation.id, "How many days\n of leave " + "and more " * 20)
    conversations.append_question(alice.id, conversation.id, "And sick leave?")

    title = conversations.get(alice.id, conversation.id).title
    assert title.startswith("How many days of leave and more")
    assert title.endswith("more…")


def test_the_list_is_newest_used_first_and_searchable(
    conversations: ConversationStore, alice: User, clock: Clock
) -> None:
    """A percent sign is a character like any other."""
    old = conversations.create(alice.id, "100% leave")
    clock.advance(minutes=1)
    new = conversations.create(alice.id, "Travel")
    assert [new.id, old.id] == [c.id for c in conversations.list(alice.id)]

    clock.advance(minutes=1)
    conversations.append_question(alice.id, old.id, "?")

    assert [old.id, new.id] == [c.id for c in conversations.list(alice.id)]
    assert [old.id] == [c.id for c in conversations.list(alice.id, search="0% LEAVE")]
    assert conversations.list(alice.id, search="%travel") == []


def test_a_deleted_conversation_is_gone_from_sight_and_later_for_good(
    conversations: ConversationStore, alice: User, clock: Clock
) -> None:
    """Purging leaves the freshly deleted alone."""
    conversation = conversations.create(alice.id)
    conversations.delete(alice.id, conversation.id)

    with pytest.raises(NotFoundError):
        conversations.get(alice.id, conversation.id)
    assert conversations.purge_deleted(timedelta(days=30)) == 0
    clock.advance(days=30)
    assert conversations.purge_deleted(timedelta(days=30)) == 1


def test_regenerating_keeps_the_earlier_answer_out_of_sight(
    conversations: ConversationStore, alice: User, clock: Clock
) -> None:
    """It is marked with the time it was replaced."""
    conversation = conversations.create(alice.id)
    conversations.append_turn(alice.id, conversation.id, "How many?", "24.", None)

    conversations.regenerate(alice.id, conversation.id, "25.", None)

    shown = conversations.messages(alice.id, conversation.id)
    everything = conversations.messages(alice.id, conversation.id, with_replaced=True)
    assert ["How many?", "25."] == [m.content for m in shown]
    assert [None, clock.at, None] == [m.replaced_at for m in everything]


def test_there_must_be_an_answer_to_regenerate(conversations: ConversationStore, alice: User) -> None:
    """Not after a question alone."""
    conversation = conversations.create(alice.id)
    conversations.append_question(alice.id, conversation.id, "How many?")

    with pytest.raises(UsageError, match="ask a question"):
        conversations.regenerate(alice.id, conversation.id, "25.", None)


def test_history_holds_answered_turns_without_citation_marks(
    conversations: ConversationStore, alice: User
) -> None:
    """The newest turns, oldest first; a question still waiting is not part of it."""
    conversation = conversations.create(alice.id)
    for number in range(3):
        conversations.append_turn(
            alice.id, conversation.id, f"Question {number}?", f"Yes {number} [1].", None
        )
    conversations.append_question(alice.id, conversation.id, "Waiting?")

    messages, _ = conversations.history(alice.id, conversation.id, max_turns=1)
    earlier, _ = conversations.history(alice.id, conversation.id, without_last=True)

    assert [
        Message(role="user", content="Question 2?"),
        Message(role="assistant", content="Yes 2."),
    ] == messages
    assert ["Question 0?", "Question 1?"] == [m.content for m in earlier if m.role == "user"]


def test_export_gives_everything_in_sight(conversations: ConversationStore, alice: User) -> None:
    """One object a conversation, ready for JSON."""
    conversation = conversations.create(alice.id, "Leave")
    conversations.append_turn(alice.id, conversation.id, "How many?", "25.", None)

    (exported,) = conversations.export(alice.id)
    assert ("Leave", ["How many?", "25."]) == (
        exported["title"],
        [m["content"] for m in exported["messages"]],
    )


def test_characters_no_database_takes_are_left_out(conversations: ConversationStore, alice: User) -> None:
    """Null characters and halves of surrogate pairs, which JSON can carry."""
    conversation = conversations.create(alice.id)
    message = conversations.append_question(alice.id, conversation.id, "a\x00b\ud800")

    assert message.content == "ab?"


@pytest.mark.parametrize("title", ["", "  ", "x" * 121])
def test_empty_and_overlong_titles_are_refused(
    conversations: ConversationStore, alice: User, title: str
) -> None:
    """The old one stays."""
    conversation = conversations.create(alice.id, "Leave")
    with pytest.raises(UsageError):
        conversations.rename(alice.id, conversation.id, title)

    assert conversations.get(alice.id, conversation.id).title == "Leave"
