"""Who works on a run: a lock on a file for those who share its folder, a lease in its row for everybody.

One rule. Whoever takes a run puts a token of its own into the row, and every write for the run is refused unless the row still bears the
writer's token. The token may be replaced when nobody holds the lock, and the last holder either worked in this very folder (its token stands
in the lock file: then it is dead, for the operating system lets go of a lock when its process dies) or has been silent for `SILENT_AFTER`.

So a process that was killed is replaced at once by one on the same machine, and after a minute by one elsewhere, where its lock cannot be
seen: on another machine, or in a home restored from a backup. One that was only asleep keeps its run where its lock is seen; where somebody
else took the run, it finds another token at its next report, and stops. Knows nothing of databases.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from knowledge_base.errors import StorageError

LOCK_FILE = "lock"
BEAT_SECONDS = 5.0
"""How often a holder says that it lives."""
SILENT_AFTER = timedelta(seconds=60)
"""Silence after which a holder whose lock cannot be seen is taken for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who holds a run, and when it was last heard of."""

    token: str
    beat: datetime

    @classmethod
    def of(cls, progress: Mapping[str, Any]) -> Lease | None:
        """The lease in a run's progress, where it is kept; None where nobody holds the run."""
        if not progress.get("lease"):
            return None
        return cls(token=progress["lease"], beat=datetime.fromisoformat(progress["beat"]))

    def to_json(self) -> dict[str, str]:
        """As it stands in a run's progress."""
        return {"lease": self.token, "beat": self.beat.isoformat()}


LOOK_SECONDS = 0.02
"""How often a lock that somebody else holds is tried again."""


class RunLock:
    """The lock file of a run's folder."""

    def __init__(self, directory: Path) -> None:
        """Of this folder, which need not exist."""
        self._file = directory / LOCK_FILE

    @contextmanager
    def held(self, *, patience: float = 0.0) -> Iterator[bool]:
        """Try to hold the lock while the block lasts; whether it is held. Without a folder there is nothing to hold, and nobody does.

        Args:
            patience: Seconds to go on trying for.

        Raises:
            StorageError: this user may not write the file.
        """
        if not self._file.parent.is_dir():
            yield True
            return
        with self._translate_errors():
            file = self._file.open("a")
        with file:
            with self._translate_errors():
                is_held = _lock(file, time.monotonic() + patience)
            yield is_held

    def sign(self, token: str) -> None:
        """Leave a token: its holder worked in this folder.

        Raises:
            StorageError: this user may not write the file.
        """
        with self._translate_errors(), self._file.open("a", encoding="utf-8") as file:
            file.write(f"{token}\n")

    def has_signed(self, token: str) -> bool:
        """Whether the holder of a token worked in this folder.

        Raises:
            StorageError: this user may not read the file.
        """
        with self._translate_errors():
            return self._file.is_file() and token in self._file.read_text("utf-8").split()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the lock {self._file} cannot be used ({error.strerror or error}): "
                f"give it to the user that runs the server, `chown -R USER {self._file.parent}`"
            ) from error


def _lock(file: IO[str], until: float) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_SECONDS)
        else:
            return True
