"""The child process that parses documents: real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.dispatch import load_document
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.process import LoaderProcess
from knowledge_base.loaders.wire import document_from_json, document_to_json

LIMITS = LoadLimits(wall_seconds=60)
HTML = "<html><body><main><h1>Café</h1><p>Twenty words of prose, more or less.</p></main></body></html>"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A small Markdown page with characters beyond ASCII."""
    path = tmp_path / "page.md"
    path.write_text("---\ntitle: Leave\n---\n# Häuser\n\n20 days 🏖\n")
    return path


@pytest.fixture
def loader() -> Iterator[LoaderProcess]:
    """A loader process, ended after the test."""
    with LoaderProcess(LIMITS) as process:
        yield process


def interrupt_load(loader: LoaderProcess, path: Path, interrupt: Callable[[int], None]) -> str:
    """Load with the child stopped, then do something to it; give the error's line."""
    pid = loader.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    errors: list[str] = []

    def load() -> None:
        try:
            loader.load(path)
        except DocumentError as error:
            errors.append(str(error))

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(0.2)  # the request is in the pipe, or will be: the child reads it only once it goes on
    interrupt(pid)
    thread.join(30)
    return errors[0]


def test_the_child_gives_what_loading_here_gives(loader: LoaderProcess, page: Path) -> None:
    """Nothing is lost on the way, whatever the characters."""
    html = page.with_suffix(".html")
    html.write_text(HTML)

    assert load_document(page) == loader.load(page)
    assert load_document(html) == loader.load(html)


def test_one_child_serves_many_documents(loader: LoaderProcess, page: Path) -> None:
    """Starting one for each would cost more than the parsing."""
    loader.load(page)
    pid = loader.child_pid

    loader.load(page)

    assert pid == loader.child_pid is not None


def test_a_childs_error_is_the_loaders_line(loader: LoaderProcess, tmp_path: Path) -> None:
    """A refusal reads the same as without the child, and the child lives on."""
    fake = tmp_path / "fake.pdf"
    fake.write_bytes(b"\x89PNG\r\n\x1a\n\x00")

    with pytest.raises(DocumentError, match=r"fake\.pdf is not a PDF but a PNG image"):
        loader.load(fake)

    assert loader.child_pid is not None


def test_a_crash_costs_one_document(loader: LoaderProcess, page: Path) -> None:
    """The next document gets a fresh child."""
    loader.load(page)
    before = loader.child_pid

    line = interrupt_load(loader, page, lambda pid: os.kill(pid, signal.SIGKILL))

    assert "page.md crashed the parser (SIGKILL" in line
    assert "Leave" == loader.load(page).title
    assert before != loader.child_pid


def test_a_child_that_died_between_documents_is_replaced(loader: LoaderProcess, page: Path) -> None:
    """Nobody notices."""
    loader.load(page)
    assert loader._child is not None
    loader._child.kill()
    loader._child.wait()

    assert "Leave" == loader.load(page).title


def test_too_much_processor_time_is_said_so(loader: LoaderProcess, page: Path) -> None:
    """The system's signal for it is put into words."""
    loader.load(page)

    def exceed(pid: int) -> None:
        os.kill(pid, signal.SIGXCPU)
        os.kill(pid, signal.SIGCONT)

    assert "took more than 120 seconds of processor time" in interrupt_load(loader, page, exceed)


def test_a_document_that_takes_too_long_is_given_up(page: Path) -> None:
    """The child is ended, and the next document is read by another."""
    with LoaderProcess(replace(LIMITS, wall_seconds=30)) as loader:
        loader.load(page)
        loader._limits = replace(LIMITS, wall_seconds=0.3)

        line = interrupt_load(loader, page, lambda pid: None)

        assert "page.md took longer than 0.3 seconds to read" in line
        assert loader.child_pid is None
        assert "Leave" == loader.load(page).title


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_AS")
def test_a_document_beyond_the_memory_limit_is_refused(tmp_path: Path, page: Path) -> None:
    """The limit holds in the child; the next document is read."""
    greedy = tmp_path / "greedy.txt"
    greedy.write_text("many words " * 4_000_000)

    with LoaderProcess(
        replace(LIMITS, memory_bytes=110 * 1024 * 1024, max_text_characters=100_000_000)
    ) as loader:
        with pytest.raises(DocumentError, match=r"greedy\.txt (needs more than|crashed the parser).*110 MiB"):
            loader.load(greedy)

        assert "Leave" == loader.load(page).title


def test_the_child_is_replaced_after_its_share_of_documents(page: Path) -> None:
    """Leaks in parsers do not add up."""
    with LoaderProcess(replace(LIMITS, documents_per_child=1)) as loader:
        loader.load(page)
        first = loader.child_pid
        loader.load(page)

        assert first != loader.child_pid


def test_closing_ends_the_child(page: Path) -> None:
    """No process is left behind."""
    with LoaderProcess(LIMITS) as loader:
        loader.load(page)
        child = loader._child
        assert child is not None

    assert child.poll() is not None
    assert loader.child_pid is None


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('example.com', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
    ],
)
def test_python_in_the_child_reaches_neither_network_nor_programs(attempt: str) -> None:
    """The guard that the child puts up refuses them."""
    guarded = (
        f"import sys; from knowledge_base.loaders.child import _forbid; sys.addaudithook(_forbid); {attempt}"
    )
    done = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True, check=False)

    assert "PermissionError: documents are read without" in done.stderr


def test_the_child_imports_no_model_libraries() -> None:
    """It starts in a fraction of a second."""
    probe = "import sys, knowledge_base.loaders.child; print(sorted({'torch', 'transformers', 'sqlalchemy', 'docx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


def test_what_a_child_sends_is_checked(page: Path) -> None:
    """Sections that do not cover the text are refused, whatever wrote them."""
    value = document_to_json(load_document(page))
    assert load_document(page) == document_from_json(value)

    with pytest.raises(ValueError, match="sections end at"):
        document_from_json({**value, "text": "longer " + value["text"]})
    with pytest.raises(TypeError, match="title must be str"):
        document_from_json({**value, "title": 3})
