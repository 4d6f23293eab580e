"""`tacit users`: accounts, their roles and groups."""

from __future__ import annotations

import click

from ui.cli_documents import OPERATOR
from ui.cli_output import Context, command_options, table


@click.group()
def users() -> None:
    """Add, list, disable and delete accounts."""


@users.command("add")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["employee", "admin", "ops"]), default="employee", show_default=True
)
@click.option("--groups", default="", help="Comma-separated groups, for restricted collections.")
@click.option(
    "--password",
    envvar="TACIT_PASSWORD",
    help="Read from TACIT_PASSWORD if not given; else one is made and shown once.",
)
@command_options
def add_user(context: Context, name: str, role: str, groups: str, password: str | None) -> None:
    """Make an account."""
    from chatbot.passwords import generate_password
    from ui.wiring import open_services

    chosen = password or generate_password()
    with open_services(context.home, create=True) as services:
        user = services.accounts.add(
            name, role=role, groups=[g.strip() for g in groups.split(",") if g.strip()], password=chosen
        )
        services.audit.record(OPERATOR, "user.add", user.name, role=role)
    payload = {"id": user.id, "name": user.name, "role": user.role, "groups": sorted(user.groups)}
    if password:
        context.emit(payload, f"added {user.name} ({user.role})")
    else:
        context.emit(payload | {"password": chosen}, f"added {user.name} ({user.role}), password: {chosen}")


@users.command("list")
@command_options
def list_users(context: Context) -> None:
    """All accounts."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        found = services.accounts.list()
    rows = [[u.name, u.role, ", ".join(sorted(u.groups)), "disabled" if u.disabled_at else ""] for u in found]
    payload = [
        {"id": u.id, "name": u.name, "role": u.role, "groups": sorted(u.groups), "disabled_at": u.disabled_at}
        for u in found
    ]
    context.emit({"users": payload}, table(rows, ["name", "role", "groups", "state"]))


@users.command("disable")
@click.argument("name")
@command_options
def disable_user(context: Context, name: str) -> None:
    """Close an account: sessions and keys stop working at once; its judgements leave the next training data."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        user = services.accounts.disable(services.accounts.by_name(name).id)
        services.audit.record(OPERATOR, "user.disable", user.name)
    context.emit({"name": user.name, "disabled_at": user.disabled_at}, f"disabled {user.name}")


@users.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_options
def delete_user(context: Context, name: str, yes: bool) -> None:
    """Erase a person: account, conversations, judgements, in training runs too. Documents they uploaded stay."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        user = services.accounts.by_name(name)
        if not yes:
            click.confirm(
                f"Delete {user.name} with all they asked and judged? This cannot be undone",
                abort=True,
                err=True,
            )
        erasure = services.delete_user(user.id, actor=OPERATOR)
    payload = {
        "deleted": user.name,
        "recorded_as": erasure.subject,
        "snapshot_rows": erasure.n_rows,
        "cancelled_run": erasure.cancelled_run,
        "policies_that_learned_from_it": list(erasure.policies),
    }
    context.emit(payload, f"deleted {user.name}. {erasure.advice()}".strip())


@users.command("key")
@click.argument("name")
@click.option("--label", default="key", show_default=True, help="What the key is for.")
@command_options
def make_key(context: Context, name: str, label: str) -> None:
    """Make a bearer key for a program that acts as this person; it is shown once."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        key, secret = services.api_keys.create(services.accounts.by_name(name).id, label)
        services.audit.record(OPERATOR, "key.create", name, key=key.id)
    context.emit({"id": key.id, "key": secret}, f"key for {name}: {secret}")
