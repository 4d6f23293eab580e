"""The child process of the loaders: reads paths as lines of JSON, writes parsed documents as lines of JSON.

Runs as `python -m knowledge_base.loaders.child LIMITS`. It limits itself before it reads anything: memory, processor time,
open files, no core dumps, no writing to files; and Python code in it can neither open a connection nor start a program.
That last guard is an audit hook: it stops a parser that follows a link, not machine code injected through a
flaw in a C library. Imports loaders only, so it starts in a fraction of a second.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from knowledge_base.errors import DocumentError
from knowledge_base.loaders.dispatch import load_document
from knowledge_base.loaders.limits import LoadLimits
from knowledge_base.loaders.wire import document_to_json

_MAX_OPEN_FILES = 64
_FORBIDDEN = frozenset(
    "socket.connect socket.bind socket.getaddrinfo socket.gethostbyname socket.sendto socket.sendmsg subprocess.Popen "  # noqa: SIM905 - words read best as words
    "os.system os.exec os.posix_spawn os.spawn os.startfile os.fork os.forkpty pty.spawn".split()
)


def main(arguments: list[str]) -> int:
    """Serve until the input ends."""
    limits = LoadLimits(**json.loads(arguments[0]))
    # Whatever a library prints must not end up between our lines.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_process(limits)
    sys.addaudithook(_forbid)
    for line in sys.stdin.buffer:
        _allow_processor_time(limits.cpu_seconds)
        _answer(answers, _load(Path(json.loads(line)["path"]), limits))
    return 0


def _load(path: Path, limits: LoadLimits) -> dict[str, Any]:
    try:
        return {"document": document_to_json(load_document(path, limits=limits))}
    except DocumentError as error:
        return {"error": str(error), "is_exhausted": isinstance(error.__cause__, MemoryError)}


def _answer(answers: BinaryIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value).encode("ascii") + b"\n")
    answers.flush()


def _forbid(event: str, _arguments: tuple[object, ...]) -> None:
    if event in _FORBIDDEN:
        raise PermissionError(f"documents are read without {event}")


def _limit_process(limits: LoadLimits) -> None:
    try:
        import resource
    except ImportError:
        return  # Windows: the parent's time limit holds alone
    wanted = (
        ("RLIMIT_AS", limits.memory_bytes),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", _MAX_OPEN_FILES),
    )
    for name, value in wanted:
        limit = getattr(resource, name, None)
        if limit is None:
            continue
        _, hard = resource.getrlimit(limit)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(limit, (allowed, allowed))
        except (ValueError, OSError):
            # macOS refuses RLIMIT_AS; the other limits still hold.
            sys.stderr.write(f"{name} cannot be limited here\n")


def _allow_processor_time(seconds: int) -> None:
    """Move the limit ahead of what is used already: it counts for the process, we allow it for each document."""
    try:
        import resource
    except ImportError:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
