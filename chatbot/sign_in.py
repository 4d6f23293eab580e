"""Proof of who is asking: passwords for sessions, keys for programs. Knows nothing of cookies, headers or pages.

Different from signed cookies or tokens: sessions live in the database, so that signing out, disabling a person or changing a
password works at once; and the database holds only SHA-256 digests, so that a stolen copy of it opens no door. (The secrets
are 256 random bits: a slow hash would protect nothing more.)
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from chatbot import tables
from chatbot.accounts import check_user_name, end_sessions, find_user
from chatbot.errors import SignInError
from chatbot.passwords import Passwords
from chatbot.records import User
from knowledge_base.database import Database, UtcDateTime, new_id, now
from knowledge_base.errors import NotFoundError, UsageError

log = structlog.get_logger(__name__)

KEY_PREFIX = "tacit_"
"""Starts every API key, so that secret scanners and people recognise one."""

_REFUSED = (
    "signing in failed: check name and password; after several tries wait a while, or ask an administrator"
)


@dataclass(frozen=True, kw_only=True)
class SignInSettings:
    """How often one may try, and how long a session lasts."""

    max_attempts: int = 10
    """Tries per name within the window, right ones included until one succeeds; count."""
    attempt_window_minutes: float = 15.0
    """How long a try counts; minutes."""
    session_days: float = 14.0
    """How long a session lasts after its last use; days."""
    max_session_days: float = 90.0
    """How long a session lasts at most, used or not; days."""
    session_renewal_minutes: float = 60.0
    """A session's end is moved at most this often, to spare the database a write per request; minutes."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts={self.max_attempts} must be at least 1")
        if self.attempt_window_minutes <= 0:
            raise ValueError(f"attempt_window_minutes={self.attempt_window_minutes} must be above 0")
        if not 0 < self.session_days <= self.max_session_days:
            raise ValueError(
                f"session_days={self.session_days} must be above 0 and at most max_session_days={self.max_session_days}"
            )
        if self.session_renewal_minutes < 0:
            raise ValueError(f"session_renewal_minutes={self.session_renewal_minutes} must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key without its secret, which is shown once, when it is made."""

    id: str
    user_id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


class SignIn:
    """Passwords in, session tokens out."""

    def __init__(
        self,
        db: Database,
        settings: SignInSettings | None = None,
        passwords: Passwords | None = None,
        *,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._db = db
        self._settings = settings or SignInSettings()
        self._passwords = passwords or Passwords()
        self._clock = clock

    def sign_in(self, name: str, password: str) -> str:
        """Check a password and open a session.

        An unknown name, a disabled account and a wrong password take the same time and raise the same error.

        Returns:
            The session's token. It is kept nowhere: hand it to the person's browser.

        Raises:
            SignInError: in every case of failure, with one message for all.
        """
        user_id, stored = self._credentials(name)
        if not self._passwords.matches(password, stored) or stored is None:
            log.info("sign_in_refused")
            raise SignInError(_REFUSED)
        renewed = self._passwords.renewed(password, stored)
        token = secrets.token_urlsafe(32)
        with self._db.write() as connection:
            self._open_session(connection, user_id, name, token, checked=stored, keep=renewed)
        log.info("signed_in", user_id=user_id)
        return token

    def user_of_session(self, token: str) -> User | None:
        """Whose session this is; None when it is unknown, over, or its user disabled. Being used prolongs it."""
        digest, at = _digest(token), self._clock()
        sessions = tables.sessions
        with self._db.read() as connection:
            row = connection.execute(sa.select(sessions).where(sessions.c.token_hash == digest)).one_or_none()
            if row is None or row.expires_at <= at:
                return None
            user = _enabled_user(connection, row.user_id)
        if user is not None:
            self._prolong(digest, row.created_at, row.expires_at, at)
        return user

    def sign_out(self, token: str) -> None:
        """End a session at once; an unknown token is ignored."""
        with self._db.write() as connection:
            connection.execute(
                sa.delete(tables.sessions).where(tables.sessions.c.token_hash == _digest(token))
            )

    def sign_out_everywhere(self, user_id: str) -> None:
        """End all sessions of a user at once."""
        with self._db.write() as connection:
            end_sessions(connection, user_id)

    def _credentials(self, name: str) -> tuple[str, str | None]:
        """User id and password hash to check against; no hash when the name can not sign in. Counts the try first.

        The try is written before the password is checked, and under the account's row lock: guesses sent all at once are counted
        one after the other.
        """
        try:
            check_user_name(name)
        except UsageError:  # no account can have it: nothing to count, but the same work is done
            return "", None
        users, folded = tables.users, name.lower()
        with self._db.write() as connection:
            row = connection.execute(
                sa.select(users).where(sa.func.lower(users.c.name) == folded).with_for_update()
            ).first()
            if not self._may_try(connection, folded):
                log.warning("sign_in_rate_limited")
                return "", None
        if row is None or row.disabled_at is not None:
            return "", None
        return row.id, row.password_hash

    def _may_try(self, connection: Connection, folded: str) -> bool:
        attempts, at = tables.login_attempts, self._clock()
        start = at - timedelta(minutes=self._settings.attempt_window_minutes)
        connection.execute(sa.delete(attempts).where(attempts.c.at <= start))
        tries = connection.execute(
            sa.select(sa.func.count()).select_from(attempts).where(attempts.c.name == folded)
        ).scalar_one()
        if tries >= self._settings.max_attempts:
            return False
        connection.execute(sa.insert(attempts).values(name=folded, at=at))
        return True

    def _open_session(
        self, connection: Connection, user_id: str, name: str, token: str, *, checked: str, keep: str
    ) -> None:
        # Checking took a while: the password may have been changed or the account disabled meanwhile.
        users, sessions, at = tables.users, tables.sessions, self._clock()
        unchanged = sa.and_(
            users.c.id == user_id, users.c.password_hash == checked, users.c.disabled_at.is_(None)
        )
        if connection.execute(sa.update(users).where(unchanged).values(password_hash=keep)).rowcount == 0:
            raise SignInError(_REFUSED)
        attempts = tables.login_attempts
        connection.execute(sa.delete(attempts).where(attempts.c.name == name.lower()))
        connection.execute(sa.delete(sessions).where(sessions.c.expires_at <= at))
        expires_at = at + timedelta(days=self._settings.session_days)
        connection.execute(
            sa.insert(sessions).values(
                token_hash=_digest(token), user_id=user_id, created_at=at, expires_at=expires_at
            )
        )

    def _prolong(self, digest: str, created_at: datetime, expires_at: datetime, at: datetime) -> None:
        latest = created_at + timedelta(days=self._settings.max_session_days)
        wanted = min(at + timedelta(days=self._settings.session_days), latest)
        if wanted - expires_at < timedelta(minutes=self._settings.session_renewal_minutes):
            return
        sessions = tables.sessions
        with self._db.write() as connection:
            connection.execute(
                sa.update(sessions).where(sessions.c.token_hash == digest).values(expires_at=wanted)
            )


class ApiKeys:
    """Keys for programs that ask in a person's name, with that person's rights."""

    def __init__(self, db: Database, *, clock: Callable[[], datetime] = now) -> None:
        self._db = db
        self._clock = clock

    def create(self, user_id: str, name: str) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            user_id: Whose rights it has.
            name: What it is for, 1 to 64 characters, to recognise it in a list.

        Returns:
            The key's record, and its secret: show it once, it can not be had again.

        Raises:
            NotFoundError: there is no such user, or the account is disabled.
            UsageError: the name breaks the rules.
        """
        if not re.fullmatch(r"\S(.{0,62}\S)?", name):
            raise UsageError("a key's name has 1 to 64 characters on one line: say what the key is for")
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(id=new_id(), user_id=user_id, name=name, created_at=self._clock(), revoked_at=None)
        with self._db.write() as connection:
            if _enabled_user(connection, user_id) is None:
                raise NotFoundError(
                    "there is no such user, or the account is disabled: `tacit users list` shows everyone"
                )
            connection.execute(
                sa.insert(tables.api_keys).values(
                    id=key.id,
                    user_id=user_id,
                    name=name,
                    key_hash=_digest(secret),
                    created_at=key.created_at,
                )
            )
        log.info("api_key_created", user_id=user_id, api_key_id=key.id)
        return key, secret

    def user_of_key(self, secret: str) -> User | None:
        """Whose key this is; None when it is unknown, revoked, or its user disabled."""
        if not secret.startswith(KEY_PREFIX):
            return None
        keys = tables.api_keys
        with self._db.read() as connection:
            user_id = connection.execute(
                sa.select(keys.c.user_id).where(
                    keys.c.key_hash == _digest(secret), keys.c.revoked_at.is_(None)
                )
            ).scalar_one_or_none()
            return None if user_id is None else _enabled_user(connection, user_id)

    def list(self, user_id: str | None = None) -> Sequence[ApiKey]:
        """The keys of a user, or of everyone, newest first; revoked ones too."""
        keys = tables.api_keys
        condition = sa.true() if user_id is None else keys.c.user_id == user_id
        with self._db.read() as connection:
            rows = connection.execute(
                sa.select(keys).where(condition).order_by(keys.c.created_at.desc(), keys.c.id)
            ).all()
        return [
            ApiKey(
                id=row.id,
                user_id=row.user_id,
                name=row.name,
                created_at=row.created_at,
                revoked_at=row.revoked_at,
            )
            for row in rows
        ]

    def revoke(self, key_id: str, *, user_id: str | None = None) -> None:
        """Make a key useless at once; a revoked one stays revoked.

        Args:
            key_id: Which.
            user_id: When given, only a key of this user: people revoke their own, admins any.

        Raises:
            NotFoundError: there is no such key, or it is somebody else's.
        """
        keys = tables.api_keys
        condition = keys.c.id == key_id
        if user_id is not None:
            condition = sa.and_(condition, keys.c.user_id == user_id)
        first = sa.func.coalesce(keys.c.revoked_at, sa.literal(self._clock(), UtcDateTime))
        with self._db.write() as connection:
            changed = connection.execute(sa.update(keys).where(condition).values(revoked_at=first))
            if changed.rowcount == 0:
                raise NotFoundError(f"there is no API key {key_id[:80]!r}: list the keys to see their ids")
        log.info("api_key_revoked", api_key_id=key_id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _enabled_user(connection: Connection, user_id: str) -> User | None:
    users = tables.users
    return find_user(connection, sa.and_(users.c.id == user_id, users.c.disabled_at.is_(None)))
