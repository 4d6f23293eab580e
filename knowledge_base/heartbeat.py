"""Says again and again, in a thread of its own, that a process lives, while the process works.

Knows nothing of what is said or to whom. Different from a timer: it ends with the block, and one beat that fails is told and not the last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from knowledge_base.errors import TacitError

log = structlog.get_logger(__name__)


@contextmanager
def beating(beat: Callable[[], object], *, seconds: float, name: str) -> Iterator[None]:
    """Call `beat` every so often while the block lasts.

    Args:
        beat: Says that the process lives; an error of ours goes to the log, and the next beat tries again.
        seconds: Between two beats; the first comes after so many.
        name: Of the thread, for the log.
    """
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(seconds):
            try:
                beat()
            except TacitError as error:
                log.warning("heartbeat_failed", name=name, error=str(error))

    thread = threading.Thread(target=go_on, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
