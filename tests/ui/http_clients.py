"""People and programs who call the web application in this process."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.testclient import TestClient

from chatbot.accounts import Accounts
from chatbot.passwords import Passwords, PasswordSettings
from chatbot.records import Role
from chatbot.sign_in import SignIn
from ui.server import create_app
from ui.wiring import Services

PASSWORD = "correct horse battery"
HTML = {"accept": "text/html"}


def make_client(services: Services) -> TestClient:
    """A stranger's browser, on the application without the Gradio pages; nothing is loaded beforehand."""
    _make_passwords_cheap(services)
    return TestClient(create_app(services, with_pages=False), follow_redirects=False)


def add_account(services: Services, name: str, role: Role = "employee", groups: Sequence[str] = ()) -> str:
    """An account; returns its name."""
    _make_passwords_cheap(services)
    return services.accounts.add(name, role=role, groups=groups, password=PASSWORD).name


def _make_passwords_cheap(services: Services) -> None:
    # Real hashing, with less work than a product needs: these tests make hundreds of accounts.
    passwords = Passwords(PasswordSettings(iterations=1, memory_kib=64, lanes=1))
    services.__dict__["accounts"] = Accounts(services.db, passwords)
    services.__dict__["sign_in"] = SignIn(services.db, services.settings.sign_in, passwords)


def sign_in(client: TestClient, name: str, password: str = PASSWORD) -> int:
    """Signs this client in; returns the status."""
    return client.post("/sign-in", data={"name": name, "password": password}).status_code


def bearer(services: Services, name: str) -> dict[str, str]:
    """The header of a program that acts for this person."""
    _, secret = services.api_keys.create(services.accounts.by_name(name).id, "test")
    return {"authorization": f"Bearer {secret}"}
