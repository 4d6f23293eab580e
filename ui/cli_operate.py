"""`tacit init`, `doctor`, `backup`, `restore`, `audit`: looking after an installation."""

from __future__ import annotations

from pathlib import Path

import click

from ui.cli_documents import OPERATOR
from ui.cli_output import Context, command_options, table


@click.command()
@command_options
def init(context: Context) -> None:
    """Make the home directory and its database; safe to repeat."""
    from ui.wiring import open_services

    with open_services(context.home, create=True) as services:
        serving = services.registry.serving().id
    context.emit(
        {"home": context.home, "serving": serving}, f"{context.home} is ready; policy {serving} serves"
    )


@click.command()
@command_options
def doctor(context: Context) -> None:
    """Check this machine and this home, and say what would help."""
    from ui.checks import run_checks

    checks = run_checks(context.home)
    rows = [["ok" if c.passed else "PROBLEM", c.name, c.detail] for c in checks]
    payload = {"checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks]}
    context.emit(payload, table(rows, ["", "check", "detail"]))
    if not all(c.passed for c in checks):
        raise click.exceptions.Exit(1)


@click.command()
@command_options
def reembed(context: Context) -> None:
    """Compute all vectors anew, after another embedder was set in settings.toml."""
    from knowledge_base.reembedding import reembed as compute_vectors
    from ui.wiring import open_services

    with open_services(context.home) as services:
        n_chunks = compute_vectors(services.db, services.embedder)
        services.audit.record(OPERATOR, "reembed", services.embedder.version, chunks=n_chunks)
        version = services.embedder.version
    context.emit(
        {"chunks": n_chunks, "embedder": version}, f"{n_chunks} chunks have vectors of {version} now"
    )


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@command_options
def backup(context: Context, out: Path) -> None:
    """Write everything but training checkpoints to one file OUT, while the server runs."""
    from ui.backup import write_backup

    size = write_backup(context.home, out)
    context.emit({"backup": out, "bytes": size}, f"{out}: {size / 1e6:.1f} MB")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@command_options
def restore(context: Context, file: Path) -> None:
    """Make the home directory from a backup FILE; refuses one that is not empty."""
    from ui.backup import restore_backup

    restore_backup(file, context.home)
    context.emit({"home": context.home}, f"restored {file} to {context.home}")


@click.group()
def audit() -> None:
    """Who did what."""


@audit.command("list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1))
@click.option("--action", help="Only this action.")
@command_options
def list_audit(context: Context, limit: int, action: str | None) -> None:
    """The newest events of the audit trail."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        events = services.audit.list(limit=limit, action=action)
    rows = [[f"{e.at:%Y-%m-%d %H:%M:%S}", e.actor, e.action, e.subject] for e in events]
    payload = [
        {"at": e.at, "actor": e.actor, "action": e.action, "subject": e.subject, "detail": e.detail}
        for e in events
    ]
    context.emit({"events": payload}, table(rows, ["at (UTC)", "actor", "action", "subject"]))
