"""The product in a real browser: sign in, ask, read the source, rate, compare, train, and see the new policy answer.

The model is tiny but real, and so is everything else: `tacit serve` with its worker, retrieval, grounding, training, promotion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatbot.records import User
from tests.ui.browser import chromium, find_chromium, sign_in, tacit_serve
from tests.ui.page_fakes import DOCUMENTS, PASSWORD
from tests.ui.parrot_model import SENTENCES, make_parrot
from ui.wiring import Services, open_services

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUESTION = "How many days of annual leave does every employee get each year?"
TRAP = "See <img src=http://evil.example/a> and ![x](http://evil.example/b) and {{trap}} ${1+1} `x`"
CYCLE_MS = 400_000
SETTINGS = """
[model]
base = "{model}"
[assistant]
max_new_tokens = 40
[evidence]
max_sentences = 3
[abstention]
judge = false
threshold = 0.0
[snapshot]
max_derived = 8
max_derived_held_out = 4
phrasings = 1
max_rollouts = 8
held_out_share = 0.3
[sft]
max_steps = 1
batch_size = 4
micro_batch_size = 4
learning_rate = 1e-6
[reward]
max_steps = 2
batch_size = 4
[ppo]
steps = 1
prompts_per_step = 2
samples_per_prompt = 2
epochs = 1
minibatches = 1
max_new_tokens = 40
value_warmup_steps = 0
learning_rate = 1e-6
[cycle]
gate_questions = 4
[gates]
min_win_rate_low = 0.0
min_win_rate_small = 0.0
min_questions = 0
max_key_fact_drop = 1.0
max_overlap_drop = 1.0
max_groundedness_drop = 1.0
min_groundedness = 0.0
max_abstention_f1_drop = 1.0
min_length_ratio = 0.001
max_length_ratio = 1000.0
max_kl = 1000.0
min_judgements = 0
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company with three people, three documents, a model that knows two sentences, and some judgements."""
    find_chromium()  # before the work, so that skipping is quick
    folder = tmp_path_factory.mktemp("browser")
    home, model, texts = folder / "home", folder / "model", folder / "handbook"
    texts.mkdir()
    for name, text in {**DOCUMENTS, "trap.md": f"# Visitors\n\n{TRAP}\n"}.items():
        (texts / name).write_text(text, "utf-8")
    make_parrot(model, _practice_prompts(model))
    home.mkdir()
    (home / "settings.toml").write_text(SETTINGS.format(model=model), "utf-8")
    with open_services(home, create=True) as services:
        services.knowledge.create_collection("handbook", title="Employee handbook", owner="People Operations")
        services.ingestor.ingest([texts], "handbook")
        for name, role in (("amina", "employee"), ("jonas", "admin"), ("priya", "ops")):
            services.accounts.add(name, role=role, password=PASSWORD)
        _collect_judgements(services, services.accounts.by_name("amina"))
    return home


def _practice_prompts(folder: Path) -> list[str]:
    from transformers import AutoTokenizer

    from chatbot.prompt import NumberedEvidence, build_messages, render_prompt
    from tests.chatbot.tiny_models import make_tiny_model

    tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(folder, "qwen2", context=1536))
    evidence = [
        NumberedEvidence(number=n, heading="Annual leave", text=text[:-4])
        for n, text in enumerate(SENTENCES, start=1)
    ]
    questions = (QUESTION, "Can I carry leave over?", "What is the hotel limit in London?", "Who may visit?")
    return [render_prompt(tokenizer, build_messages(q, evidence[:n])) for q in questions for n in (2, 1, 0)]


def _collect_judgements(services: Services, user: User) -> None:
    """Comparisons and ideal answers on differently worded questions, so that both sides of the split have some."""
    for number in range(24):
        question = f"How many days of annual leave do I get in year {number} of my time here?"
        answers = services.assistant.sample(services.assistant.prepare(question, user.as_reader()), 2)
        if answers[0].text == answers[1].text:
            continue
        ids = [services.answers.save(answer, user.id, "compare").id for answer in answers]
        services.feedback.compare(user, ids[0], ids[1], "left" if "25 days" in answers[0].text else "right")
        services.feedback.demonstrate(user, SENTENCES[0], answer_id=ids[0])


@pytest.fixture(scope="module")
def address(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the product listens."""
    with tacit_serve(home, tmp_path_factory.mktemp("log") / "serve.log") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of the module."""
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh profile; afterwards: nothing was asked of another host, and no script failed."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page, elsewhere, failures = context.new_page(), [], []
    own = (address, "data:", "blob:")
    context.on("request", lambda r: None if r.url.startswith(own) else elsewhere.append(r.url))
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    context.close()
    assert not elsewhere
    assert not failures


def ask(page: Any, question: str) -> None:
    """Type, press Enter, wait until the answer stands."""
    n_before = page.locator(".t-answer").count()
    page.fill("textarea[name=question]", question)
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelectorAll('.t-answer').length > {n_before}")
    page.wait_for_selector("body:not(.t-writing)")


def test_the_loop_from_question_to_a_new_policy(page: Any, browser: Any, address: str) -> None:
    """Sign in, ask, stream, cite, open, rate, compare; ops trains; the next answer comes from the new policy."""
    sign_in(page, address, "amina", PASSWORD)

    # A stream: a part of the answer is there before all of it. (How many parts depends on the machine: the model writes fast.)
    page.evaluate(
        "window.seen = []; new MutationObserver(() => { const t = document.querySelector('#t-live .t-text');"
        " if (t) window.seen.push(t.textContent.length); }).observe(document.body, {subtree: true, childList: true, characterData: true})"
    )
    ask(page, QUESTION)
    assert 0 < min(page.evaluate("window.seen")) < len(page.inner_text(".t-answer .t-text"))
    assert "base" == page.inner_text(".t-policy")

    # A citation that opens the document at the place, in a new tab.
    with page.context.expect_page() as opened:
        page.click(".t-text a.t-chip")
    source = opened.value
    source.wait_for_selector("mark")
    assert "leave" in source.inner_text("mark")
    source.close()

    # A rating with a reason, still there when the conversation is opened again.
    page.click("[aria-label='Good answer']")
    page.click(".t-panel label:has-text('correct')")
    page.click(".t-panel button:has-text('Save')")
    page.wait_for_selector(".t-said:has-text('correct')")
    page.reload()
    page.wait_for_selector("[aria-label='Good answer'][aria-pressed=true]")

    # Two answers, blind; the policy is told after the verdict.
    page.goto(f"{address}/compare/")
    page.fill("#t-ask textarea", QUESTION)
    page.keyboard.press("Enter")
    page.wait_for_selector(".t-verdict", timeout=60_000)
    assert "base" not in page.inner_text(".t-pair")
    page.click(".t-verdict button:has-text('A is better')")
    page.wait_for_selector(".t-pair .t-badge:has-text('base')")

    # The final step: ops runs a cycle, and the next answer comes from the policy it made.
    ops = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    sign_in(ops, address, "priya", PASSWORD)
    ops.goto(f"{address}/ops/")
    ops.click("button:has-text('Run a cycle now')")
    ops.click(".t-dialog button:has-text('Run it')")
    ops.wait_for_selector("#t-run .t-steps")
    ops.wait_for_selector(
        "#t-run :is(.t-badge:has-text('promoted'), .t-badge:has-text('failed'))", timeout=CYCLE_MS
    )
    assert "Last run: promoted" in ops.inner_text("#t-run"), ops.inner_text("#t-run")
    ops.context.close()
    page.goto(f"{address}/chat/")
    page.wait_for_selector(".t-hero")
    ask(page, QUESTION)
    assert re.fullmatch(r"ppo-\w+", page.inner_text(".t-policy"))


def test_an_employee_sees_neither_admin_nor_ops(page: Any, address: str) -> None:
    """Not in the header, and not by typing the address."""
    sign_in(page, address, "amina", PASSWORD)

    assert ["Chat", "Compare"] == page.locator(".t-header nav a").all_inner_texts()
    assert 403 == page.goto(f"{address}/ops/").status
    assert 403 == page.goto(f"{address}/admin/").status


def test_markup_in_answers_stays_text(page: Any, address: str, home: Path) -> None:
    """Neither the page nor Gradio's templates make anything of it; the fixture checks that no other host was asked."""
    with open_services(home) as services:
        amina = services.accounts.by_name("amina")
        services.conversations.append_turn(
            amina.id, services.conversations.create(amina.id).id, "Is this a trap?", TRAP, None
        )
    sign_in(page, address, "amina", PASSWORD)

    page.click(".t-open:has-text('Is this a trap?')")
    page.wait_for_selector(".t-turn")

    shown = page.inner_text(".t-answer")
    assert "<img src=http://evil.example/a>" in shown
    assert "{{trap}} ${1+1}" in shown
    assert 0 == page.locator("#t-transcript img").count()


def test_conversations_are_renamed_and_deleted(page: Any, address: str, home: Path) -> None:
    """With a question before deleting, answered by keyboard."""
    with open_services(home) as services:
        jonas = services.accounts.by_name("jonas")
        services.conversations.append_turn(
            jonas.id, services.conversations.create(jonas.id).id, "Old title", "An answer.", None
        )
    sign_in(page, address, "jonas", PASSWORD)

    page.hover(".t-conversations li")
    page.click("[aria-label=Rename]")
    page.fill("input[name=title]", "New title")
    page.keyboard.press("Enter")
    page.wait_for_selector(".t-open:has-text('New title')")
    page.click("[aria-label=Delete]")
    page.wait_for_selector(".t-dialog")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    page.wait_for_selector("text=Your conversations appear here.")


def test_an_upload_goes_through_our_own_route(page: Any, address: str) -> None:
    """The file is read by the worker and appears in the list, without Gradio's cache."""
    sign_in(page, address, "jonas", PASSWORD)
    page.goto(f"{address}/admin/")
    page.wait_for_selector("#t-documents table")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    file = {
        "name": "parking.md",
        "mimeType": "text/markdown",
        "buffer": b"# Parking\n\nThe gate closes at nine.\n",
    }
    page.set_input_files("#t-upload input[type=file]", file)

    page.wait_for_selector("#t-documents :text('parking.md')", timeout=90_000)
    assert any(url.endswith("/api/documents") for url in asked)
    assert not any("gradio_api/upload" in url for url in asked)


def test_signing_out_ends_the_session(page: Any, address: str) -> None:
    """The next click asks for name and password."""
    sign_in(page, address, "amina", PASSWORD)

    page.click("[aria-label='Sign out']")
    page.wait_for_url("**/sign-in**")

    page.goto(f"{address}/chat/")
    assert "/sign-in" in page.url


def test_events_cannot_be_called_from_outside(page: Any, address: str) -> None:
    """Private events are not part of Gradio's interface for programs."""
    sign_in(page, address, "amina", PASSWORD)

    described = page.request.get(f"{address}/chat/gradio_api/info").json()

    assert not described["named_endpoints"]
    assert not described["unnamed_endpoints"]
