"""`tacit demo`: the sample company, three accounts, the server. Safe to repeat: nothing is done twice, passwords stay.

Knows nothing of how things work; it calls what the other commands call.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
import tomllib
import urllib.error
import urllib.request
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.passwords import generate_password
from knowledge_base.errors import NotFoundError
from knowledge_base.properties import set_property
from ui.cli_output import Context, progress_bar
from ui.erasure import PASSWORDS_FILE
from ui.logging import configure_logging
from ui.serving import check_port, run_uvicorn, worker_beside
from ui.wiring import EVERYONE, Services, open_services

if TYPE_CHECKING:
    from knowledge_base.records import IngestReport

SAMPLE = Path(__file__).parent / "sample_company"
DEMO = "demo"
READY_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoAccount:
    """An account of the sample company, as shown to the newcomer."""

    name: str
    role: str
    title: str
    password: str


def run_demo(context: Context, *, port: int, open_browser: bool) -> None:
    """Set up and serve until stopped."""
    check_port("127.0.0.1", port)
    configure_logging(debug=context.debug)
    started = time.monotonic()
    with open_services(context.home, create=True) as services:
        reports = ingest_sample(services)
        accounts = make_accounts(services)
        seconds = time.monotonic() - started
        _show(context, accounts, reports, port=port, seconds=seconds)
        if open_browser:
            threading.Thread(target=_open_when_ready, args=(port,), daemon=True).start()
        with worker_beside(context.home, enabled=True):
            run_uvicorn(services, host="127.0.0.1", port=port, note=context.note)


def ingest_sample(services: Services) -> list[IngestReport]:
    """Put the sample company's documents into their collections."""
    manifest = tomllib.loads((SAMPLE / "company.toml").read_text("utf-8"))
    reports = []
    for entry in manifest["collections"]:
        _ensure_collection(services, entry)
        reports.append(_ingest_collection(services, entry))
    starters = [item["question"] for item in manifest.get("starters", [])]
    with services.db.write() as connection:
        set_property(connection, "starters", "\n".join(starters))
    return reports


def _ingest_collection(services: Services, entry: dict[str, Any]) -> IngestReport:
    with progress_bar(f"Ingesting {entry['title']}") as update:
        return services.ingestor.ingest(
            [SAMPLE / entry["name"]],
            entry["name"],
            progress=lambda p: update(p.done, p.total, Path(p.path).name),
        )


def _ensure_collection(services: Services, entry: dict[str, Any]) -> None:
    try:
        services.knowledge.get_collection(entry["name"])
    except NotFoundError:
        services.knowledge.create_collection(
            entry["name"],
            title=entry["title"],
            owner=entry["owner"],
            groups=None if EVERYONE in entry["groups"] else entry["groups"],
        )


def make_accounts(services: Services) -> list[DemoAccount]:
    """Make the three accounts, or find them again with the passwords they were given."""
    manifest = tomllib.loads((SAMPLE / "company.toml").read_text("utf-8"))
    file = services.home.path / PASSWORDS_FILE
    known: dict[str, str] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    accounts = []
    for entry in manifest["accounts"]:
        name = entry["username"]
        if services.accounts.find(name) is None:
            known[name] = generate_password()
            # Saved first: killed between the two, the next start still knows the password.
            _save_private(file, json.dumps(known, indent=1))
            services.accounts.add(name, role=entry["role"], groups=entry["groups"], password=known[name])
            services.audit.record(DEMO, "user.add", name, role=entry["role"])
        password = known.get(name, "(set by you)")
        accounts.append(DemoAccount(name=name, role=entry["role"], title=entry["title"], password=password))
    return accounts


def _save_private(file: Path, text: str) -> None:
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    partial.replace(file)


def _show(
    context: Context, accounts: list[DemoAccount], reports: list[IngestReport], *, port: int, seconds: float
) -> None:
    n_documents = sum(r.documents + r.skipped for r in reports)
    payload = {
        "address": f"http://localhost:{port}/",
        "accounts": [{"name": a.name, "role": a.role, "password": a.password} for a in accounts],
        "documents": n_documents,
        "failed": [{"path": f.path, "error": f.error} for r in reports for f in r.failed],
        "seconds": round(seconds, 1),
    }
    for report in reports:
        for failure in report.failed:
            context.note(f"failed: {failure.path}: {failure.error}")
    lines = [f"The sample company is ready: {n_documents} documents ({seconds:.0f} s).", ""]
    lines += [f"  {a.name:<8} {a.password:<26} {a.role:<9} {a.title}" for a in accounts]
    lines += ["", "Ask as amina, upload as jonas (/admin), retrain as priya (/ops)."]
    context.emit(payload, lines)


def _open_when_ready(port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                webbrowser.open(f"http://localhost:{port}/")
                return
        except (urllib.error.URLError, OSError):
            # Not listening yet: the model is still loading.
            time.sleep(0.5)
