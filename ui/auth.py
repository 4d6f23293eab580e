"""Who is asking over HTTP: the gate in front of every route and page, sign-in and sign-out, security headers.

The gate is one piece of middleware before everything, the mounted pages included, because Gradio leaves several of its own routes open
by design. Roles are checked here by path and once more inside every handler. Knows nothing of what the pages do.

Different from Gradio's own `auth`: sessions are rows in the database, signing out works at once, passwords are argon2id hashes.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatbot.errors import SignInError
from chatbot.records import Role, User
from knowledge_base.errors import StorageError

log = structlog.get_logger(__name__)

COOKIE = "tacit_session"
OPEN_PATHS = ("/healthz", "/readyz", "/sign-in", "/sign-out", "/favicon.ico", "/robots.txt")
"""Reachable without a session, besides `/static/`; everything else is not."""
PAGE_ROLES: dict[str, frozenset[Role]] = {
    "/admin": frozenset({"admin"}),
    "/ops": frozenset({"ops"}),
    "/metrics": frozenset({"ops"}),
}
"""Paths for some roles only; the rest is for everybody with an account."""
MAX_FORM_BYTES = 16_384

_CONTENT_RULES = (
    "default-src 'self'",
    # Gradio's page carries its configuration and styles inline.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    # No other hosts: a poisoned document that makes the model write an image link must not reach its author.
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "worker-src 'self' blob:",
    "media-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
CONTENT_SECURITY_POLICY = "; ".join(_CONTENT_RULES)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}
"""On every response."""

FindUser = Callable[[str], User | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatekeeper:
    """How a request's user is found: by session cookie or by bearer key."""

    user_of_session: FindUser
    user_of_key: FindUser

    def user(self, connection: HTTPConnection) -> User | None:
        """The signed-in person, or None. A bearer key beats a cookie; a wrong key does not fall back to the cookie."""
        scheme, _, key = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.user_of_key(key.strip())
        token = connection.cookies.get(COOKIE)
        return self.user_of_session(token) if token else None


class Gate:
    """ASGI middleware: sets `state.user`, refuses strangers and wrong roles, refuses cross-site writes, adds headers.

    Written against ASGI itself: Starlette's request middleware would buffer streams.
    """

    def __init__(self, app: ASGIApp, keeper: Gatekeeper, *, max_body_bytes: int) -> None:
        """Guard `app`; a request whose body says it is larger than `max_body_bytes` is refused before it is read."""
        self.app = app
        self.keeper = keeper
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        # In a thread: finding the user asks the database, which may be waiting for a writer.
        refusal = await run_in_threadpool(self._refusal, connection, scope)
        target = refusal or self.app
        await target(scope, receive, _with_headers(send) if scope["type"] == "http" else send)

    def _refusal(self, connection: HTTPConnection, scope: Scope) -> Response | None:
        path = scope["path"]
        if _crosses_sites(connection.headers, scope):
            return JSONResponse({"error": "this request came from another site"}, status_code=403)
        if path in OPEN_PATHS or path.startswith("/static/"):
            return None
        try:
            user = self.keeper.user(connection)
        except StorageError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        scope.setdefault("state", {})["user"] = user
        if user is None:
            return _to_sign_in(connection, scope)
        too_large = _too_large(connection.headers, self.max_body_bytes)
        if too_large is not None:
            return too_large
        for prefix, roles in PAGE_ROLES.items():
            if (path == prefix or path.startswith(prefix + "/")) and user.role not in roles:
                return _forbidden(connection, roles)
        return None


def _crosses_sites(headers: Headers, scope: Scope) -> bool:
    # A browser always sends Origin with a cross-site write or a WebSocket; a program with a bearer key sends none.
    if scope.get("method") in {"GET", "HEAD", "OPTIONS"}:
        return False
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _too_large(headers: Headers, max_bytes: int) -> Response | None:
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) <= max_bytes:
        return None
    error = f"the request is larger than {max_bytes / 1e6:.0f} MB: split the file, or raise server.max_upload_bytes"
    return JSONResponse({"error": error}, status_code=413)


def _wants_page(connection: HTTPConnection) -> bool:
    return "text/html" in connection.headers.get("accept", "")


def _to_sign_in(connection: HTTPConnection, scope: Scope) -> Response:
    if _wants_page(connection) and scope.get("method") == "GET":
        return RedirectResponse(f"/sign-in?next={quote(scope['path'])}", status_code=303)
    return JSONResponse({"error": "sign in, or send a bearer key"}, status_code=401)


def _forbidden(connection: HTTPConnection, roles: frozenset[Role]) -> Response:
    needed = " or ".join(sorted(roles))
    if _wants_page(connection):
        body = f"<p>This page is for the role {needed}.</p><p><a href='/chat/'>Back to the chat</a></p>"
        return HTMLResponse(page("Not for you", body), status_code=403)
    return JSONResponse({"error": f"this needs the role {needed}"}, status_code=403)


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return wrapped


def page(title: str, body: str) -> str:
    """A small page in the product's own look, without Gradio."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)} · Tacit</title><link rel='stylesheet' href='/static/tacit.css'></head>"
        f"<body class='plain'><main>{body}</main></body></html>"
    )


def sign_in_page(*, next_path: str, error: str = "", name: str = "") -> str:
    """The form for name and password."""
    warning = f"<p class='error' role='alert'>{html.escape(error)}</p>" if error else ""
    return page(
        "Sign in",
        "<div class='card'><h1>Tacit</h1><p class='muted'>Answers from your company's own documents.</p>"
        f"{warning}<form method='post' action='/sign-in'>"
        f"<input type='hidden' name='next' value='{html.escape(next_path, quote=True)}'>"
        "<label>Name<input name='name' autocomplete='username' autofocus required "
        f"value='{html.escape(name, quote=True)}'></label>"
        "<label>Password<input name='password' type='password' autocomplete='current-password' required></label>"
        "<button>Sign in</button></form></div>",
    )


def safe_next(path: str) -> str:
    """Where to go after signing in: a path on this site, never another host (open redirect).

    >>> safe_next("//evil.example"), safe_next("/ops/")
    ('/chat/', '/ops/')
    """
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and not urlsplit(path).netloc
    return path if own and "\\" not in path and "\n" not in path else "/chat/"


async def read_form(request: Request) -> dict[str, str]:
    """A small url-encoded form.

    Raises:
        ValueError: it is larger than any form of ours.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise ValueError("the form is too large")
    return {
        key: values[-1]
        for key, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()
    }


async def handle_sign_in(
    request: Request, sign_in: Callable[[str, str], str], *, secure: bool, max_age_seconds: int
) -> Response:
    """Check name and password, set the session cookie, go on to the page that was wanted."""
    try:
        form = await read_form(request)
    except ValueError as error:
        return JSONResponse({"error": str(error)}, status_code=413)
    name, next_path = form.get("name", ""), safe_next(form.get("next", ""))
    try:
        # In a thread: a password is slow to check on purpose, and nobody else should wait for it.
        token = await run_in_threadpool(sign_in, name, form.get("password", ""))
    except SignInError as error:
        return HTMLResponse(sign_in_page(next_path=next_path, error=str(error), name=name), status_code=401)
    response = RedirectResponse(next_path, status_code=303)
    response.set_cookie(
        COOKIE, token, httponly=True, samesite="lax", secure=secure, max_age=max_age_seconds, path="/"
    )
    return response


def handle_sign_out(request: Request, sign_out: Callable[[str], None]) -> Response:
    """End the session at once and forget the cookie."""
    token = request.cookies.get(COOKIE)
    if token:
        sign_out(token)
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response
