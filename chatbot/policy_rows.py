"""Policies and promotions in the database: found, changed, read as versions; and which policy serves.

Every function works in the caller's transaction. Knows nothing of who may promote what, of audit events or of bundles. Different from an
object-relational mapper: rows are read when asked for and written by name, and nothing remembers them between transactions.
"""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from chatbot import tables
from chatbot.errors import PolicyError
from chatbot.records import PolicyVersion
from knowledge_base.errors import NotFoundError

DELETED_SINCE = "data_deleted_since"
"""In a policy's manifest: when something that it learned from was deleted, the last time."""


def lock_all(connection: Connection) -> None:
    """Hold all policies until the transaction ends."""
    # Two promotions at once wait for each other here; on SQLite the transaction itself already does that.
    connection.execute(sa.select(tables.policies.c.id).order_by(tables.policies.c.id).with_for_update()).all()


def serving_id(connection: Connection) -> str | None:
    """The policy that serves; None when none was ever promoted."""
    promotions = tables.promotions
    newest = sa.select(promotions.c.policy_id).order_by(promotions.c.id.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none()


def rollback_targets(connection: Connection) -> list[str]:
    """What served before, latest first: the history of promotions read as a stack, which a roll-back has popped.

    Raises:
        PolicyError: nothing else served before, or only what was rejected since.
    """
    promotions, policies = tables.promotions, tables.policies
    rows = connection.execute(sa.select(promotions).order_by(promotions.c.id)).all()
    stack: list[str] = []
    for row in rows:
        if row.action == "rollback":
            stack.pop()
            while stack[-1] != row.policy_id:  # it passed over rejected ones
                stack.pop()
        else:
            stack.append(row.policy_id)
    states = {row.id: row.state for row in connection.execute(sa.select(policies.c.id, policies.c.state))}
    current = stack.pop() if stack else None
    targets = [id_ for id_ in dict.fromkeys(reversed(stack)) if id_ != current and states[id_] != "rejected"]
    if not targets:
        raise PolicyError("there is nothing to roll back to: no other policy served before this one")
    return targets


def find_row(connection: Connection, policy_id: str) -> Row[Any] | None:
    """A policy's row; None when there is none."""
    policies = tables.policies
    return connection.execute(sa.select(policies).where(policies.c.id == policy_id)).one_or_none()


def existing_row(connection: Connection, policy_id: str) -> Row[Any]:
    """A policy's row.

    Raises:
        NotFoundError: there is none; the message names similar ones.
    """
    row = find_row(connection, policy_id)
    if row is not None:
        return row
    known = connection.execute(sa.select(tables.policies.c.id)).scalars().all()
    near = difflib.get_close_matches(policy_id, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`tacit policies list` shows all"
    raise NotFoundError(f"there is no policy {policy_id[:80]!r}: {hint}")


def change_row(connection: Connection, policy_id: str, **values: Any) -> None:
    """Write columns of a policy."""
    policies = tables.policies
    connection.execute(sa.update(policies).where(policies.c.id == policy_id).values(**values))


def rename_actor(connection: Connection, name: str, new_name: str) -> None:
    """Put another name in place of the one who promoted."""
    promotions = tables.promotions
    connection.execute(sa.update(promotions).where(promotions.c.actor == name).values(actor=new_name))


def note_deleted_data(
    connection: Connection, run_id: str, at: datetime, *, only_unmarked: bool = False
) -> list[str]:
    """Note in the manifests of a run's policies that something they learned from was deleted since; returns the ids of those it noted it for."""
    policies = tables.policies
    rows = connection.execute(sa.select(policies.c.id, policies.c.manifest)).all()
    learned = [row for row in rows if row.manifest.get("run") == run_id]
    if only_unmarked:
        learned = [row for row in learned if DELETED_SINCE not in row.manifest]
    for row in learned:
        change_row(connection, row.id, manifest={**row.manifest, DELETED_SINCE: at.isoformat()})
    return [row.id for row in learned]


def to_row(version: PolicyVersion) -> dict[str, Any]:
    """A policy version as a row of the table."""
    return {
        "id": version.id,
        "stage": version.stage,
        "state": version.state,
        "parent": version.parent,
        "path": version.path,
        "created_at": version.created_at,
        "metrics": dict(version.metrics),
        "gates": [dict(gate) for gate in version.gates],
        "manifest": dict(version.manifest),
        "reason": version.reason,
    }


def from_row(row: Row[Any]) -> PolicyVersion:
    """A row of the table as a policy version."""
    return PolicyVersion(
        id=row.id,
        stage=row.stage,
        state=row.state,
        parent=row.parent,
        path=row.path,
        created_at=row.created_at,
        metrics=dict(row.metrics),
        gates=tuple(row.gates),
        manifest=dict(row.manifest),
        reason=row.reason,
    )
