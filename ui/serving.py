"""`tacit serve` and `tacit worker` as processes: uvicorn in this one, the worker in a child, both ending cleanly on SIGTERM.

The worker is a process of its own so that training takes its memory and its crashes with it. Knows nothing of pages or jobs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from knowledge_base.errors import StorageError, UsageError
from ui.cli_output import Context
from ui.logging import configure_logging

if TYPE_CHECKING:
    from ui.wiring import Services

log = structlog.get_logger(__name__)

LOCAL_HOSTS = ("127.0.0.1", "0.0.0.0")  # noqa: S104 -- compared with, not bound to
WORKER_STOP_SECONDS = 20
"""How long a worker may take to finish its step before it is killed."""
WORKER_RESTART_SECONDS = 5.0
"""Between the death of a worker and the start of the next."""


def serve(context: Context, *, host: str, port: int, with_worker: bool) -> None:
    """Serve until stopped.

    Raises:
        UsageError: the port is taken.
    """
    from ui.wiring import open_services

    configure_logging(debug=context.debug, verbose=True)
    check_port(host, port)
    with (
        open_services(context.home, create=True) as services,
        worker_beside(context.home, enabled=with_worker),
    ):
        run_uvicorn(services, host=host, port=port, note=context.note)


def check_port(host: str, port: int) -> None:
    """Fail early, in one line, when the port cannot be had.

    Raises:
        UsageError: it is taken or not allowed.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port"
            ) from error


def run_uvicorn(services: Services, *, host: str, port: int, note: Callable[[str], None]) -> None:
    """Run the web application in this process; `note` is told the address."""
    import torch
    import uvicorn

    from ui.server import create_app

    torch.set_num_threads(services.settings.server.threads or max(1, (os.cpu_count() or 1) // 2))
    # Before the server starts: a model that cannot be loaded is one clear line then, and not a traceback of the server's.
    services.warm_up()
    app = create_app(services)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        # Answers stream for a while: let them end, but do not wait for ever for an open tab.
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    note(f"Tacit is at http://{'localhost' if host in LOCAL_HOSTS else host}:{port}/  (Ctrl-C stops it)")
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise StorageError("the server could not start: the lines above say why")


@contextmanager
def worker_beside(home: Path, *, enabled: bool) -> Iterator[None]:
    """Run a worker process as long as the block runs, and a new one when it dies."""
    if not enabled:
        yield
        return
    stop = threading.Event()
    keeper = threading.Thread(target=_keep_worker, args=(home, stop), name="worker-keeper")
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()


def _keep_worker(home: Path, stop: threading.Event) -> None:
    while True:
        process = _start_worker(home)
        while process.poll() is None and not stop.wait(0.2):
            pass
        if stop.is_set():
            _end_worker(process)
            return
        # Training may have run out of memory: uploads must go on, and the run is taken up or given up by the next worker.
        log.error("worker_died", exit_code=process.returncode, again_in_seconds=WORKER_RESTART_SECONDS)
        if stop.wait(WORKER_RESTART_SECONDS):
            return


def _start_worker(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ui", "worker", "--home", str(home.resolve())]
    environment = {**os.environ, "TACIT_PARENT_PID": str(os.getpid())}
    # Its stdout would end up in ours, which belongs to the one JSON object. Its session is its own: Ctrl-C is for us to pass on.
    return subprocess.Popen(  # noqa: S603 -- our own interpreter and module
        command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def _end_worker(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(WORKER_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("worker_killed", after_seconds=WORKER_STOP_SECONDS)
        process.kill()
        process.wait()


def run_worker(context: Context, *, once: bool) -> None:
    """Work until stopped, or once."""
    from ui.wiring import open_services
    from ui.worker import Worker

    configure_logging(debug=context.debug, verbose=True)
    parent = os.environ.get("TACIT_PARENT_PID")
    with open_services(context.home, create=True) as services:
        worker = Worker(services, parent_pid=int(parent) if parent else None)
        if once:
            done = worker.run_once()
            context.emit({"jobs": done}, f"{done} jobs done")
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: worker.stop())
        worker.run()
    context.emit({"stopped": True}, "worker stopped")
