"""Policy versions and which one serves. Knows nothing of training, gates or loading: a policy is a row and a directory.

Different from a `current` flag: serving is a history of promotions, so that rolling back goes to what served before, however often,
and every change is one transaction with its audit event. Servers read the newest row; nobody tells them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from chatbot import tables
from chatbot.audit import AuditLog
from chatbot.bundles import verify_bundle
from chatbot.errors import PolicyError
from chatbot.policy_rows import (
    change_row,
    existing_row,
    find_row,
    from_row,
    lock_all,
    note_deleted_data,
    rollback_targets,
    serving_id,
    to_row,
)
from chatbot.records import PolicyVersion
from knowledge_base.database import Database, now
from knowledge_base.errors import NotFoundError, UsageError

log = structlog.get_logger(__name__)

BASE_ID = "base"
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class PolicyRegistry:
    """Which policies there are, and which one answers."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._clock = clock
        self._audit = AuditLog(db, clock=clock)

    def ensure_base(
        self,
        path: str | Path,
        manifest: Mapping[str, Any],
        *,
        stage: Literal["base", "external"] = "base",
    ) -> PolicyVersion:
        """Register the base model as policy `base`, serving until something better does.

        Called at every start: a base model that moved, or came with a newer release, gets its row changed and audited.

        Args:
            path: A directory, a hub id, or the name of a model at another server.
            manifest: What is known of it.
            stage: `external` for a model at another server.
        """
        values = {"path": str(path), "manifest": dict(manifest), "stage": stage}
        try:
            with self._db.write() as connection:
                row = find_row(connection, BASE_ID)
                if row is None:
                    self._add_base(connection, values)
                elif (row.path, row.manifest, row.stage) != (values["path"], values["manifest"], stage):
                    change_row(connection, BASE_ID, **values)
                    self._audit.record(
                        "tacit", "policy.base_changed", BASE_ID, connection=connection, path=values["path"]
                    )
        except IntegrityError:  # two processes started at once, and the other one added it
            log.info("base_policy_added_elsewhere")
        return self.get(BASE_ID)

    def relocate(self, directory: Path) -> None:
        """Find the bundles again after the home was moved or restored elsewhere: `directory/ID` is where a policy's bundle lies."""
        with self._db.read() as connection:
            rows = connection.execute(sa.select(tables.policies.c.id, tables.policies.c.path)).all()
        for row in rows:
            place = directory.resolve() / row.id
            if Path(row.path).name == row.id and row.path != str(place) and place.is_dir():
                with self._db.write() as connection:
                    change_row(connection, row.id, path=str(place))
                log.info("policy_relocated", policy_id=row.id)

    def add(self, version: PolicyVersion, *, within: Callable[[Connection], None] | None = None) -> None:
        """Register a candidate (or an already rejected one).

        Args:
            version: As it is to stand; never changed.
            within: Called in the transaction; what it raises leaves everything as it is.

        Raises:
            UsageError: the id breaks the rules or exists, the parent is unknown, or the state is one only promotion gives.
        """
        if not _ID.fullmatch(version.id):
            raise UsageError(f"{version.id[:80]!r} is not a policy id: use 1 to 64 of a-z 0-9 . _ -")
        if version.state not in ("candidate", "rejected"):
            raise UsageError(
                f"a new policy is a candidate or rejected, not {version.state}: promote it afterwards"
            )
        exists = UsageError(f"policy {version.id!r} exists: policies do not change, choose a new id")
        try:
            with self._db.write() as connection:
                if within is not None:
                    within(connection)
                if find_row(connection, version.id) is not None:
                    raise exists
                if version.parent is not None and find_row(connection, version.parent) is None:
                    raise UsageError(f"the parent policy {version.parent!r} is unknown: add it first")
                connection.execute(sa.insert(tables.policies).values(to_row(version)))
        except IntegrityError as error:
            raise exists from error
        log.info("policy_added", policy_id=version.id, stage=version.stage, state=version.state)

    def list(self) -> Sequence[PolicyVersion]:
        """All policies, newest first."""
        c = tables.policies.c
        with self._db.read() as connection:
            rows = connection.execute(sa.select(tables.policies).order_by(c.created_at.desc(), c.id)).all()
        return [from_row(row) for row in rows]

    def get(self, policy_id: str) -> PolicyVersion:
        """A policy.

        Raises:
            NotFoundError: there is none; the message names similar ones.
        """
        with self._db.read() as connection:
            return from_row(existing_row(connection, policy_id))

    def serving(self) -> PolicyVersion:
        """The policy that answers the next question.

        Raises:
            NotFoundError: none was ever promoted.
        """
        with self._db.read() as connection:
            policy_id = serving_id(connection)
            if policy_id is None:
                raise NotFoundError("no policy serves yet: run `tacit init`")
            return from_row(existing_row(connection, policy_id))

    def promote(
        self,
        policy_id: str,
        actor: str,
        *,
        force: bool = False,
        reason: str = "",
        within: Callable[[Connection], None] | None = None,
    ) -> PolicyVersion:
        """Let a policy answer from the next question on; promoting the one that serves changes nothing.

        Args:
            policy_id: Which.
            actor: Who decided.
            force: Promote although it was rejected; needs a reason.
            reason: Goes to the audit trail.
            within: Called in the transaction; what it raises leaves serving what serves.

        Raises:
            NotFoundError: there is no such policy.
            PolicyError: it was rejected and `force` is not set, or its bundle is not what it was.
            UsageError: `force` without a reason.
        """
        if force and not reason.strip():
            raise UsageError("promoting with force needs a reason: it goes to the audit trail")
        self._check_bundle(self.get(policy_id))  # reading all weights takes a while: before the transaction
        with self._db.write() as connection:
            if within is not None:
                within(connection)
            lock_all(connection)
            row, before = existing_row(connection, policy_id), serving_id(connection)
            if before == policy_id:
                return from_row(row)
            if row.state == "rejected" and not force:
                raise PolicyError(
                    f"policy {policy_id} was rejected ({row.reason or 'no reason given'}): "
                    "promote it with force and a reason if you know better"
                )
            self._serve(
                connection, policy_id, actor, "promote", reason=reason, forced=row.state == "rejected"
            )
        log.info("policy_promoted", policy_id=policy_id, before=before)
        return self.get(policy_id)

    def rollback(self, actor: str, *, reason: str = "") -> PolicyVersion:
        """Let the policy answer that served before this one; again: the one before that. Rejected ones are passed over.

        Raises:
            PolicyError: nothing served before, or its bundle is not what it was; then the message names the policy to promote instead.
        """
        with self._db.read() as connection:
            target, *others = rollback_targets(connection)
        try:
            self._check_bundle(self.get(target))
        except PolicyError as error:
            raise self._blocked(target, others, error) from error
        with self._db.write() as connection:
            lock_all(connection)
            if rollback_targets(connection)[0] != target:
                raise _changed_meanwhile()
            self._serve(connection, target, actor, "rollback", reason=reason, forced=False)
        log.info("policy_rolled_back", policy_id=target)
        return self.get(target)

    def reject(
        self,
        policy_id: str,
        reason: str,
        gates: Sequence[Mapping[str, Any]] | None = None,
        *,
        actor: str = "tacit",
    ) -> PolicyVersion:
        """Mark a policy as not fit to serve.

        Args:
            policy_id: Which.
            reason: Why, in one line.
            gates: Gate reports to keep with it; None leaves those it has.
            actor: Who or what decided.

        Raises:
            NotFoundError: there is no such policy.
            PolicyError: it serves: roll back first.
            UsageError: no reason is given.
        """
        if not reason.strip():
            raise UsageError("rejecting a policy needs a reason: people will ask")
        values: dict[str, Any] = {"state": "rejected", "reason": reason}
        if gates is not None:
            values["gates"] = [dict(gate) for gate in gates]
        with self._db.write() as connection:
            lock_all(connection)
            existing_row(connection, policy_id)
            if serving_id(connection) == policy_id:
                raise PolicyError(f"policy {policy_id} is serving: roll back or promote another first")
            change_row(connection, policy_id, **values)
            self._audit.record(actor, "policy.reject", policy_id, connection=connection, reason=reason)
        log.info("policy_rejected", policy_id=policy_id, reason=reason)
        return self.get(policy_id)

    def note_deleted_data(self, run_id: str, *, only_unmarked: bool = False) -> Sequence[str]:
        """Note that something which a run's policies learned from was deleted since: their weights keep it.

        Args:
            run_id: Of the run.
            only_unmarked: Leave those as they are for which something was noted before.

        Returns:
            The ids of those that it was noted for.
        """
        with self._db.write() as connection:
            return note_deleted_data(connection, run_id, self._clock(), only_unmarked=only_unmarked)

    def record_evaluation(
        self, policy_id: str, *, metrics: Mapping[str, Any], gates: Sequence[Mapping[str, Any]]
    ) -> PolicyVersion:
        """Keep what evaluating a policy found, in place of what was found before.

        Raises:
            NotFoundError: there is no such policy.
        """
        with self._db.write() as connection:
            existing_row(connection, policy_id)
            change_row(connection, policy_id, metrics=dict(metrics), gates=[dict(gate) for gate in gates])
        return self.get(policy_id)

    def _add_base(self, connection: Connection, values: dict[str, Any]) -> None:
        base = PolicyVersion(
            id=BASE_ID,
            stage=values["stage"],
            state="candidate",
            parent=None,
            path=values["path"],
            created_at=self._clock(),
            metrics={},
            gates=(),
            manifest=values["manifest"],
        )
        connection.execute(sa.insert(tables.policies).values(to_row(base)))
        if serving_id(connection) is None:
            self._serve(connection, BASE_ID, "tacit", "promote", reason="first start", forced=False)

    def _serve(
        self, connection: Connection, policy_id: str, actor: str, action: str, *, reason: str, forced: bool
    ) -> None:
        policies, before = tables.policies, serving_id(connection)
        why = f"replaced by {policy_id}" if action == "promote" else f"rolled back to {policy_id}"
        connection.execute(
            sa.update(policies).where(policies.c.state == "serving").values(state="retired", reason=why)
        )
        change_row(connection, policy_id, state="serving", reason="")
        at = self._clock()
        connection.execute(
            sa.insert(tables.promotions).values(policy_id=policy_id, action=action, actor=actor, at=at)
        )
        detail = {"before": before, "reason": reason, "forced": forced}
        self._audit.record(actor, f"policy.{action}", policy_id, connection=connection, **detail)

    def _blocked(self, target: str, others: Sequence[str], error: PolicyError) -> PolicyError:
        """Not passed over in silence: whoever rolls back means the policy before, and is asked when it shall be another."""
        for other in others:
            try:
                self._check_bundle(self.get(other))
            except PolicyError:
                continue
            return PolicyError(
                f"cannot roll back to {target}: {error}; or `tacit policies promote {other}`, which served before it and is whole"
            )
        return PolicyError(f"cannot roll back to {target}: {error}; nothing that served before it is whole")

    def _check_bundle(self, version: PolicyVersion) -> None:
        """A policy with recorded file hashes must still be those files; a hub id or an endpoint's model has none."""
        files = version.manifest.get("files")
        if files:
            verify_bundle(Path(version.path), files)


def _changed_meanwhile() -> PolicyError:
    error = PolicyError(
        "somebody changed the serving policy at the same moment: look at the list, then try again"
    )
    error.permanent = False
    return error
