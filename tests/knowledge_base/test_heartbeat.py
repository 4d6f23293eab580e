"""A process says that it lives while it works."""

from __future__ import annotations

import threading

from knowledge_base.errors import StorageError
from knowledge_base.heartbeat import beating


def test_a_beat_that_fails_is_not_the_last() -> None:
    """A database that is locked for a moment must not let a living process look dead."""
    beaten, again = 0, threading.Event()

    def beat() -> None:
        nonlocal beaten
        beaten += 1
        if beaten == 1:
            raise StorageError("the database is locked")
        again.set()

    with beating(beat, seconds=0.001, name="test"):
        assert again.wait(10)


def test_it_ends_with_the_block() -> None:
    """Who has stopped working says nothing any more."""
    with beating(lambda: None, seconds=0.001, name="heartbeat-of-this-test"):
        pass

    assert "heartbeat-of-this-test" not in {thread.name for thread in threading.enumerate()}
