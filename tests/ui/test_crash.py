"""`kill -9` in the middle: what was acknowledged is there, the rest is taken up again."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tiny_home import TINY_CYCLE
from tests.ui.cli_runs import call
from ui.wiring import CYCLE_JOB, open_services
from ui.worker import Worker

pytestmark = [pytest.mark.crash, pytest.mark.slow]

DOCUMENTS = 40
PATIENCE_SECONDS = 120


@contextmanager
def _process(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real `tacit` process, killed at the end in any case."""
    process = subprocess.Popen([sys.executable, "-m", "ui", *map(str, arguments)], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "it never got there"
        time.sleep(0.02)


def _kill(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    assert -signal.SIGKILL == process.wait()


def _rows(home: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{home / 'tacit.db'}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def _stored(home: Path) -> set[str]:
    query = (
        "SELECT d.path FROM documents d JOIN collections c ON c.id = d.collection_id WHERE c.name = 'rules'"
    )
    rows = _rows(home, query)
    assert len(rows) == len(set(rows))
    return {path for (path,) in rows}


def test_an_ingest_killed_in_the_middle_goes_on_where_it_stopped(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each document is whole or absent; the second run skips what is there, adds the rest, and nothing is there twice."""
    home, folder = tiny / "home", tiny / "rules"
    folder.mkdir()
    for n in range(DOCUMENTS):
        (folder / f"{n:02d}.md").write_text(f"# Rule {n}\n\n" + f"Rule {n} has many words to read. " * 60)
    (home / "settings.toml").open("a").write("[ingestion]\nchunks_per_batch = 1\n")
    with _process("ingest", folder, "--collection", "rules", "--home", home) as process:
        _wait_for(lambda: len(_stored(home)) >= 3, process)
        _kill(process)
    survived = _stored(home)
    assert 3 <= len(survived) < DOCUMENTS
    assert [("ok",)] == _rows(home, "PRAGMA integrity_check")
    found = call(capsys, home, "search", f"What does rule {min(survived)[:2]} say?", "--collection", "rules")
    assert found["passages"]

    report = call(capsys, home, "ingest", folder, "--collection", "rules")

    assert (len(survived), DOCUMENTS - len(survived), []) == (
        report["skipped"],
        report["documents"],
        report["failed"],
    )
    assert {f"{n:02d}.md" for n in range(DOCUMENTS)} == _stored(home)
    assert [("ok",)] == _rows(home, "PRAGMA integrity_check")
    originals = {path.name for path in (home / "files").iterdir() if path.suffix != ".part"}
    assert {row[0] for row in _rows(home, "SELECT id FROM documents")} <= originals


def test_a_cycle_whose_worker_is_killed_is_finished_by_the_next(tiny: Path) -> None:
    """The same run: the snapshot is not taken again, and a policy comes out."""
    home = tiny / "home"
    with open_services(home) as services:
        overrides = [*TINY_CYCLE, "sft.max_steps=60", "sft.save_steps=10"]
        run = services.request_cycle(actor="priya", overrides=overrides)
    with _process("worker", "--home", home) as process:
        _wait_for(lambda: _progress(home).get("stage") == "sft" and _progress(home)["done"] >= 12, process)
        _kill(process)
    taken = run.directory / "snapshot" / "done.json"
    assert [("running",)] == _rows(home, "SELECT state FROM runs")
    before = taken.stat().st_mtime_ns
    time.sleep(0.2)
    with open_services(home) as services:
        assert Worker(services, stale_after=timedelta(seconds=0.1)).run_once() == 1
        done = services.runs.get(run.id)
        job = services.jobs.list_jobs(kinds=[CYCLE_JOB])[0]

    assert ("done", "done", 2) == (done.state, job.state, job.attempts)
    assert before == taken.stat().st_mtime_ns
    assert done.policy_id
    assert [("ok",)] == _rows(home, "PRAGMA integrity_check")


def _progress(home: Path) -> dict[str, Any]:
    stored = json.loads(_rows(home, "SELECT progress FROM runs")[0][0])
    assert isinstance(stored, dict)
    return stored


def test_a_training_command_that_is_killed_leaves_a_run_marked_failed(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody takes it up by itself; the reason names the command that does, and a new run is not blocked."""
    home = tiny / "home"
    overrides = [part for text in (*TINY_CYCLE, "sft.max_steps=400") for part in ("--set", text)]
    with _process("train", "sft", *overrides, "--home", home) as process:
        _wait_for(lambda: bool(_rows(home, "SELECT 1 FROM runs WHERE state = 'running'")), process)
        _kill(process)
    tiny_sft = [part for text in TINY_CYCLE for part in ("--set", text)]
    second = call(capsys, home, "train", "sft", *tiny_sft)
    runs = call(capsys, home, "runs", "list")["runs"]

    assert [(second["run"], "done"), (runs[1]["id"], "failed")] == [(run["id"], run["state"]) for run in runs]
    assert f"tacit runs resume {runs[1]['id']}" in runs[1]["reason"]


def test_a_worker_told_to_stop_puts_its_cycle_back(tiny: Path) -> None:
    """SIGTERM: it ends by itself with code 0, and the run waits for the next worker."""
    home = tiny / "home"
    with open_services(home) as services:
        services.request_cycle(actor="priya", overrides=[*TINY_CYCLE, "sft.max_steps=4000"])
    with _process("worker", "--home", home) as process:
        _wait_for(lambda: _progress(home).get("stage") == "sft", process)
        process.terminate()
        assert 0 == process.wait(PATIENCE_SECONDS)

    assert [("queued", 0)] == _rows(home, "SELECT state, attempts FROM jobs")
    assert [("running",)] == _rows(home, "SELECT state FROM runs")


def test_an_acknowledged_upload_survives_the_death_of_server_and_worker(tiny: Path) -> None:
    """The server is killed the moment it has said 202; its worker ends by itself, and the next one ingests."""
    home = tiny / "home"
    with open_services(home) as services:
        _, key = services.api_keys.create(services.accounts.add("jonas", role="admin").id, "test")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with _process("serve", "--port", str(port), "--home", home) as server:
        _wait_for(lambda: _answers(f"{address}/readyz"), server)
        worker = _children(server.pid)
        accepted = httpx.post(
            f"{address}/api/documents",
            headers={"authorization": f"Bearer {key}"},
            files={"file": ("lunch.md", b"# Lunch\n\nLunch is at noon in the canteen.\n")},
            data={"collection": "handbook"},
        )
        _kill(server)
    assert 202 == accepted.status_code
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in worker):
        assert time.monotonic() < deadline, "the worker outlived its server"
        time.sleep(0.1)
    with open_services(home) as services:
        Worker(services, stale_after=timedelta(0)).run_once()

        assert "done" == services.jobs.get(accepted.json()["job"]).state
        assert "lunch.md" in {document.path for document in services.knowledge.list_documents("handbook")}


def _children(pid: int) -> list[str]:
    # Of all threads: the worker was started by another than the first.
    lists = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    found = [child for children in lists for child in children]
    assert found, "the server has no worker"
    return found


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.TransportError:
        return False
