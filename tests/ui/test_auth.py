"""The gate: who gets in, who does not, and what every response carries."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket
from structlog.testing import capture_logs

from chatbot.records import User
from knowledge_base.database import now
from tests.ui.http_clients import HTML, PASSWORD, add_account, bearer, make_client, sign_in
from ui.auth import COOKIE, Gate, Gatekeeper, safe_next
from ui.wiring import Services


@pytest.fixture
def client(services: Services) -> TestClient:
    """A stranger; ann, jonas and priya have accounts."""
    add_account(services, "ann")
    add_account(services, "jonas", "admin")
    add_account(services, "priya", "ops")
    return make_client(services)


# Strangers


@pytest.mark.parametrize(
    "path", ["/", "/chat/", "/admin/", "/ops/", "/documents/1", "/api/documents", "/nowhere"]
)
def test_a_stranger_with_a_browser_is_sent_to_sign_in(path: str, client: TestClient) -> None:
    """And comes back to what was wanted."""
    response = client.get(path, headers=HTML)

    assert 303 == response.status_code
    assert response.headers["location"] == f"/sign-in?next={path}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/documents"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/api/feedback"),
        ("DELETE", "/api/documents/1"),
        ("GET", "/metrics"),
        ("GET", "/api/openapi.json"),
        ("GET", "/chat/gradio_api/info"),
    ],
)
def test_a_stranger_s_program_gets_401(method: str, path: str, client: TestClient) -> None:
    """As JSON."""
    response = client.request(method, path)

    assert 401 == response.status_code
    assert "bearer key" in response.json()["error"]


def test_paths_that_only_look_open_are_closed(client: TestClient) -> None:
    """`/healthz` is open, what starts like it is not."""
    assert 401 == client.get("/healthz-and-more").status_code


@pytest.mark.parametrize("token", ["", "nonsense", "Bearer", "é"])
def test_a_made_up_cookie_opens_nothing(token: str, client: TestClient) -> None:
    """Nor does it break anything."""
    response = client.get("/api/documents", headers={"cookie": f"{COOKIE}={token}".encode()})

    assert 401 == response.status_code


def test_a_wrong_key_does_not_fall_back_to_the_cookie(client: TestClient) -> None:
    """A program that means to be somebody else must not act as the browser's owner."""
    sign_in(client, "ann")

    assert 401 == client.get("/api/documents", headers={"authorization": "Bearer wrong"}).status_code


# Signing in and out


def test_signing_in_sets_a_cookie_that_scripts_cannot_read(client: TestClient) -> None:
    """And goes on to the chat."""
    response = client.post("/sign-in", data={"name": "ann", "password": PASSWORD})

    assert (303, "/chat/") == (response.status_code, response.headers["location"])
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert 200 == client.get("/api/documents").status_code


def test_the_cookie_is_secure_where_people_come_over_tls(services: Services) -> None:
    """It never travels in the clear then."""
    import dataclasses

    add_account(services, "ann")
    server = dataclasses.replace(services.settings.server, https=True)
    over_tls = dataclasses.replace(services, settings=dataclasses.replace(services.settings, server=server))
    response = make_client(over_tls).post("/sign-in", data={"name": "ann", "password": PASSWORD})

    assert "secure" in response.headers["set-cookie"].lower()


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_failing_to_sign_in_does_not_tell_why(name: str, password: str, client: TestClient) -> None:
    """One message for all, no cookie."""
    response = client.post("/sign-in", data={"name": name, "password": password})

    assert 401 == response.status_code
    assert "signing in failed" in response.text
    assert "set-cookie" not in response.headers


def test_the_form_shows_back_the_name_escaped(client: TestClient) -> None:
    """What was typed is data."""
    response = client.post("/sign-in", data={"name": "<script>alert(1)</script>", "password": "x"})

    assert "<script>alert" not in response.text


def test_failed_and_successful_tries_are_audited(client: TestClient, services: Services) -> None:
    """Under the name that was typed."""
    sign_in(client, "ann", "wrong")
    sign_in(client, "ann")

    actions = [(e.actor, e.action) for e in services.audit.list(limit=2)]
    assert [("ann", "sign_in"), ("ann", "sign_in.failed")] == actions


def test_signing_out_ends_the_session_itself(client: TestClient) -> None:
    """A copy of the cookie is worth nothing afterwards."""
    sign_in(client, "ann")
    copy = client.cookies[COOKIE]
    assert 303 == client.post("/sign-out").status_code
    client.cookies.clear()

    assert 401 == client.get("/api/documents", headers={"cookie": f"{COOKIE}={copy}"}).status_code


def test_a_disabled_account_is_out_at_once(client: TestClient, services: Services) -> None:
    """Its session and its key."""
    sign_in(client, "ann")
    key = bearer(services, "ann")
    assert 200 == client.get("/api/documents").status_code
    assert 200 == client.get("/api/documents", headers=key).status_code
    services.accounts.disable(services.accounts.by_name("ann").id)

    assert 401 == client.get("/api/documents").status_code
    assert 401 == client.get("/api/documents", headers=key).status_code
    assert 401 == sign_in(client, "ann")


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/a\nb",
        "",
    ],
)
def test_signing_in_never_leads_to_another_site(target: str, client: TestClient) -> None:
    """No open redirect."""
    assert "/chat/" == safe_next(target)
    response = client.post("/sign-in", data={"name": "ann", "password": PASSWORD, "next": target})

    assert "/chat/" == response.headers["location"]


def test_a_huge_form_is_refused(client: TestClient) -> None:
    """Before it fills the memory."""
    assert 413 == client.post("/sign-in", data={"name": "x" * 100_000}).status_code


# Roles


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("ann", "/admin/", 403),
        ("ann", "/ops/", 403),
        ("ann", "/metrics", 403),
        ("jonas", "/ops/", 403),
        ("jonas", "/metrics", 403),
        ("priya", "/admin/", 403),
        ("priya", "/metrics", 200),
    ],
)
def test_pages_are_for_their_roles(name: str, path: str, status: int, client: TestClient) -> None:
    """Nobody has two."""
    sign_in(client, name)

    assert status == client.get(path).status_code


def test_a_refused_person_gets_a_page(client: TestClient) -> None:
    """With the way back."""
    sign_in(client, "ann")
    response = client.get("/admin/", headers=HTML)

    assert 403 == response.status_code
    assert "/chat/" in response.text


# Other sites


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example"])
def test_a_write_from_another_site_is_refused(origin: str, client: TestClient) -> None:
    """Although the browser would send the cookie along."""
    sign_in(client, "ann")

    assert 403 == client.post("/sign-out", headers={"origin": origin}).status_code
    assert 200 == client.get("/api/documents").status_code


def test_a_write_from_the_own_site_is_fine(client: TestClient) -> None:
    """The browser says so itself."""
    origin = {"origin": "http://testserver"}
    form = {"name": "ann", "password": PASSWORD}

    assert 303 == client.post("/sign-in", data=form, headers=origin).status_code


def test_a_websocket_from_another_site_is_refused() -> None:
    """Browsers let scripts of any site open one, with the cookie."""

    async def accept(socket: WebSocket) -> None:
        await socket.accept()

    ann = User(id="1", name="ann", role="employee", groups=frozenset(), created_at=now())
    keeper = Gatekeeper(user_of_session=lambda _: ann, user_of_key=lambda _: None)
    app = Starlette(routes=[WebSocketRoute("/ws", accept)])
    client = TestClient(Gate(app, keeper, max_body_bytes=1), cookies={COOKIE: "hers"})
    with client.websocket_connect("/ws", headers={"origin": "http://testserver"}):
        pass

    with pytest.raises(WebSocketDenialResponse) as refusal:
        client.websocket_connect("/ws", headers={"origin": "https://evil.example"}).__enter__()
    assert 403 == refusal.value.status_code


# Headers


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/sign-in", "/static/tacit.css", "/static/none", "/api/documents", "/nowhere", "/metrics"],
)
def test_every_response_carries_the_security_headers(path: str, client: TestClient) -> None:
    """Refusals and missing pages too."""
    for response in (client.get(path), client.get(path, headers=HTML)):
        assert "default-src 'self'" in response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "nosniff" == response.headers["x-content-type-options"]


def test_a_failure_of_ours_shows_no_details_and_carries_the_headers(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The traceback is for the log."""

    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("secret path /srv/tacit")

    add_account(services, "ann")
    monkeypatch.setattr(type(services.knowledge), "list_documents", crash)
    from ui.server import create_app

    app = create_app(services, with_pages=False)
    client = TestClient(app, raise_server_exceptions=False)
    with capture_logs():
        response = client.get("/api/documents", headers=bearer(services, "ann"))

    assert 500 == response.status_code
    assert "secret" not in response.text
    assert "nosniff" == response.headers["x-content-type-options"]


def test_a_database_that_is_away_is_a_503(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not a signed-out person."""
    from knowledge_base.errors import StorageError

    def away(*_: object) -> None:
        raise StorageError("the database cannot be used (locked): try again in a moment")

    sign_in(client, "ann")
    monkeypatch.setattr(type(services.sign_in), "user_of_session", away)
    again = make_client(services)
    again.cookies.update(client.cookies)

    assert 503 == again.get("/api/documents").status_code
