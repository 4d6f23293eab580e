"""Pictures of every page for `docs/screenshots`, on a laptop and a phone, light and dark. Taken only when TACIT_SCREENSHOTS=1.

They show the sample company. Where the embedded model's weights are not in the checkout, policies that quote the evidence stand in.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alignment.rater_records import RaterEstimate
from alignment.records import StageProgress
from knowledge_base.database import now
from tests.ui.browser import ROOT, chromium, free_port, sign_in
from tests.ui.page_fakes import PASSWORD, ScriptedPolicies, add_policy
from ui.wiring import EMBEDDED_MODEL, Services, open_services

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("TACIT_SCREENSHOTS") != "1", reason="set TACIT_SCREENSHOTS=1 to take them"
    ),
]

FOLDER = ROOT / "docs" / "screenshots"
SIZES = {"laptop": (1280, 800), "phone": (390, 844)}
QUESTIONS = ("What is the hotel limit in London?", "How long do I have to hand in an expense claim?")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sample company with some history, served from this process."""
    from ui.demo import ingest_sample, make_accounts

    with open_services(tmp_path_factory.mktemp("shots") / "home", create=True) as services:
        if not (EMBEDDED_MODEL / "config.json").exists():
            services.__dict__["serving"] = ScriptedPolicies(services)
        ingest_sample(services)
        for account in make_accounts(services):
            services.accounts.set_password(services.accounts.by_name(account.name).id, PASSWORD)
        _make_history(services)
        with _served(services) as address:
            yield address


def _make_history(services: Services) -> None:
    gates = [
        {"name": "win_rate", "passed": True, "value": 0.61, "threshold": 0.5,
         "why": "Preferred over its parent in 61% of 120 questions (95% interval 53% to 69%): the low end must be above 50%."},
        {"name": "key_facts", "passed": True, "value": 0.52, "threshold": 0.5,
         "why": "Answers with all key facts: 52%, its parent 51%; a drop of 2 points is allowed."},
        {"name": "length", "passed": True, "value": 0.94, "threshold": 1.5,
         "why": "Answers have 21 words on average, its parent's 22: 0.94 times; 0.50 to 1.50 is allowed."},
    ]  # fmt: skip
    metrics = {"objective/kl": 2.13, "objective/scores": 1.02, "win_rate": 0.61, "key_fact_recall": 0.52}
    lost = [{**gates[0], "passed": False, "why": "Preferred over its parent in 44% of 120 questions (95% interval 35% to 53%): the low end must be above 50%."}, *gates[1:]]  # fmt: skip
    path = services.registry.serving().path
    add_policy(services, "sft-9a31c2", stage="sft", gates=(), metrics={"loss": 1.23}, path=path)
    services.registry.promote("sft-9a31c2", "priya")
    add_policy(
        services,
        "ppo-77bd01",
        state="rejected",
        reason=lost[0]["why"],
        gates=tuple(lost),
        parent="sft-9a31c2",
        path=path,
    )
    add_policy(services, "ppo-3f2a9c", gates=tuple(gates), metrics=metrics, parent="sft-9a31c2", path=path)
    services.schedule.set(cron="0 3 * * *", min_feedback=200, actor="priya")
    ended = services.runs.create("cycle", {})
    services.runs.start(ended.id)
    services.runs.finish(
        ended.id,
        policy_id="ppo-77bd01",
        gates=[],
        promoted=False,
        reason=str(lost[0]["why"]),
        metrics={"raters": [rater.to_json() for rater in _raters(services)]},
    )
    running = services.runs.create("cycle", {})
    services.runs.start(running.id)
    progress = {"objective/kl": 1.92, "objective/scores": 0.43, "policy/approxkl_avg": 0.012}
    services.runs.report(
        running.id, StageProgress(stage="ppo", done=18, total=60, eta_seconds=312, metrics=progress)
    )
    _make_judgements(services)


def _raters(services: Services) -> list[RaterEstimate]:
    ids = {name: services.accounts.by_name(name).id for name in ("amina", "jonas", "priya")}
    why = "34 judgements agree with the others' taste in 48% of the choices, no better than chance: at most 31% of them seem meant"
    return [
        RaterEstimate(labeler_id=ids["jonas"], n_judgements=34, reliability=0.11, low=0.0, high=0.31, agrees=0.48, weight=0.0, reason=why),
        RaterEstimate(labeler_id=ids["priya"], n_judgements=12, reliability=0.78, low=0.41, high=0.99, agrees=0.75, weight=0.96),
        RaterEstimate(labeler_id=ids["amina"], n_judgements=61, reliability=0.93, low=0.8, high=1.0, agrees=0.86, weight=1.14),
    ]  # fmt: skip


def _make_judgements(services: Services) -> None:
    from chatbot.answers import AnswerStore
    from chatbot.feedback import FeedbackStore

    amina = services.accounts.by_name("amina")
    for days in range(13, -1, -1):
        at = now() - timedelta(days=days)
        answers = AnswerStore(services.db, clock=lambda at=at: at)
        feedback = FeedbackStore(services.db, clock=lambda at=at: at)
        for number in range(1 + (days * 7) % 5):
            prepared = services.assistant.prepare(f"{QUESTIONS[number % 2]} (day {days})", amina.as_reader())
            answer = services.assistant.sample(prepared, 1)[0]
            stored = answers.save(_dated(answer, at), amina.id, "chat")
            feedback.rate(amina, stored.id, number % 3 != 0)


def _dated(answer: Any, at: Any) -> Any:
    from dataclasses import replace

    return replace(answer, created_at=at)


@contextmanager
def _served(services: Services) -> Iterator[str]:
    import uvicorn

    from ui.server import create_app

    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(services), host="127.0.0.1", port=port, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.2)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def test_pictures_of_every_page(address: str) -> None:
    """Each page, both sizes, both schemes; no page is wider than its window."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                viewport = {"width": width, "height": height}
                context = browser.new_context(viewport=viewport, color_scheme=scheme)
                _take_all(
                    context,
                    address,
                    lambda name, size=size, scheme=scheme: FOLDER / f"{name}-{size}-{scheme}.png",
                )
                context.close()


def _take_all(context: Any, address: str, file: Any) -> None:
    page = context.new_page()
    page.goto(f"{address}/sign-in")
    page.screenshot(path=file("sign-in"))
    sign_in(page, address, "amina", PASSWORD)
    _take(page, file("chat-empty"))
    for question in QUESTIONS:
        n_before = page.locator(".t-answer").count()
        page.fill("textarea[name=question]", question)
        page.keyboard.press("Enter")
        page.wait_for_function(f"document.querySelectorAll('.t-answer').length > {n_before}")
    page.click("[aria-label='Bad answer'] >> nth=-1")
    page.wait_for_selector(".t-panel")
    page.evaluate("document.querySelector('.t-panel').scrollIntoView({block: 'end'})")
    page.evaluate("window.scrollBy(0, 9999)")
    _take(page, file("chat"))
    page.goto(f"{address}/compare/")
    page.fill("#t-ask textarea", QUESTIONS[0])
    page.keyboard.press("Enter")
    page.wait_for_selector(".t-pair", timeout=60_000)
    _take(page, file("compare"))
    for name, path, ready in (("jonas", "admin", "#t-audit table"), ("priya", "ops", "#t-runs table")):
        context.clear_cookies()
        page = context.new_page()
        sign_in(page, address, name, PASSWORD)
        page.goto(f"{address}/{path}/")
        page.wait_for_selector(ready)
        _take(page, file(path))


def _take(page: Any, file: Path) -> None:
    page.wait_for_timeout(500)  # fonts, scrolling and fading have settled
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=file)
