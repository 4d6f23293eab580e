"""A real Chromium for the browser tests, and a real `tacit serve` for it to look at."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# A private profile that phones nobody: no updates, no sync, no sandbox that containers refuse.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 180


def find_chromium() -> str:
    """Path of a browser; skips the test loudly without one, and fails it where CI demands one."""
    spec = importlib.util.spec_from_file_location("find_chromium", ROOT / "tools" / "find_chromium.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path: str | None = module.find()
    if path is None:
        message = "NO CHROMIUM: browser tests cannot run; `python tools/find_chromium.py` installs one"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tacit_serve(home: Path, log: Path) -> Iterator[str]:
    """`tacit serve` with its worker, on a free port; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "ui", "serve", "--home", str(home), "--port", str(port)]
    # One thread: the model is tiny, and threads that wait for each other cost more than they bring on a busy machine.
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            wait_until_up(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_up(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers."""
    for _ in range(START_SECONDS * 2):
        if process.poll() is not None:
            pytest.fail(f"tacit serve ended at once:\n{log.read_text()[-3000:]}")
        try:
            urllib.request.urlopen(f"{address}/readyz", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"tacit serve did not come up:\n{log.read_text()[-3000:]}")


def sign_in(page: Any, address: str, name: str, password: str) -> None:
    """Through the form, as a person does."""
    page.goto(f"{address}/sign-in")
    page.fill("input[name=name]", name)
    page.fill("input[name=password]", password)
    page.click("button")
    page.wait_for_url("**/chat/**")
    page.wait_for_selector(".t-hero")
