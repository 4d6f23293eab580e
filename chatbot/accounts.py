"""People: who has an account, in which role and groups. Knows nothing of sessions' tokens or keys (`chatbot.sign_in`).

Different from the textbook: an account may have no password at all (a simulated employee, a name from imported judgements), and
deleting a person also erases what they typed, while the counts that operators watch stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import get_args

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from chatbot import tables
from chatbot.erasure import check_not_last_admin, erase_account, lock_user, unknown_user
from chatbot.passwords import Passwords
from chatbot.records import Role, User
from knowledge_base.database import Database, UtcDateTime, new_id, now
from knowledge_base.errors import NotFoundError, UsageError

log = structlog.get_logger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
ROLES: tuple[Role, ...] = get_args(Role)


def check_user_name(name: str) -> str:
    """The name itself, when it is one an account may have.

    Raises:
        UsageError: it is not 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `@`, `-`.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is not a user name: use 1 to 64 of A-Z a-z 0-9 . _ @ -")
    return name


def check_groups(groups: Iterable[str]) -> frozenset[str]:
    """The groups as a set.

    Raises:
        UsageError: one is empty, longer than 64 characters, or holds a comma, an edge space or a control character.
    """
    checked = frozenset(groups)
    for group in checked:
        if not 1 <= len(group) <= 64 or group != group.strip() or "," in group or not group.isprintable():
            raise UsageError(f"{group[:80]!r} is not a group name: use 1 to 64 characters without commas")
    return checked


def check_role(role: str) -> Role:
    """The role, when it is one.

    Raises:
        UsageError: it is not; the message lists the legal ones.
    """
    for legal in ROLES:
        if role == legal:
            return legal
    raise UsageError(f"{role!r} is not a role: use one of {', '.join(ROLES)}")


class Accounts:
    """The people who may use Tacit.

    Names are kept as typed; two that differ in case only are the same person's.
    """

    def __init__(
        self, db: Database, passwords: Passwords | None = None, *, clock: Callable[[], datetime] = now
    ) -> None:
        self._db = db
        self._passwords = passwords or Passwords()
        self._clock = clock

    def add(
        self, name: str, *, role: str = "employee", groups: Iterable[str] = (), password: str | None = None
    ) -> User:
        """Create an account; without a password nobody can sign in to it.

        Raises:
            UsageError: the name, role, a group or the password breaks its rules, or the name is taken.
        """
        check_user_name(name)
        user = User(
            id=new_id(),
            name=name,
            role=check_role(role),
            groups=check_groups(groups),
            created_at=self._clock(),
        )
        hashed = None if password is None else self._passwords.hash(password)
        taken = UsageError(f"the user name {name!r} is taken: choose another, or change the existing account")
        try:
            with self._db.write() as connection:
                if find_user(connection, _named(name)) is not None:
                    raise taken
                self._insert(connection, user, hashed)
        except IntegrityError as error:  # somebody else added it in between
            raise taken from error
        log.info("user_added", user_id=user.id, role=user.role)
        return user

    def ensure(self, name: str) -> User:
        """The account of that name, made as an employee without a password when there is none.

        Raises:
            UsageError: the name breaks the rules.
        """
        user = self.find(check_user_name(name))
        return user if user is not None else self.add(name)

    def list(self) -> Sequence[User]:
        """Everyone, by name."""
        with self._db.read() as connection:
            return load_users(connection, sa.true())

    def find(self, name: str) -> User | None:
        """The account of that name, or None."""
        with self._db.read() as connection:
            return find_user(connection, _named(name))

    def by_name(self, name: str) -> User:
        """The account of that name.

        Raises:
            NotFoundError: there is none.
        """
        user = self.find(name)
        if user is None:
            raise NotFoundError(f"there is no user {name[:80]!r}: `tacit users list` shows everyone")
        return user

    def get(self, user_id: str) -> User:
        """The account of that id.

        Raises:
            NotFoundError: there is none.
        """
        with self._db.read() as connection:
            user = find_user(connection, tables.users.c.id == user_id)
        if user is None:
            raise unknown_user(user_id)
        return user

    def disable(self, user_id: str) -> User:
        """Shut an account: its sessions end and its keys stop working at once.

        Raises:
            NotFoundError: there is no such user.
            UsageError: it is the last administrator.
        """
        with self._db.write() as connection:
            if not _is_disabled(connection, user_id):
                check_not_last_admin(connection, user_id)
            end_sessions(connection, user_id)
            # The first time stays: it tells since when the person is gone.
            first = sa.func.coalesce(tables.users.c.disabled_at, sa.literal(self._clock(), UtcDateTime))
            _update(connection, user_id, disabled_at=first)
        log.info("user_disabled", user_id=user_id)
        return self.get(user_id)

    def enable(self, user_id: str) -> User:
        """Open a disabled account again; keys that were not revoked work again, sessions do not.

        Raises:
            NotFoundError: there is no such user.
        """
        with self._db.write() as connection:
            _update(connection, user_id, disabled_at=None)
        log.info("user_enabled", user_id=user_id)
        return self.get(user_id)

    def set_role(self, user_id: str, role: str) -> User:
        """Change the role; it counts from the next request on.

        Raises:
            NotFoundError: there is no such user.
            UsageError: there is no such role, or it is the last administrator.
        """
        wanted = check_role(role)
        with self._db.write() as connection:
            if wanted != "admin":
                check_not_last_admin(connection, user_id)
            _update(connection, user_id, role=wanted)
        return self.get(user_id)

    def set_groups(self, user_id: str, groups: Iterable[str]) -> User:
        """Replace the groups; they count from the next question on.

        Raises:
            NotFoundError: there is no such user.
            UsageError: a group name breaks the rules.
        """
        wanted = check_groups(groups)
        with self._db.write() as connection:
            lock_user(connection, user_id)
            connection.execute(sa.delete(tables.user_groups).where(tables.user_groups.c.user_id == user_id))
            _insert_groups(connection, user_id, wanted)
        return self.get(user_id)

    def set_password(self, user_id: str, password: str | None) -> None:
        """Replace the password and end all sessions; None takes the right to sign in away.

        Raises:
            NotFoundError: there is no such user.
            UsageError: the password is too short or too long.
        """
        hashed = None if password is None else self._passwords.hash(password)
        with self._db.write() as connection:
            _update(connection, user_id, password_hash=hashed)
            end_sessions(connection, user_id)
        log.info("password_set", user_id=user_id)

    def delete(self, user_id: str) -> None:
        """Erase a person: account, sessions, keys, conversations, judgements, and the words of their questions and answers.

        The answers' rows stay without a name or text, so that counts per policy and day do not change backwards.

        Raises:
            NotFoundError: there is no such user.
            UsageError: it is the last administrator.
        """
        with self._db.write() as connection:
            erase_account(connection, user_id)
        log.info("user_deleted", user_id=user_id)

    def _insert(self, connection: Connection, user: User, password_hash: str | None) -> None:
        connection.execute(
            sa.insert(tables.users).values(
                id=user.id,
                name=user.name,
                password_hash=password_hash,
                role=user.role,
                created_at=user.created_at,
            )
        )
        _insert_groups(connection, user.id, user.groups)


def find_user(connection: Connection, condition: sa.ColumnElement[bool]) -> User | None:
    """The one user that a condition on the users table names, or None."""
    return next(iter(load_users(connection, condition)), None)


def load_users(connection: Connection, condition: sa.ColumnElement[bool]) -> Sequence[User]:
    """The users that satisfy a condition, by name, with their groups."""
    users = tables.users
    rows = connection.execute(sa.select(users).where(condition).order_by(users.c.name)).all()
    membership = tables.user_groups
    members = connection.execute(
        sa.select(membership).where(membership.c.user_id.in_(sa.select(users.c.id).where(condition)))
    ).all()
    groups: dict[str, set[str]] = {}
    for member in members:
        groups.setdefault(member.user_id, set()).add(member.group_name)
    return [
        User(
            id=row.id,
            name=row.name,
            role=check_role(row.role),
            groups=frozenset(groups.get(row.id, ())),
            created_at=row.created_at,
            disabled_at=row.disabled_at,
        )
        for row in rows
    ]


def end_sessions(connection: Connection, user_id: str) -> None:
    """Sign a user out everywhere, in the caller's transaction."""
    connection.execute(sa.delete(tables.sessions).where(tables.sessions.c.user_id == user_id))


def _named(name: str) -> sa.ColumnElement[bool]:
    return sa.func.lower(tables.users.c.name) == name.lower()


def _is_disabled(connection: Connection, user_id: str) -> bool:
    users = tables.users
    at = connection.execute(sa.select(users.c.disabled_at).where(users.c.id == user_id)).scalar_one_or_none()
    return at is not None


def _update(connection: Connection, user_id: str, **values: object) -> None:
    changed = connection.execute(sa.update(tables.users).where(tables.users.c.id == user_id).values(**values))
    if changed.rowcount == 0:
        raise unknown_user(user_id)


def _insert_groups(connection: Connection, user_id: str, groups: frozenset[str]) -> None:
    if groups:
        rows = [{"user_id": user_id, "group_name": group} for group in sorted(groups)]
        connection.execute(sa.insert(tables.user_groups), rows)
