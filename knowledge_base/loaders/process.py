"""Parses documents in a child process with limits, so that a hostile or broken file can cost that file only.

The child is kept alive between documents, since starting it takes longer than reading most of them. It is started
afresh after a crash, a timeout, an exhausted memory, and now and then anyway. Parent and child exchange lines of
JSON over pipes and nothing else: what comes back from parsing an untrusted file is never unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

import knowledge_base
from knowledge_base.errors import DocumentError
from knowledge_base.loaders.dispatch import DEFAULT_LIMITS, check_file
from knowledge_base.loaders.limits import LoadLimits, in_units
from knowledge_base.loaders.wire import document_from_json
from knowledge_base.records import ParsedDocument

_log = structlog.get_logger(__name__)

_STOP_SECONDS = 2.0
_START_SECONDS = 60.0
"""How long an idle machine may take to start Python; beyond the document's own time."""
_BYTES_PER_CHARACTER = 6
"""A character outside ASCII in JSON, `\\uXXXX`; two of them outside the basic plane."""
_STRUCTURE_BYTES = 64 * 1024 * 1024
"""Room for sections and metadata in a child's line."""


class _ChildFailedError(Exception):
    """The child ended or fell silent; the message says which, in words that follow the document's name."""


class LoaderProcess:
    """Loads documents in a child process; use it as a context manager, from any thread.

    >>> with LoaderProcess() as loader:                    # doctest: +SKIP
    ...     loader.load(Path("leave.pdf")).title
    'Leave policy'
    """

    def __init__(self, limits: LoadLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        self._n_loaded = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """Process id of the running child; None when there is none."""
        return self._child.pid if self._child is not None else None

    def load(self, path: Path) -> ParsedDocument:
        """Parse one document; the next one is not affected, whatever happens to this one.

        Raises:
            DocumentError: one line that names the file, what is wrong with it, and what to do.
        """
        check_file(path, self._limits)
        with self._lock:
            try:
                answer = self._ask(path)
            except _ChildFailedError as failure:
                self._kill()
                _log.warning("loader_child_failed", document=path.name, reason=str(failure))
                raise DocumentError(
                    f"{path.name} {failure}: leave it out, or save it in another format and ingest again"
                ) from failure
        if "error" in answer:
            raise DocumentError(str(answer["error"]))
        try:
            return document_from_json(answer["document"])
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError(
                f"{path.name} was read into something unusable ({error}): leave it out"
            ) from error

    def close(self) -> None:
        """Stop the child; a later `load` starts another."""
        with self._lock:
            if self._child is not None and self._child.stdin is not None:
                with contextlib.suppress(OSError):  # it may have died already
                    self._child.stdin.close()  # an end of input tells it to leave
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(_STOP_SECONDS)
            self._kill()

    def _ask(self, path: Path) -> dict[str, Any]:
        if (
            self._child is None
            or self._child.poll() is not None
            or self._n_loaded >= self._limits.documents_per_child
        ):
            self._kill()
            self._child = _start(self._limits)
            self._n_loaded = 0
            extra_seconds = _START_SECONDS
        else:
            extra_seconds = 0.0
        self._n_loaded += 1
        answer = self._exchange(self._child, str(path.absolute()), extra_seconds)
        if answer.get("is_exhausted"):
            self._kill()  # after a failed allocation nothing in that process can be relied on
        return answer

    def _exchange(self, child: subprocess.Popen[bytes], path: str, extra_seconds: float) -> dict[str, Any]:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({"path": path}).encode() + b"\n")
            child.stdin.flush()
        except OSError as error:
            raise _ChildFailedError(self._ending(child)) from error
        line = self._read_line(child, self._limits.wall_seconds + extra_seconds)
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise _ChildFailedError("made the parser write nonsense") from error
        if not isinstance(answer, dict):
            raise _ChildFailedError("made the parser write nonsense")
        return answer

    def _read_line(self, child: subprocess.Popen[bytes], seconds: float) -> bytes:
        assert child.stdout is not None
        limit = _BYTES_PER_CHARACTER * self._limits.max_text_characters + _STRUCTURE_BYTES
        is_late = threading.Event()

        def expire() -> None:
            is_late.set()
            child.kill()

        # A timer and a blocking read rather than select: Windows cannot select on pipes.
        timer = threading.Timer(seconds, expire)
        timer.start()
        try:
            line = child.stdout.readline(limit)
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            return line
        if is_late.is_set():
            raise _ChildFailedError(f"took longer than {self._limits.wall_seconds:g} seconds to read")
        if len(line) >= limit:
            raise _ChildFailedError("made the parser write without end")
        raise _ChildFailedError(self._ending(child))

    def _ending(self, child: subprocess.Popen[bytes]) -> str:
        """Say how the child ended."""
        try:
            code = child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "made the parser close its output"
        if code >= 0:
            return f"ended the parser (exit code {code})"
        name = signal.Signals(-code).name
        if name == "SIGXCPU":
            return f"took more than {self._limits.cpu_seconds} seconds of processor time to read"
        return f"crashed the parser ({name}; its memory limit is {in_units(self._limits.memory_bytes)})"

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent input of a dead child
                    pipe.close()


def _start(limits: LoadLimits) -> subprocess.Popen[bytes]:
    package_root = Path(knowledge_base.__file__).resolve().parents[1]
    environment = {
        name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP") if name in os.environ
    }
    environment |= {"PYTHONPATH": str(package_root), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    # -P: the working directory may be a folder of documents, and holds no modules of ours. -B: the child writes no files.
    command = [sys.executable, "-P", "-B", "-m", "knowledge_base.loaders.child", json.dumps(asdict(limits))]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the parent, which then ends the child
    )
