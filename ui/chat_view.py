"""The chat page's pieces: conversations beside it, the turns, the answer being written, the box to type in. Records to HTML.

Knows nothing of services or events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatbot.conversations import Conversation
from knowledge_base.records import Collection
from ui.answer_text import render_answer_text
from ui.answer_view import JudgedView, render_body, render_judging
from ui.fragments import ago, attributes, button, esc, form, icon

_SEARCH_FROM = 8
"""A search box appears from this many conversations on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnView:
    """A question and what came of it."""

    question: str
    judged: JudgedView | None = None
    text: str = ""
    """What was shown, for a message without a stored answer."""
    can_retry: bool = False
    """The question has no answer yet and is the last one."""


def render_hero(starters: Sequence[str]) -> str:
    """The empty page: what this is, and questions to begin with."""
    asked = "".join(button(question, "ask", data_question=question) for question in starters)
    suggestions = (
        f"<div class='t-starters' role='group' aria-label='Suggested questions'>{asked}</div>"
        if asked
        else ""
    )
    return (
        "<div class='t-hero' data-conversation=''><h1>What would you like to know?</h1>"
        "<p>Answers come from your company's own documents, with the place they were found. What you say about them makes the next "
        f"ones better.</p>{suggestions}</div>"
    )


def render_transcript(conversation_id: str, turns: Sequence[TurnView], owners: Mapping[str, str]) -> str:
    """All turns of a conversation."""
    body = "".join(_render_turn(turn, owners) for turn in turns)
    return f"<div data-conversation='{esc(conversation_id)}'>{body}</div>"


def _render_turn(turn: TurnView, owners: Mapping[str, str]) -> str:
    asked = f"<p class='t-question'><span class='t-sr'>You asked: </span>{esc(turn.question)}</p>"
    if turn.judged is not None:
        told = f"<div class='t-answer'>{render_body(turn.judged.answer, owners)}{render_judging(turn.judged)}</div>"
    elif turn.text:
        told = f"<div class='t-answer'><div class='t-text'>{render_answer_text(turn.text)}</div></div>"
    elif turn.can_retry:
        told = (
            "<div class='t-answer t-unknown'><p class='t-muted'>There is no answer to this yet.</p>"
            + button("Try again", "again", drawn="again", kind="small")
            + "</div>"
        )
    else:
        told = "<p class='t-muted t-unknown'>This question was left without an answer.</p>"
    return f"<section class='t-turn'>{asked}{told}</section>"


def render_live(question: str, text: str, *, show_question: bool = True) -> str:
    """The turn that is being written; the raw text is a preview, its marks are not links yet."""
    asked = f"<p class='t-question'>{esc(question)}</p>" if show_question else ""
    if text.strip():
        told = f"<div class='t-text t-caret' aria-busy='true'>{render_answer_text(text)}</div>"
    else:
        told = "<p class='t-looking' role='status'>Looking in the documents…</p>"
    return f"<section class='t-turn'>{asked}{told}</section>"


def render_stop(conversation_id: str) -> str:
    """The button that ends the writing."""
    return button("Stop", "stop", drawn="stop", data_conversation=conversation_id)


def render_side(
    conversations: Sequence[Conversation], current: str, *, renaming: str = "", search: str = ""
) -> str:
    """The list of conversations."""
    top = button("New conversation", "new", drawn="plus", kind="main", data_after="close-menu")
    if search or len(conversations) >= _SEARCH_FROM:
        box = attributes(
            name="search",
            value=search,
            type="search",
            placeholder="Search conversations",
            aria_label="Search conversations",
        )
        top += form("search", f"<input{box}>", data_live=True, data_keep=True)
    items = "".join(_render_conversation(c, current=current, renaming=renaming) for c in conversations)
    nothing = "Nothing found." if search else "Your conversations appear here."
    listed = f"<ul class='t-conversations'>{items}</ul>" if items else f"<p class='t-muted'>{nothing}</p>"
    return f"<nav aria-label='Conversations'><div class='t-side-top'>{top}</div>{listed}</nav>"


def _render_conversation(conversation: Conversation, *, current: str, renaming: str) -> str:
    title = conversation.title or "New conversation"
    if conversation.id == renaming:
        box = attributes(
            name="title",
            value=title,
            maxlength=120,
            required=True,
            data_autofocus=True,
            aria_label="New title",
        )
        body = f"<input{box}><button class='t-button small main'>Save</button>"
        return f"<li>{form('rename', body, data_id=conversation.id)}</li>"
    mark = " aria-current='true'" if conversation.id == current else ""
    opener = (
        f"<button class='t-open' data-act='open' data-id='{esc(conversation.id)}' data-after='close-menu' title='{esc(title)}'>"
        f"<span>{esc(title)}</span><small>{ago(conversation.updated_at)}</small></button>"
    )
    tools = button(
        "Rename", "start-rename", kind="quiet small", drawn="pen", only_icon=True, data_id=conversation.id
    )
    tools += button(
        "Delete", "delete", kind="quiet small danger", drawn="bin", only_icon=True, data_id=conversation.id,
        data_confirm=f"Delete the conversation “{title}”?", data_confirm_label="Delete",
    )  # fmt: skip
    return f"<li{mark}>{opener}<span class='t-tools'>{tools}</span></li>"


def render_composer(collections: Sequence[Collection], max_characters: int) -> str:
    """The box to type in, with a filter when there is something to choose from."""
    box = attributes(
        name="question", rows=1, required=True, maxlength=max_characters, placeholder="Ask a question", aria_label="Your question",
        data_enter=True, data_clear=True, data_autofocus=True,
    )  # fmt: skip
    send = f"<button class='t-button main icon' aria-label='Ask' title='Ask (Enter)'>{icon('send')}</button>"
    chooser = _render_filter(collections) if len(collections) > 1 else ""
    css = "t-composer" if chooser else "t-composer plain"
    body = f"<div class='{css}'><textarea{box}></textarea><div class='t-line'>{chooser}{send}</div></div>"
    foot = "<p class='t-foot'>Tacit can be wrong. Open the sources before you rely on an answer.</p>"
    return form("ask", body, data_keep=True) + foot


def _render_filter(collections: Sequence[Collection]) -> str:
    boxes = "".join(
        f"<label><input type='checkbox' name='collections' value='{esc(c.name)}'>{esc(c.title)}</label>"
        for c in collections
    )
    return (
        f"<details class='t-filter' data-popup><summary>{icon('funnel')}Where to look</summary>"
        f"<div class='t-menu' role='group' aria-label='Look only in'>{boxes}</div></details>"
    )
