"""Conversations: dialogues of one person with Tacit. Knows nothing of how answers come about.

Different from most chat stores: there is no way to name a conversation without naming whose it is. Every call takes the user's id
and looks for both together, so that a guessed or leaked conversation id opens nothing, and another person's conversation can not be
told from one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from chatbot import tables
from chatbot.erasure import DOCUMENT_GONE
from chatbot.prompt import Message, strip_citations
from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import NotFoundError, UsageError

MAX_TITLE_CHARACTERS = 120
_TITLE_FROM_QUESTION = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A dialogue's cover sheet."""

    id: str
    user_id: str
    title: str
    """Empty until the first question names it."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One utterance of a conversation, as shown."""

    id: int
    role: Literal["user", "assistant"]
    content: str
    answer_id: str | None
    """The answer an assistant message shows."""
    replaced_at: datetime | None
    """When a newer answer to the same question took its place; None for what is in sight."""
    created_at: datetime


class ConversationStore:
    """Keeps conversations. Every method raises NotFoundError for a conversation that is not this user's, or was deleted."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._clock = clock

    def create(self, user_id: str, title: str = "") -> Conversation:
        """Start a conversation.

        Raises:
            UsageError: the title is too long.
        """
        at = self._clock()
        conversation = Conversation(
            id=new_id(), user_id=user_id, title=_check_title(title), created_at=at, updated_at=at
        )
        with self._db.write() as connection:
            connection.execute(
                sa.insert(tables.conversations).values(
                    id=conversation.id,
                    user_id=user_id,
                    title=conversation.title,
                    created_at=at,
                    updated_at=at,
                )
            )
        return conversation

    def list(
        self, user_id: str, *, search: str = "", limit: int = 100, offset: int = 0
    ) -> Sequence[Conversation]:
        """This user's conversations, the one used last first.

        Args:
            user_id: Whose.
            search: Only those with this text in the title, ignoring case.
            limit: At most this many.
            offset: Leave out this many first.
        """
        c = tables.conversations.c
        conditions = [c.user_id == user_id, c.deleted_at.is_(None)]
        if search.strip():
            conditions.append(c.title.icontains(search.strip(), autoescape=True))
        order = (c.updated_at.desc(), c.id)
        statement = sa.select(tables.conversations).where(*conditions).order_by(*order)
        with self._db.read() as connection:
            rows = connection.execute(statement.limit(limit).offset(offset)).all()
        return [_conversation(row) for row in rows]

    def get(self, user_id: str, conversation_id: str) -> Conversation:
        """One of this user's conversations."""
        with self._db.read() as connection:
            return _conversation(_own(connection, user_id, conversation_id))

    def rename(self, user_id: str, conversation_id: str, title: str) -> Conversation:
        """Give a conversation another title.

        Raises:
            UsageError: the title is empty or too long.
        """
        if not title.strip():
            raise UsageError("a conversation's title can not be empty")
        checked = _check_title(title)
        with self._db.write() as connection:
            _own(connection, user_id, conversation_id)
            _change(connection, conversation_id, title=checked)
            return _conversation(_own(connection, user_id, conversation_id))

    def delete(self, user_id: str, conversation_id: str) -> None:
        """Take a conversation out of sight; `purge_deleted` removes it for good."""
        with self._db.write() as connection:
            _own(connection, user_id, conversation_id)
            _change(connection, conversation_id, deleted_at=self._clock())

    def purge_deleted(self, older_than: timedelta) -> int:
        """Remove for good what was deleted at least so long ago. Returns how many conversations went."""
        c = tables.conversations.c
        before = self._clock() - older_than
        with self._db.write() as connection:
            return connection.execute(sa.delete(tables.conversations).where(c.deleted_at <= before)).rowcount

    def append_question(self, user_id: str, conversation_id: str, question: str) -> StoredMessage:
        """Keep a question before it is answered, so that a crash loses no typed text. The first one names the conversation."""
        with self._db.write() as connection:
            row = _own(connection, user_id, conversation_id)
            title = row.title or _title_from(question)
            _change(connection, conversation_id, title=title, updated_at=self._clock())
            return self._append(connection, conversation_id, "user", question, None)

    def append_answer(
        self, user_id: str, conversation_id: str, text: str, answer_id: str | None
    ) -> StoredMessage:
        """Keep what was shown in answer to the last question (also a stopped, partial answer)."""
        with self._db.write() as connection:
            _own(connection, user_id, conversation_id)
            _change(connection, conversation_id, updated_at=self._clock())
            return self._append(connection, conversation_id, "assistant", text, answer_id)

    def append_turn(
        self, user_id: str, conversation_id: str, question: str, text: str, answer_id: str | None
    ) -> tuple[StoredMessage, StoredMessage]:
        """Keep a question and its answer together, in one transaction."""
        with self._db.write() as connection:
            row = _own(connection, user_id, conversation_id)
            title = row.title or _title_from(question)
            _change(connection, conversation_id, title=title, updated_at=self._clock())
            asked = self._append(connection, conversation_id, "user", question, None)
            return asked, self._append(connection, conversation_id, "assistant", text, answer_id)

    def regenerate(
        self, user_id: str, conversation_id: str, text: str, answer_id: str | None
    ) -> StoredMessage:
        """Put a new answer in the last one's place; the earlier one stays, out of sight, with the judgements of it.

        Raises:
            UsageError: the conversation does not end with an answer.
        """
        messages, at = tables.messages, self._clock()
        with self._db.write() as connection:
            _own(connection, user_id, conversation_id)
            _change(
                connection, conversation_id, updated_at=at
            )  # holds off others who regenerate at the same time
            last = connection.execute(
                _visible(conversation_id).order_by(messages.c.id.desc()).limit(1)
            ).first()
            if last is None or last.role != "assistant":
                raise UsageError("there is no answer to write again: ask a question first")
            connection.execute(sa.update(messages).where(messages.c.id == last.id).values(replaced_at=at))
            return self._append(connection, conversation_id, "assistant", text, answer_id)

    def messages(
        self, user_id: str, conversation_id: str, *, with_replaced: bool = False
    ) -> Sequence[StoredMessage]:
        """The conversation's messages, oldest first; replaced answers only when asked for."""
        messages = tables.messages
        chosen = _visible(conversation_id)
        if with_replaced:
            chosen = sa.select(messages).where(messages.c.conversation_id == conversation_id)
        with self._db.read() as connection:
            _own(connection, user_id, conversation_id)
            rows = connection.execute(chosen.order_by(messages.c.id)).all()
        return [_message(row) for row in rows]

    def history(
        self, user_id: str, conversation_id: str, *, max_turns: int = 6, without_last: bool = False
    ) -> tuple[Sequence[Message], Sequence[str]]:
        """The last answered turns, for the next prompt.

        Args:
            user_id: Whose.
            conversation_id: Which.
            max_turns: At most this many turns.
            without_last: Leave out the last answered turn: it is about to be answered again.

        Returns:
            The messages, oldest first, without citation marks (their numbers mean nothing in the next prompt); and the ids of the
            answers among them, which `AnswerStore.save` wants to know.
        """
        turns: list[tuple[StoredMessage, StoredMessage]] = []
        asked: StoredMessage | None = None
        for message in self.messages(user_id, conversation_id):
            if message.role == "user":
                asked = message
            elif asked is not None:
                turns.append((asked, message))
                asked = None
        end = len(turns) - without_last
        kept = turns[max(0, end - max_turns) : max(0, end)]
        history = [
            Message(role=message.role, content=strip_citations(message.content))
            for turn in kept
            for message in turn
        ]
        return history, [answer.answer_id for _, answer in kept if answer.answer_id is not None]

    def export(self, user_id: str) -> Iterator[dict[str, Any]]:
        """All of this user's conversations as JSON objects, newest first: `{"id", "title", "created_at", "messages": [...]}`."""
        offset, page = 0, 100
        while conversations := self.list(user_id, limit=page, offset=offset):
            for conversation in conversations:
                yield {
                    "id": conversation.id,
                    "title": conversation.title,
                    "created_at": conversation.created_at.isoformat(),
                    "messages": [_exported(m) for m in self.messages(user_id, conversation.id)],
                }
            offset += page

    def _append(
        self, connection: Connection, conversation_id: str, role: str, content: str, answer_id: str | None
    ) -> StoredMessage:
        messages = tables.messages
        if answer_id is not None and _has_lost_its_text(connection, answer_id):
            content = DOCUMENT_GONE
        added = connection.execute(
            sa.insert(messages)
            .values(
                conversation_id=conversation_id,
                role=role,
                content=_storable(content),
                answer_id=answer_id,
                created_at=self._clock(),
            )
            .returning(messages)
        ).one()
        return _message(added)


def _has_lost_its_text(connection: Connection, answer_id: str) -> bool:
    # Its document may have been deleted between the writing of the answer and this message of it.
    answers = tables.answers
    statement = sa.select(answers.c.text).where(answers.c.id == answer_id).with_for_update(read=True)
    return connection.execute(statement).scalar_one_or_none() == DOCUMENT_GONE


def _own(connection: Connection, user_id: str, conversation_id: str) -> Row[Any]:
    c = tables.conversations.c
    row = connection.execute(
        sa.select(tables.conversations).where(
            c.id == conversation_id, c.user_id == user_id, c.deleted_at.is_(None)
        )
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no conversation {conversation_id[:80]!r}: it may have been deleted")
    return row


def _change(connection: Connection, conversation_id: str, **values: object) -> None:
    c = tables.conversations.c
    connection.execute(sa.update(tables.conversations).where(c.id == conversation_id).values(**values))


def _visible(conversation_id: str) -> sa.Select[Any]:
    messages = tables.messages
    return sa.select(messages).where(
        messages.c.conversation_id == conversation_id, messages.c.replaced_at.is_(None)
    )


def _check_title(title: str) -> str:
    folded = " ".join(_storable(title).split())
    if len(folded) > MAX_TITLE_CHARACTERS:
        raise UsageError(
            f"a conversation's title has at most {MAX_TITLE_CHARACTERS} characters, this one has {len(folded)}"
        )
    return folded


def _title_from(question: str) -> str:
    folded = " ".join(_storable(question).split())
    if len(folded) <= _TITLE_FROM_QUESTION:
        return folded
    return folded[:_TITLE_FROM_QUESTION].rsplit(" ", 1)[0] + "…"


def _storable(text: str) -> str:
    """The text without what databases refuse: null characters and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def _conversation(row: Row[Any]) -> Conversation:
    return Conversation(
        id=row.id,
        user_id=row.user_id,
        title=row.title,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _message(row: Row[Any]) -> StoredMessage:
    return StoredMessage(
        id=row.id,
        role=row.role,
        content=row.content,
        answer_id=row.answer_id,
        replaced_at=row.replaced_at,
        created_at=row.created_at,
    )


def _exported(message: StoredMessage) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        "answer_id": message.answer_id,
        "created_at": message.created_at.isoformat(),
    }
