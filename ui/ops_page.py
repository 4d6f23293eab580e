"""The ops page: places the pieces and connects their acts to handlers. No logic of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from chatbot.records import User
from knowledge_base.database import now
from ui import ops_handlers, ops_view, policy_view, rater_handlers, rater_view
from ui.fragments import Act, notice, read_act
from ui.look import PRODUCT, header_bar, live_html, notice_html
from ui.page_guard import attempt, signed_in

if TYPE_CHECKING:
    from ui.wiring import Services

Update = Any
"""A component's new value, or `gr.skip()` to leave it."""
POLL_SECONDS = 2.0
N_RUNS = 15
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class _OpsEvents:
    """The page's events. Each finds the person, checks the role, reads the act, calls a handler, and says what to show."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def load(self, request: gr.Request) -> tuple[Update, ...]:
        """-> header, figures, run, schedule, policies, raters, runs, notices, fingerprint of the run."""
        user = self._ops(request)
        return (
            header_bar(user, "/ops/"),
            self._figures(),
            self._run(),
            self._schedule(),
            self._policies(""),
            self._raters(),
            self._runs(),
            "",
            self._fingerprint(),
        )

    def on_tick(self, before: str, selected: str, request: gr.Request) -> tuple[Update, ...]:
        """-> run, fingerprint, and when the run changed its state: policies, runs, figures."""
        self._ops(request)
        now_is = self._fingerprint()
        if now_is == before:
            return (*[gr.skip()] * 5,)
        if now_is.partition("|")[0] == before.partition("|")[0]:
            return self._run(), now_is, *[gr.skip()] * 3
        return self._run(), now_is, self._policies(selected), self._runs(), self._figures()

    def on_run(self, event: gr.EventData, request: gr.Request) -> tuple[Update, ...]:
        """-> run, runs, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            message = ops_handlers.change_training(self.services, user, act)
            return self._run(), self._runs(), notice(message)

        return self._do(event, request, change, n_outputs=3)

    def on_schedule(self, event: gr.EventData, request: gr.Request) -> tuple[Update, ...]:
        """-> schedule, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            message = ops_handlers.save_schedule(self.services, user, act)
            return self._schedule(), notice(message)

        return self._do(event, request, change, n_outputs=2)

    def on_policies(self, event: gr.EventData, request: gr.Request) -> tuple[Update, ...]:
        """-> policies, id of the selected one, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            if act.name == "select":
                policy_id = self.services.registry.get(act.text("policy")).id
                return self._policies(policy_id), policy_id, ""
            message = ops_handlers.change_policy(self.services, user, act)
            chosen = act.text("policy") or self.services.registry.serving().id
            return self._policies(chosen), chosen, notice(message)

        return self._do(event, request, change, n_outputs=3)

    def on_raters(self, event: gr.EventData, request: gr.Request) -> tuple[Update, ...]:
        """-> raters, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            if act.name == "estimate-raters":
                view = rater_handlers.load_raters(self.services, self.services.estimate_raters())
                return rater_view.render_raters(view), ""
            message = rater_handlers.review_rater(self.services, user, act)
            return self._raters(), notice(message)

        return self._do(event, request, change, n_outputs=2)

    def _do(
        self,
        event: gr.EventData,
        request: gr.Request,
        change: Callable[[User, Act], tuple[Update, ...]],
        *,
        n_outputs: int,
    ) -> tuple[Update, ...]:
        done, problem = attempt(lambda: change(self._ops(request), read_act(event.act, event.fields)))
        return done if done is not None else (*[gr.skip()] * (n_outputs - 1), problem)

    def _ops(self, request: gr.Request) -> User:
        return signed_in(self.services, request.username, "ops")

    def _figures(self) -> str:
        return ops_view.render_figures(ops_handlers.load_figures(self.services), now().date())

    def _run(self) -> str:
        return ops_view.render_run(ops_handlers.shown_run(self.services), self.services.new_feedback())

    def _schedule(self) -> str:
        return ops_view.render_schedule(ops_handlers.load_schedule(self.services))

    def _policies(self, selected: str) -> str:
        return policy_view.render_policies(self.services.registry.list(), selected)

    def _raters(self) -> str:
        return rater_view.render_raters(rater_handlers.load_raters(self.services))

    def _runs(self) -> str:
        return ops_view.render_runs(self.services.runs.list(N_RUNS))

    def _fingerprint(self) -> str:
        """Changes when the run does; the part before `|` only when its state does."""
        run = ops_handlers.shown_run(self.services)
        return "none|" if run is None else f"{run.id} {run.state}|{run.progress.get('at', '')}"


def build_ops_page(services: Services) -> gr.Blocks:
    """The page on the given services."""
    events = _OpsEvents(services)
    with gr.Blocks(title=f"{PRODUCT} · Ops", analytics_enabled=False) as page:
        seen = gr.State("")
        selected = gr.State("")
        timer = gr.Timer(POLL_SECONDS)
        header = live_html("t-header")
        notices = notice_html()
        with gr.Column(elem_id="t-page"):
            gr.HTML(ops_view.LEAD, elem_classes=["t-html"], apply_default_css=False)
            figures = live_html("t-figures")
            run = live_html("t-run")
            schedule = live_html("t-schedule")
            policies = live_html("t-policies")
            raters = live_html("t-raters")
            runs = live_html("t-runs")
        page.load(
            events.load,
            None,
            [header, figures, run, schedule, policies, raters, runs, notices, seen],
            **_PRIVATE,
        )
        timer.tick(events.on_tick, [seen, selected], [run, seen, policies, runs, figures], **_PRIVATE)
        run.click(events.on_run, None, [run, runs, notices], **_PRIVATE)
        schedule.click(events.on_schedule, None, [schedule, notices], **_PRIVATE)
        raters.click(events.on_raters, None, [raters, notices], **_PRIVATE)
        policies.click(events.on_policies, None, [policies, selected, notices], **_PRIVATE)
    return page
