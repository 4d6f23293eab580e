"""Passwords: made, hashed with argon2id, checked. Knows nothing of accounts or the database.

Different from calling a hasher directly: checking a password of nobody takes as long as checking a real one, so that a stopwatch
does not tell which names exist; and only a few checks run at once, because each takes tens of megabytes on purpose.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from functools import cached_property

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from knowledge_base.errors import UsageError

# No 0/o, 1/l/i: people read these from paper and type them.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_CHECKS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class PasswordSettings:
    """What a password must be, and how much work a guess costs (RFC 9106, second recommended option)."""

    min_characters: int = 8
    """Shorter passwords are refused; characters."""
    max_characters: int = 256
    """Longer ones are refused too: hashing megabytes is a way to stop a server; characters."""
    iterations: int = 3
    """argon2 passes over the memory; count."""
    memory_kib: int = 65536
    """argon2 memory for one check; KiB."""
    lanes: int = 4
    """argon2 parallelism; count."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_characters <= self.max_characters:
            raise ValueError(
                f"min_characters={self.min_characters} must be from 1 to max_characters={self.max_characters}"
            )
        if self.iterations < 1:
            raise ValueError(f"iterations={self.iterations} must be at least 1")
        if self.lanes < 1:
            raise ValueError(f"lanes={self.lanes} must be at least 1")
        if self.memory_kib < 8 * self.lanes:
            raise ValueError(
                f"memory_kib={self.memory_kib} must be at least 8 for each of lanes={self.lanes}"
            )


def generate_password(groups: int = 4) -> str:
    """A strong password that can be read aloud and typed: groups of four letters and digits, about 20 bits each.

    >>> len(generate_password())
    19
    """
    if groups < 1:
        raise ValueError(f"groups={groups} must be at least 1")
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(groups))


class Passwords:
    """Hashes and checks. Thread-safe."""

    def __init__(self, settings: PasswordSettings | None = None) -> None:
        self.settings = settings or PasswordSettings()
        self._hasher = argon2.PasswordHasher(
            time_cost=self.settings.iterations,
            memory_cost=self.settings.memory_kib,
            parallelism=self.settings.lanes,
            type=argon2.Type.ID,
        )
        self._slots = threading.BoundedSemaphore(_CHECKS_AT_ONCE)

    def hash(self, password: str) -> str:
        """The salted hash to store.

        Raises:
            UsageError: the password is too short or too long.
        """
        settings = self.settings
        if not settings.min_characters <= len(password) <= settings.max_characters:
            raise UsageError(
                f"a password has {settings.min_characters} to {settings.max_characters} characters, "
                f"this one has {len(password)}"
            )
        return self._hash(password)

    def matches(self, password: str, stored: str | None) -> bool:
        """Whether the password is the one stored; False, after the same work, when nothing is stored."""
        # An overlong guess is never right, but must not be quicker to turn down either.
        guess = password[: self.settings.max_characters]
        with self._slots:
            try:
                self._hasher.verify(stored or self._nobody, guess)
            except (VerificationError, InvalidHashError):
                return False
        return stored is not None and guess == password

    def renewed(self, password: str, stored: str) -> str:
        """The hash to keep for a password that has just matched: a new one when today's settings ask for more work."""
        return self._hash(password) if self._hasher.check_needs_rehash(stored) else stored

    def _hash(self, password: str) -> str:
        with self._slots:
            return self._hasher.hash(password)

    @cached_property
    def _nobody(self) -> str:
        return self._hasher.hash(secrets.token_urlsafe(32))
