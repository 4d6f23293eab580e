"""The web application: FastAPI as the parent, the gate in front, our routes, and the Gradio pages mounted beside them.

Only places and connects. Gradio's own authentication, file cache, history, analytics and error details stay off: documents are served
by our checked routes, and each page is a Blocks of its own with its own authorisation.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from chatbot.errors import FeedbackError, GenerationError, PolicyError, SignInError
from chatbot.records import Role
from knowledge_base.errors import (
    AccessDeniedError,
    DocumentError,
    NotFoundError,
    StorageError,
    TacitError,
    UsageError,
)
from ui import api, openai_api
from ui.auth import (
    SECURITY_HEADERS,
    Gate,
    Gatekeeper,
    handle_sign_in,
    handle_sign_out,
    page,
    safe_next,
    sign_in_page,
)
from ui.page_guard import UNEXPECTED, sentence

if TYPE_CHECKING:
    from ui.wiring import Services

log = structlog.get_logger(__name__)

STATIC = Path(__file__).parent / "static"
FORM_BYTES = 1 << 20
"""What a request may be longer than the largest file: the form around it."""
STATUS_OF: dict[type[TacitError], int] = {
    UsageError: 422,
    NotFoundError: 404,
    AccessDeniedError: 403,
    DocumentError: 422,
    FeedbackError: 422,
    SignInError: 401,
    PolicyError: 409,
    GenerationError: 503,
    StorageError: 503,
}


def create_app(services: Services, *, with_pages: bool = True) -> FastAPI:
    """The application on the given services.

    Args:
        services: From `ui.wiring.open_services`.
        with_pages: False leaves the Gradio pages out (interface tests start faster without).
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.warm_up()
        yield
        services.close()

    app = FastAPI(
        title="Tacit", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json"
    )
    app.state.services = services
    _add_errors(app)
    _add_sign_in(app, services)
    app.include_router(api.make_router(services))
    app.include_router(openai_api.make_router(services))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon() -> FileResponse:
        return FileResponse(STATIC / "favicon.svg", media_type="image/svg+xml")

    @app.get("/", include_in_schema=False)
    def home() -> RedirectResponse:
        return RedirectResponse("/chat/", status_code=303)

    if with_pages:
        _mount_pages(app, services)
    keeper = Gatekeeper(
        user_of_session=services.sign_in.user_of_session, user_of_key=services.api_keys.user_of_key
    )
    app.add_middleware(
        Gate, keeper=keeper, max_body_bytes=services.settings.server.max_upload_bytes + FORM_BYTES
    )
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(TacitError)
    def explain(request: Request, error: TacitError) -> Response:
        status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
        return _failure(request, error, status)

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part not in {"body", "query", "path"})
        return _failure(request, UsageError(f"{field or 'the request'}: {first['msg']}"), 422)

    @app.exception_handler(HTTPException)
    def answer(request: Request, error: HTTPException) -> Response:
        return _failure(request, TacitError(str(error.detail)), error.status_code)

    @app.exception_handler(Exception)
    def hide(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        response = _failure(request, TacitError(UNEXPECTED), 500)
        # Sent from outside the gate, which otherwise sets them.
        response.headers.update(SECURITY_HEADERS)
        return response


def _failure(request: Request, error: TacitError, status: int) -> Response:
    """An error as whoever asked can read it: a page, OpenAI's shape, or a plain object."""
    if "text/html" in request.headers.get("accept", ""):
        body = f"<p>{html.escape(sentence(str(error)))}</p><p><a href='/chat/'>Back to the chat</a></p>"
        return HTMLResponse(page("That did not work", body), status_code=status)
    if request.url.path.startswith("/v1/"):
        return JSONResponse(openai_api.error_body(error), status_code=status)
    return JSONResponse({"error": str(error)}, status_code=status)


def _add_sign_in(app: FastAPI, services: Services) -> None:
    settings = services.settings

    @app.get("/sign-in", include_in_schema=False)
    def show(next: str = "/chat/") -> HTMLResponse:  # noqa: A002 -- the query parameter's customary name
        return HTMLResponse(sign_in_page(next_path=safe_next(next)))

    @app.post("/sign-in", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        return await handle_sign_in(
            request,
            services.sign_in_and_audit,
            secure=settings.server.https,
            max_age_seconds=int(settings.sign_in.session_days * 86_400),
        )

    @app.post("/sign-out", include_in_schema=False)
    def sign_out(request: Request) -> Response:
        return handle_sign_out(request, services.sign_in.sign_out)


def _mount_pages(app: FastAPI, services: Services) -> None:
    import gradio as gr

    from ui.admin_page import build_admin_page
    from ui.chat_page import build_chat_page
    from ui.compare_page import build_compare_page
    from ui.look import CSS, HEAD, make_theme
    from ui.ops_page import build_ops_page

    everyone: frozenset[Role] = frozenset({"employee", "admin", "ops"})
    pages: list[tuple[str, Callable[[Services], Any], frozenset[Role]]] = [
        ("/chat", build_chat_page, everyone),
        ("/compare", build_compare_page, everyone),
        ("/admin", build_admin_page, frozenset({"admin"})),
        ("/ops", build_ops_page, frozenset({"ops"})),
    ]
    for path, build, roles in pages:
        blocks = build(services)
        # An unbounded queue lets one impatient person starve everyone.
        blocks.queue(max_size=100, default_concurrency_limit=8)
        gr.mount_gradio_app(
            app,
            blocks,
            path=path,
            auth_dependency=_authorise(roles),
            show_error=False,
            run_history=False,
            enable_monitoring=False,
            max_file_size="1mb",  # uploads go to our own route; Gradio's cache is readable by every user
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            theme=make_theme(),
            css=CSS,
            head=HEAD,
        )


def _authorise(roles: frozenset[Role]) -> Callable[[Request], str | None]:
    def user_name(request: Request) -> str | None:
        user = getattr(request.state, "user", None)
        return user.name if user is not None and user.role in roles else None

    return user_name
