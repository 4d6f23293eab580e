"""The compare page: places the pieces and connects their acts to handlers. No logic of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from chatbot.records import User
from ui import compare_handlers, compare_view
from ui.chat_handlers import owners_for
from ui.fragments import Act, notice, read_act
from ui.look import PRODUCT, header_bar, live_html, notice_html
from ui.page_guard import attempt, explain, signed_in

if TYPE_CHECKING:
    from ui.wiring import Services

Update = Any
"""A component's new value, or `gr.skip()` to leave it."""
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class _CompareEvents:
    """The page's events. Each finds the person, reads the act, calls a handler, and says what to show."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def load(self, request: gr.Request) -> tuple[Update, ...]:
        """-> header, lead, ask, trial, notices."""
        user = signed_in(self.services, request.username)
        return header_bar(user, "/compare/"), compare_view.render_lead(), self._ask_form(user), "", ""

    def _ask_form(self, user: User) -> str:
        services = self.services
        return compare_view.render_ask(
            compare_handlers.choosable_policies(services, user),
            services.registry.serving().id,
            services.starters(),
            services.settings.assistant.max_question_characters,
        )

    def on_act(
        self, event: gr.EventData, shown: Sequence[str], request: gr.Request
    ) -> Iterator[tuple[Update, ...]]:
        """-> ids of the answers shown, trial, notices."""
        called, problem = attempt(lambda: self._caller(event, request))
        if called is None:
            yield gr.skip(), gr.skip(), problem
            return
        user, act = called
        if act.name in ("ask", "suggest"):
            yield from self._draw(user, act)
            return
        done, problem = attempt(lambda: self._judge(user, act, shown))
        yield (
            (gr.skip(), gr.skip(), problem)
            if done is None
            else (gr.skip(), done, notice("Saved." if act.name != "undo" else "Taken back."))
        )

    def _draw(self, user: User, act: Act) -> Iterator[tuple[Update, ...]]:
        question = act.text("question")
        yield [], compare_view.render_writing(question), ""
        try:
            trial = compare_handlers.draw_trial(
                self.services,
                user,
                question,
                n_answers=compare_handlers.N_RANKED if act.text("mode") == "rank" else 2,
                wanted=[act.text("first"), act.text("second")],
            )
        except Exception as error:  # noqa: BLE001 -- the edge of the product: a page shows a line, never a traceback
            yield [], "", explain(error)
            return
        yield trial.ids, self._render(user, trial), ""

    def _judge(self, user: User, act: Act, shown: Sequence[str]) -> str:
        services = self.services
        if act.name == "verdict":
            compare_handlers.judge_pair(services, user, shown, act.text("verdict"))
        elif act.name == "rank":
            compare_handlers.judge_ranking(services, user, shown, act)
        else:
            compare_handlers.undo(services, user, shown)
        return self._render(user, compare_handlers.load_trial(services, user, shown))

    def _render(self, user: User, trial: compare_handlers.Trial) -> str:
        following = compare_handlers.next_questions(self.services, [a.question for a in trial.answers])
        return compare_view.render_trial(trial, owners_for(self.services, user), following)

    def _caller(self, event: gr.EventData, request: gr.Request) -> tuple[User, Act]:
        return signed_in(self.services, request.username), read_act(event.act, event.fields)


def build_compare_page(services: Services) -> gr.Blocks:
    """The page on the given services."""
    events = _CompareEvents(services)
    with gr.Blocks(title=f"{PRODUCT} · Compare", analytics_enabled=False) as page:
        shown = gr.State([])
        header = live_html("t-header")
        notices = notice_html()
        with gr.Column(elem_id="t-page"):
            lead = live_html("t-lead")
            ask = live_html("t-ask")
            trial = live_html("t-trial")
        page.load(events.load, None, [header, lead, ask, trial, notices], **_PRIVATE)
        for source in (ask, trial):
            source.click(events.on_act, shown, [shown, trial, notices], concurrency_limit=16, **_PRIVATE)
    return page
