"""Homes opened: which model answers, what the environment changes, and that a home may be moved."""

from __future__ import annotations

import json
import shutil
import stat
import time
from pathlib import Path

import pytest

from alignment.run_start import RunStart, begin
from chatbot.errors import GenerationError
from chatbot.openai_generator import OpenAIGenerator
from chatbot.records import PolicyVersion
from knowledge_base.database import now
from knowledge_base.errors import AccessDeniedError, UsageError
from tests.fakes import FakeEmbedder
from tests.ui.page_fakes import ScriptedPolicies, add_user
from ui.demo import PASSWORDS_FILE, ingest_sample, make_accounts
from ui.home import open_home
from ui.run_settings import changed_settings, load_training_settings
from ui.serving import check_port, worker_beside
from ui.settings import load_settings
from ui.wiring import EMBEDDED_MODEL, EVERYONE, Services, open_services


def test_the_embedded_model_answers_unless_told_otherwise(services: Services) -> None:
    """No hub id anywhere."""
    assert (str(EMBEDDED_MODEL), "base") == (
        services.registry.serving().path,
        services.registry.serving().stage,
    )


def test_a_model_at_another_server_is_asked_there(page_home: Path) -> None:
    """And not looked for on a hub."""
    (page_home / "settings.toml").write_text('[model]\nexternal = "gpt"\n')

    with open_services(page_home) as services:
        assert isinstance(services.serving.generator(), OpenAIGenerator)


def test_the_base_model_can_be_changed_and_changed_back(page_home: Path, tmp_path: Path) -> None:
    """The row follows the settings; a name at another server does not stick."""
    for text, path, stage in (
        ('[model]\nexternal = "gpt"\n', "gpt", "external"),
        (f'[model]\nbase = "{tmp_path}"\n', str(tmp_path), "base"),
        ("", str(EMBEDDED_MODEL), "base"),
    ):
        (page_home / "settings.toml").write_text(text)
        with open_services(page_home) as services:
            assert (path, stage) == (services.registry.get("base").path, services.registry.get("base").stage)


def test_a_moved_home_finds_its_bundles_and_runs(page_home: Path, tmp_path: Path) -> None:
    """Paths in the database are those of the day they were written."""
    with open_services(page_home) as services:
        bundle = services.home.policies / "sft-1"
        bundle.mkdir()
        services.registry.add(
            PolicyVersion(
                id="sft-1",
                stage="sft",
                state="candidate",
                parent="base",
                path=str(bundle),
                created_at=now(),
                metrics={},
                gates=(),
                manifest={},
                reason="",
            )
        )
        run = services.runs.create("cycle", {})
    shutil.move(page_home, tmp_path / "elsewhere")

    with open_services(tmp_path / "elsewhere") as services:
        assert str(tmp_path / "elsewhere" / "policies" / "sft-1") == services.registry.get("sft-1").path
        assert services.runs.get(run.id).directory.is_dir()


def test_a_home_is_remembered_by_its_absolute_path(page_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next command may be started elsewhere."""
    monkeypatch.chdir(page_home.parent)

    assert page_home == open_home(Path("home"), create=False).path


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """TACIT_ + section + _ + field."""
    (tmp_path / "settings.toml").write_text("[assistant]\ntop_k = 3\n")
    home = open_home(tmp_path, create=False)

    assert 3 == load_settings(home, {}).assistant.top_k
    assert 5 == load_settings(home, {"TACIT_ASSISTANT_TOP_K": "5"}).assistant.top_k


@pytest.mark.parametrize("variable", ["TACIT_ASSISTANT_TOPK", "TACIT_PPO_STEPS"])
def test_a_variable_that_sets_nothing_is_refused(variable: str, tmp_path: Path) -> None:
    """A slip of the pen, or a training section, which only the file and --set can change."""
    with pytest.raises(UsageError, match=variable):
        load_settings(open_home(tmp_path, create=True), {variable: "5"})


def test_a_disabled_person_is_no_reader(services: Services) -> None:
    """Nowhere in the product."""
    ann = add_user(services, "ann")
    services.accounts.disable(ann.id)

    with pytest.raises(AccessDeniedError, match="disabled"):
        services.reader("ann")


def test_opening_and_closing_a_collection_is_audited(services: Services) -> None:
    """Whom it was for, too."""
    services.change_readers("hr-files", EVERYONE, allow=True, actor="jonas")
    event = services.audit.list(limit=1)[0]

    assert ("jonas", "collection.grant", "hr-files") == (event.actor, event.action, event.subject)
    assert EVERYONE == event.detail["group"]


def test_an_empty_home_warms_up(tmp_path: Path) -> None:
    """Nothing was ingested yet: the server must start all the same."""
    with open_services(tmp_path / "new", create=True) as services:
        services.__dict__["embedder"] = services.__dict__["evidence_embedder"] = FakeEmbedder()
        services.__dict__["answer_judge"] = None
        services.__dict__["serving"] = ScriptedPolicies(services)
        services.warm_up()

        assert services.readiness_problem() is None


def test_a_model_that_cannot_be_loaded_is_one_clear_line(page_home: Path) -> None:
    """Before the server starts."""
    (page_home / "settings.toml").write_text('[model]\nbase = "/no/such/model"\n')

    with open_services(page_home) as services, pytest.raises(GenerationError, match="/no/such/model"):
        services.warm_up()


# The demo


def test_the_demo_can_be_repeated(tmp_path: Path) -> None:
    """Nothing is done twice and the passwords stay; only the owner of the home can read them."""
    with open_services(tmp_path / "home", create=True) as services:
        services.__dict__["embedder"] = services.__dict__["evidence_embedder"] = FakeEmbedder()
        services.__dict__["answer_judge"] = None
        first, accounts = ingest_sample(services), make_accounts(services)
        again = ingest_sample(services)

        assert [] == [failure for report in first for failure in report.failed]
        assert sum(report.documents for report in first) == sum(report.skipped for report in again) > 30
        assert accounts == make_accounts(services)
        assert {"employee", "admin", "ops"} == {account.role for account in accounts}
        assert services.starters()
        for account in accounts:
            assert services.sign_in_and_audit(account.name, account.password)
    file = tmp_path / "home" / PASSWORDS_FILE
    assert {account.name: account.password for account in accounts} == json.loads(file.read_text())
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)


# Processes


def test_a_port_that_is_taken_is_named() -> None:
    """With the option that chooses another."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="--port"):
            check_port("127.0.0.1", taken.getsockname()[1])


def test_a_worker_that_dies_is_replaced_and_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads go on when training ran out of memory."""
    import subprocess
    import sys

    import ui.serving

    started: list[subprocess.Popen[bytes]] = []

    def start(_home: Path) -> subprocess.Popen[bytes]:
        seconds = 0 if not started else 600
        started.append(subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"]))
        return started[-1]

    monkeypatch.setattr(ui.serving, "_start_worker", start)
    monkeypatch.setattr(ui.serving, "WORKER_RESTART_SECONDS", 0.01)
    with worker_beside(tmp_path, enabled=True):
        for _ in range(600):
            if len(started) == 2:
                break
            time.sleep(0.05)

    assert 2 == len(started)
    assert all(process.poll() is not None for process in started)


def test_a_run_says_which_settings_are_not_what_they_were(services: Services) -> None:
    """Its overrides count as they did; before it has begun nothing can differ."""
    run = services.runs.create("cycle", {"overrides": ["ppo.steps=3"]})
    assert [] == changed_settings(services, run.id)
    began = load_training_settings(services, ["ppo.steps=3", "sft.epochs=2"])
    begin(run.directory, RunStart(settings=began, base="base", base_hash="abc", parent="base"))

    assert ["sft.epochs: 2.0, today 1.0"] == changed_settings(services, run.id)
