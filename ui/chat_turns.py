"""Asking, stopping and asking again: one streamed turn of a conversation, kept in the database step by step.

A question is stored before anything is looked up, so that a crash loses no typed text; a stopped answer is stored as far as it was
written. Knows nothing of pages or HTML.

Different from Gradio's own cancelling: stopping sets a flag that the model's loop reads, so the partial answer is grounded, cited and
kept like any other, instead of a generator being thrown away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from chatbot.records import Answer, Sampling, User
from chatbot.turn_events import TextWritten, TurnFinished
from knowledge_base.errors import UsageError

if TYPE_CHECKING:
    from chatbot.assistant import Assistant
    from chatbot.prompt import Message
    from ui.wiring import Services

STEPS_PER_SECOND = 15
"""How often a growing answer is sent to the browser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStep:
    """Where a turn stands."""

    phase: Literal["asked", "writing", "done"]
    conversation_id: str
    question: str
    text: str = ""
    left: bool = False
    """The person went to another conversation meanwhile: what they look at now must not be replaced."""


@dataclass(slots=True)
class _Running:
    stop: threading.Event = field(default_factory=threading.Event)
    left: bool = False


class RunningTurns:
    """The turns being answered in this process: one per conversation. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: dict[tuple[str, str], _Running] = {}

    def begin(self, user_id: str, conversation_id: str) -> _Running:
        """Take the conversation's place.

        Raises:
            UsageError: an answer is being written in it.
        """
        with self._guard:
            if (user_id, conversation_id) in self._running:
                raise UsageError("an answer is being written: wait for it, or stop it first")
            return self._running.setdefault((user_id, conversation_id), _Running())

    def end(self, user_id: str, conversation_id: str) -> None:
        """Give the place back."""
        with self._guard:
            self._running.pop((user_id, conversation_id), None)

    def stop(self, user_id: str, conversation_id: str, *, left: bool = False) -> bool:
        """Ask this person's turn to stop soon. Returns whether there was one."""
        with self._guard:
            running = self._running.get((user_id, conversation_id))
            if running is None:
                return False
            running.left = running.left or left
            running.stop.set()
            return True


def ask(
    services: Services,
    turns: RunningTurns,
    user: User,
    conversation_id: str,
    question: str,
    collections: Sequence[str] = (),
) -> Iterator[TurnStep]:
    """Ask in a conversation, or in a new one when the id is empty.

    Raises:
        UsageError: the question is empty or too long, or an answer is being written there.
        NotFoundError: the conversation is not this person's, or a collection is not for them.
        GenerationError: the model cannot write; the question is kept.
    """
    question = question.strip()
    _check_question(services, question)
    if conversation_id:
        services.conversations.get(user.id, conversation_id)
    else:
        conversation_id = services.conversations.create(user.id).id
    running = turns.begin(user.id, conversation_id)
    try:
        history, earlier = _history(services, user, conversation_id)
        services.conversations.append_question(user.id, conversation_id, question)
        yield TurnStep(phase="asked", conversation_id=conversation_id, question=question)
        pieces = _Pieces(services.assistant, running.stop)
        for text in pieces.write(question, user, collections, history):
            yield TurnStep(phase="writing", conversation_id=conversation_id, question=question, text=text)
        keep = _save(services, user, pieces.answer, earlier)
        if keep is not None:
            services.conversations.append_answer(user.id, conversation_id, keep.text, keep.id)
        yield TurnStep(phase="done", conversation_id=conversation_id, question=question, left=running.left)
    finally:
        turns.end(user.id, conversation_id)


def ask_again(
    services: Services, turns: RunningTurns, user: User, conversation_id: str
) -> Iterator[TurnStep]:
    """Answer the last question once more, sampling this time; or answer it at all when the first try failed.

    Raises:
        UsageError: there is no question, or an answer is being written.
        NotFoundError: the conversation is not this person's.
    """
    messages = services.conversations.messages(user.id, conversation_id)
    asked = next((m for m in reversed(messages) if m.role == "user"), None)
    if asked is None:
        raise UsageError("there is no question to answer again: ask one first")
    has_answer = messages[-1].role == "assistant"
    running = turns.begin(user.id, conversation_id)
    try:
        history, earlier = _history(services, user, conversation_id, without_last=has_answer)
        yield TurnStep(phase="asked", conversation_id=conversation_id, question=asked.content)
        pieces = _Pieces(services.assistant, running.stop)
        # Greedy decoding would repeat itself word for word.
        sampling = services.settings.assistant.varied_sampling() if has_answer else None
        for text in pieces.write(asked.content, user, (), history, sampling):
            yield TurnStep(
                phase="writing", conversation_id=conversation_id, question=asked.content, text=text
            )
        keep = _save(services, user, pieces.answer, earlier)
        if keep is not None:
            put = services.conversations.regenerate if has_answer else services.conversations.append_answer
            put(user.id, conversation_id, keep.text, keep.id)
        yield TurnStep(
            phase="done", conversation_id=conversation_id, question=asked.content, left=running.left
        )
    finally:
        turns.end(user.id, conversation_id)


class _Pieces:
    """Runs the assistant's stream, hands out the text so far at a bearable pace, and holds the answer in the end."""

    def __init__(
        self, assistant: Assistant, stop: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._assistant = assistant
        self._stop = stop
        self._clock = clock
        self.answer: Answer | None = None

    def write(
        self,
        question: str,
        user: User,
        collections: Sequence[str],
        history: Sequence[Message],
        sampling: Sampling | None = None,
    ) -> Iterator[str]:
        written, shown_at = "", float("-inf")
        events = self._assistant.stream(
            question,
            user.as_reader(),
            collections=list(collections) or None,
            history=history,
            sampling=sampling,
            stop=self._stop,
        )
        for event in events:
            if isinstance(event, TextWritten):
                written += event.text
                if self._clock() - shown_at >= 1 / STEPS_PER_SECOND:
                    shown_at = self._clock()
                    yield written
            elif isinstance(event, TurnFinished):
                self.answer = event.answer


def _check_question(services: Services, question: str) -> None:
    limit = services.settings.assistant.max_question_characters
    if not question:
        raise UsageError("the question is empty: type one")
    if len(question) > limit:
        raise UsageError(f"the question has {len(question):,} characters; at most {limit:,}: shorten it")


def _history(
    services: Services, user: User, conversation_id: str, *, without_last: bool = False
) -> tuple[Sequence[Message], Sequence[str]]:
    max_turns = services.settings.assistant.history_turns
    if max_turns == 0:
        return [], []
    return services.conversations.history(
        user.id, conversation_id, max_turns=max_turns, without_last=without_last
    )


def _save(services: Services, user: User, answer: Answer | None, earlier: Sequence[str]) -> Answer | None:
    if answer is None or not answer.text:
        return None  # stopped before the first word: there is nothing to show or to judge
    services.answers.save(answer, user.id, "chat", earlier_answer_ids=earlier)
    return answer
