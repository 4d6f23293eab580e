"""What the chat page's acts do, apart from asking: conversations and judgements. Plain functions on services, a person and values.

Every id comes from the browser, so each is looked up together with the person it must belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatbot.records import User
from knowledge_base.errors import UsageError
from ui.answer_view import JudgedView
from ui.chat_view import TurnView, render_composer, render_hero, render_side, render_transcript
from ui.fragments import Act

if TYPE_CHECKING:
    from ui.wiring import Services

MAX_LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPanel:
    """The panel that the last act opened: under which answer, and `rating` or `ideal`."""

    answer_id: str = ""
    name: str = ""


def show_side(
    services: Services, user: User, conversation_id: str, *, renaming: str = "", search: str = ""
) -> str:
    """The list of this person's conversations, as HTML."""
    found = services.conversations.list(user.id, search=search, limit=MAX_LISTED)
    return render_side(found, conversation_id, renaming=renaming, search=search)


def show_conversation(
    services: Services,
    user: User,
    conversation_id: str,
    panel: OpenPanel | None = None,
    *,
    unfinished: bool = False,
) -> str:
    """A conversation, or the empty page when the id is empty, as HTML.

    Args:
        services: The services.
        user: Whose.
        conversation_id: Which.
        panel: The panel to show open.
        unfinished: Leave the last turn out: it is being answered, and shown by itself.

    Raises:
        NotFoundError: the conversation is not this person's.
    """
    if not conversation_id:
        return render_hero(services.starters())
    turns = load_turns(services, user, conversation_id, panel or OpenPanel())
    return render_transcript(conversation_id, turns[:-1] if unfinished else turns, owners_for(services, user))


def show_composer(services: Services, user: User) -> str:
    """The box to type in, as HTML."""
    collections = services.knowledge.permitted_collections(user.as_reader())
    return render_composer(collections, services.settings.assistant.max_question_characters)


def owners_for(services: Services, user: User) -> dict[str, str]:
    """Whom to ask, for the collections that this person may know of."""
    return {c.name: c.owner for c in services.knowledge.permitted_collections(user.as_reader()) if c.owner}


def load_turns(services: Services, user: User, conversation_id: str, panel: OpenPanel) -> list[TurnView]:
    """The turns of a conversation with this person's judgements."""
    messages = services.conversations.messages(user.id, conversation_id)
    turns: list[TurnView] = []
    for place, message in enumerate(messages):
        if message.role == "user":
            is_last = place == len(messages) - 1
            turns.append(TurnView(question=message.content, can_retry=is_last))
        elif turns:
            judged = None
            if message.answer_id is not None:
                is_last = place == len(messages) - 1
                judged = load_judged(services, user, message.answer_id, panel, can_regenerate=is_last)
            turns[-1] = TurnView(question=turns[-1].question, judged=judged, text=message.content)
    return turns


def load_judged(
    services: Services, user: User, answer_id: str, panel: OpenPanel, *, can_regenerate: bool = False
) -> JudgedView:
    """An answer with what this person said about it.

    Raises:
        NotFoundError: the answer was not shown to this person.
    """
    return JudgedView(
        answer=services.answers.get(answer_id, user.id),
        rating=services.feedback.get(user, "rating", answer_id),
        ideal=services.feedback.get(user, "demonstration", answer_id),
        open_panel=panel.name if panel.answer_id == answer_id else "",
        can_regenerate=can_regenerate,
    )


def judge(services: Services, user: User, act: Act) -> tuple[OpenPanel, str]:
    """Carry out an act on an answer: rate, explain, undo-rating, write-ideal, ideal, undo-ideal, close.

    Returns:
        The panel to show open, and a message for the person (empty when the page itself shows the result).

    Raises:
        FeedbackError: it was not shown to this person, or the judgement cannot be stored.
        UsageError: no such act.
    """
    answer_id = act.text("answer")
    if act.name in ("rate", "explain"):
        return _rate(services, user, answer_id, act)
    if act.name == "undo-rating":
        services.withdraw(user, "rating", answer_id)
        return OpenPanel(), "Your rating is taken back."
    if act.name == "write-ideal":
        return OpenPanel(answer_id=answer_id, name="ideal"), ""
    if act.name == "ideal":
        services.feedback.demonstrate(user, act.text("text"), answer_id=answer_id)
        return OpenPanel(), "Thank you. Tacit learns from your answer."
    if act.name == "undo-ideal":
        services.withdraw(user, "demonstration", answer_id)
        return OpenPanel(), "Your ideal answer is taken back."
    if act.name == "close":
        return OpenPanel(), ""
    raise UsageError(f"the page sent an unknown act {act.name[:40]!r}: reload it")


def _rate(services: Services, user: User, answer_id: str, act: Act) -> tuple[OpenPanel, str]:
    label = act.text("label")
    if label not in ("up", "down"):
        raise UsageError("a rating is up or down: reload the page")
    services.feedback.rate(
        user, answer_id, label == "up", reasons=act.texts("reasons"), comment=act.text("comment")
    )
    if act.name == "explain":
        return OpenPanel(), "Thank you. That is noted."
    return OpenPanel(answer_id=answer_id, name="rating"), ""
