"""The chat page: places the pieces and connects their acts to handlers. No logic of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from chatbot.records import User
from knowledge_base.errors import NotFoundError
from ui import chat_handlers, chat_turns
from ui.chat_view import render_live, render_stop
from ui.fragments import Act, notice, read_act
from ui.look import PRODUCT, header_bar, live_html, notice_html
from ui.page_guard import attempt, explain, signed_in

if TYPE_CHECKING:
    from ui.wiring import Services

Update = Any
"""A component's new value, or `gr.skip()` to leave it."""
_PRIVATE: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    # A rating given while an answer is being written must not be dropped.
    "trigger_mode": "multiple",
}
_OPENED = "() => [new URLSearchParams(location.search).get('c') || '']"


class _ChatEvents:
    """The page's events. Each finds the person, reads the act, calls a handler, and says what to show."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.turns = chat_turns.RunningTurns()

    def load(self, opened: str, request: gr.Request) -> tuple[Update, ...]:
        """-> header, side, transcript, composer, conversation, notices."""
        user = signed_in(self.services, request.username)
        shown, _ = attempt(lambda: chat_handlers.show_conversation(self.services, user, opened))
        if shown is None:  # a bookmark of a conversation that is gone
            opened, shown = "", chat_handlers.show_conversation(self.services, user, "")
        side = chat_handlers.show_side(self.services, user, opened)
        composer = chat_handlers.show_composer(self.services, user)
        return header_bar(user, "/chat/", menu=True), side, shown, composer, opened, ""

    def on_side(self, event: gr.EventData, conversation_id: str, request: gr.Request) -> tuple[Update, ...]:
        """-> conversation, side, transcript, live, stop, notices."""
        done, problem = attempt(lambda: self._side(event, conversation_id, request))
        return done if done is not None else (*[gr.skip()] * 5, problem)

    def _side(self, event: gr.EventData, conversation_id: str, request: gr.Request) -> tuple[Update, ...]:
        user, act = self._caller(event, request)
        services, target = self.services, act.text("id")
        if act.name in ("start-rename", "search"):
            renaming = target if act.name == "start-rename" else ""
            side = chat_handlers.show_side(
                services, user, conversation_id, renaming=renaming, search=act.text("search")
            )
            return (gr.skip(), side, *[gr.skip()] * 3, "")
        if act.name == "rename":
            services.conversations.rename(user.id, target, act.text("title"))
            return (gr.skip(), chat_handlers.show_side(services, user, conversation_id), *[gr.skip()] * 3, "")
        message = ""
        if act.name == "delete":
            self.turns.stop(user.id, target, left=True)
            services.conversations.delete(user.id, target)
            message = notice("The conversation is deleted.")
            target = "" if target == conversation_id else conversation_id
        if target != conversation_id or act.name == "new":
            self.turns.stop(user.id, conversation_id, left=True)
        target = "" if act.name == "new" else target
        side = chat_handlers.show_side(services, user, target)
        return target, side, chat_handlers.show_conversation(services, user, target), "", "", message

    def on_act(
        self, event: gr.EventData, conversation_id: str, request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        """-> conversation, side, transcript, live, stop, notices; several times while an answer is written."""
        called, problem = attempt(lambda: self._caller(event, request))
        if called is None:
            yield (*[gr.skip()] * 5, problem)
            return
        user, act = called
        if act.name in ("ask", "again"):
            yield from self._turn(user, act, conversation_id)
            return
        judged, problem = attempt(lambda: chat_handlers.judge(self.services, user, act))
        if judged is None:
            yield (*[gr.skip()] * 5, problem)
            return
        panel, message = judged
        shown = chat_handlers.show_conversation(self.services, user, conversation_id, panel)
        yield gr.skip(), gr.skip(), shown, gr.skip(), gr.skip(), notice(message)

    def _turn(self, user: User, act: Act, conversation_id: str) -> Iterator[tuple[Update, ...]]:
        services = self.services
        if act.name == "ask":
            steps = chat_turns.ask(
                services, self.turns, user, conversation_id, act.text("question"), act.texts("collections")
            )
        else:
            steps = chat_turns.ask_again(services, self.turns, user, conversation_id)
        try:
            for step in steps:
                conversation_id = step.conversation_id
                if step.phase == "asked":
                    side = chat_handlers.show_side(services, user, conversation_id)
                    before = chat_handlers.show_conversation(services, user, conversation_id, unfinished=True)
                    yield (
                        conversation_id,
                        side,
                        before,
                        render_live(step.question, ""),
                        render_stop(conversation_id),
                        "",
                    )
                elif step.phase == "writing":
                    yield (*[gr.skip()] * 3, render_live(step.question, step.text), gr.skip(), gr.skip())
                elif not step.left:
                    shown = chat_handlers.show_conversation(services, user, conversation_id)
                    yield gr.skip(), gr.skip(), shown, "", "", gr.skip()
        except Exception as error:  # noqa: BLE001 -- the edge of the product: a page shows a line, never a traceback
            yield self._failed(user, conversation_id, explain(error))

    def _failed(self, user: User, conversation_id: str, problem: str) -> tuple[Update, ...]:
        try:
            shown = chat_handlers.show_conversation(self.services, user, conversation_id)
        except NotFoundError:  # deleted while the answer was being written
            conversation_id, shown = "", chat_handlers.show_conversation(self.services, user, "")
        return conversation_id, gr.skip(), shown, "", "", problem

    def on_stop(self, event: gr.EventData, request: gr.Request) -> Update:
        """-> stop."""
        done, _ = attempt(lambda: self._caller(event, request))
        if done is not None:
            user, act = done
            self.turns.stop(user.id, act.text("conversation"))
        return ""

    def _caller(self, event: gr.EventData, request: gr.Request) -> tuple[User, Act]:
        return signed_in(self.services, request.username), read_act(event.act, event.fields)


def build_chat_page(services: Services) -> gr.Blocks:
    """The page on the given services."""
    events = _ChatEvents(services)
    with gr.Blocks(title=f"{PRODUCT} · Chat", analytics_enabled=False) as page:
        conversation = gr.State("")
        opened = gr.Textbox(visible=False)
        header = live_html("t-header")
        notices = notice_html()
        side = live_html("t-side")
        gr.HTML("<div id='t-shade'></div>", apply_default_css=False)
        with gr.Column(elem_id="t-chat"):
            transcript = live_html(
                "t-transcript",
                script="tacit.attach(element, trigger, watch); tacit.showTranscript(element, watch)",
            )
            live = live_html("t-live", script="tacit.follow(element, watch)")
        with gr.Column(elem_id="t-dock"):
            stop = live_html("t-stop")
            composer = live_html("t-composer")
        shown = [conversation, side, transcript, live, stop, notices]
        page.load(
            events.load,
            opened,
            [header, side, transcript, composer, conversation, notices],
            js=_OPENED,
            **_PRIVATE,
        )
        side.click(events.on_side, conversation, shown, **_PRIVATE)
        stop.click(events.on_stop, None, stop, **_PRIVATE)
        for source in (transcript, composer):
            source.click(events.on_act, conversation, shown, concurrency_limit=32, **_PRIVATE)
    return page
