"""The admin page: places the pieces and connects their acts to handlers. No logic of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from chatbot.records import User
from ui import admin_handlers, admin_view
from ui.fragments import Act, notice, read_act
from ui.look import PRODUCT, header_bar, live_html, notice_html
from ui.page_guard import attempt, signed_in
from ui.uploads import INGEST_JOB

if TYPE_CHECKING:
    from ui.wiring import Services

Update = Any
"""A component's new value, or `gr.skip()` to leave it."""
POLL_SECONDS = 2.0
"""How often the state of uploads is looked at while one is being read."""
IDLE_POLL_SECONDS = 15.0
"""And while none is."""
N_JOBS = 8
N_EVENTS = 40
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class _AdminEvents:
    """The page's events. Each finds the person, checks the role, reads the act, calls a handler, and says what to show."""

    def __init__(self, services: Services) -> None:
        self.services = services

    def load(self, request: gr.Request) -> tuple[Update, ...]:
        """-> header, collections, upload, jobs, documents, people, audit, notices, filter, timer."""
        user = self._admin(request)
        collections = self.services.knowledge.list_collections()
        jobs, timer = self._jobs()
        return (
            header_bar(user, "/admin/"),
            admin_view.render_collections(collections),
            admin_view.render_upload(collections),
            jobs,
            self._documents(user, admin_handlers.DocumentFilter()),
            self._people(user),
            self._audit(),
            "",
            ("", ""),
            timer,
        )

    def on_collections(self, event: gr.EventData, request: gr.Request) -> tuple[Update, ...]:
        """-> collections, upload, audit, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            message = admin_handlers.change_collection(self.services, user, act)
            collections = self.services.knowledge.list_collections()
            upload = admin_view.render_upload(collections) if act.name == "create-collection" else gr.skip()
            return admin_view.render_collections(collections), upload, self._audit(), notice(message)

        return self._do(event, request, change, n_outputs=4)

    def on_documents(
        self, event: gr.EventData, chosen: tuple[str, str], request: gr.Request
    ) -> tuple[Update, ...]:
        """-> documents, filter, audit, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            wanted = admin_handlers.DocumentFilter(collection=chosen[0], search=chosen[1])
            message, audit = "", gr.skip()
            if act.name == "filter":
                wanted = admin_handlers.DocumentFilter(
                    collection=act.text("collection"), search=act.text("search")
                )
            else:
                message = admin_handlers.delete_document(self.services, user, act.text("id"))
                audit = self._audit()
            return self._documents(user, wanted), (wanted.collection, wanted.search), audit, notice(message)

        return self._do(event, request, change, n_outputs=4)

    def on_people(self, event: gr.EventData, request: gr.Request) -> tuple[Update, ...]:
        """-> people, audit, notices."""

        def change(user: User, act: Act) -> tuple[Update, ...]:
            message, secret = "", None
            if act.name == "add-user":
                secret = admin_handlers.add_user(self.services, user, act)
            elif act.name == "reset-password":
                secret = admin_handlers.reset_password(self.services, user, act.text("user"))
            elif act.name == "delete-user":
                message = admin_handlers.delete_user(self.services, user, act.text("user"))
            elif act.name != "hide":
                message = admin_handlers.change_user(self.services, user, act)
            return self._people(user, secret), self._audit(), notice(message)

        return self._do(event, request, change, n_outputs=3)

    def on_tick(self, before: str, chosen: tuple[str, str], request: gr.Request) -> tuple[Update, ...]:
        """-> jobs, timer, documents, fingerprint of the jobs' states."""
        user = self._admin(request)
        now = self._fingerprint()
        if now == before:
            return (*[gr.skip()] * 3, now)
        jobs, timer = self._jobs()
        documents = self._documents(
            user, admin_handlers.DocumentFilter(collection=chosen[0], search=chosen[1])
        )
        return jobs, timer, documents, now

    def _do(
        self,
        event: gr.EventData,
        request: gr.Request,
        change: Callable[[User, Act], tuple[Update, ...]],
        *,
        n_outputs: int,
    ) -> tuple[Update, ...]:
        done, problem = attempt(lambda: change(self._admin(request), read_act(event.act, event.fields)))
        return done if done is not None else (*[gr.skip()] * (n_outputs - 1), problem)

    def _admin(self, request: gr.Request) -> User:
        return signed_in(self.services, request.username, "admin")

    def _documents(self, user: User, wanted: admin_handlers.DocumentFilter) -> str:
        found, n_matching = admin_handlers.find_documents(self.services, wanted)
        collections = self.services.knowledge.list_collections()
        return admin_view.render_documents(found, n_matching, collections, wanted, user.as_reader())

    def _people(self, user: User, secret: admin_handlers.NewPassword | None = None) -> str:
        return admin_view.render_people(self.services.accounts.list(), user, secret)

    def _audit(self) -> str:
        return admin_view.render_audit(self.services.audit.list(N_EVENTS))

    def _jobs(self) -> tuple[str, Update]:
        jobs = self.services.jobs.list_jobs(kinds=[INGEST_JOB], limit=N_JOBS)
        busy = any(job.state in ("queued", "running") for job in jobs)
        return admin_view.render_jobs(jobs), gr.Timer(POLL_SECONDS if busy else IDLE_POLL_SECONDS)

    def _fingerprint(self) -> str:
        jobs = self.services.jobs.list_jobs(kinds=[INGEST_JOB], limit=N_JOBS)
        return "|".join(f"{job.id}{job.state}{job.progress.get('done', '')}" for job in jobs)


def build_admin_page(services: Services) -> gr.Blocks:
    """The page on the given services."""
    events = _AdminEvents(services)
    with gr.Blocks(title=f"{PRODUCT} · Admin", analytics_enabled=False) as page:
        chosen = gr.State(("", ""))
        seen = gr.State("")
        timer = gr.Timer(IDLE_POLL_SECONDS)
        header = live_html("t-header")
        notices = notice_html()
        with gr.Column(elem_id="t-page"):
            gr.HTML(admin_view.LEAD, elem_classes=["t-html"], apply_default_css=False)
            collections = live_html("t-collections")
            upload = live_html("t-upload", script="tacit.attachUpload(element, trigger)")
            jobs = live_html("t-jobs")
            documents = live_html("t-documents")
            people = live_html("t-people")
            audit = live_html("t-audit")
        page.load(
            events.load,
            None,
            [header, collections, upload, jobs, documents, people, audit, notices, chosen, timer],
            **_PRIVATE,
        )
        collections.click(events.on_collections, None, [collections, upload, audit, notices], **_PRIVATE)
        documents.click(events.on_documents, chosen, [documents, chosen, audit, notices], **_PRIVATE)
        people.click(events.on_people, None, [people, audit, notices], **_PRIVATE)
        for tick in (upload.click, timer.tick):
            tick(events.on_tick, [seen, chosen], [jobs, timer, documents, seen], **_PRIVATE)
    return page
