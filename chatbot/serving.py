"""Which generator answers the next question: loads policies, keeps a few, and swaps a promoted one in without a restart.

Promotion is a row written by another process; each turn asks the registry which policy is serving (one cheap query). A new one is
loaded on its own thread while the old one goes on answering; the turn that notices waits a moment for it, so that normally the very
next question is served by it. A stream in progress holds its generator and is not disturbed. Knows nothing of prompts or of how a
policy was trained.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from chatbot.errors import GenerationError
from chatbot.protocols import Generator
from chatbot.records import PolicyVersion
from chatbot.settings import ServingSettings

log = structlog.get_logger(__name__)

PolicyLoader = Callable[[PolicyVersion], Generator]
"""Loads a policy; raises GenerationError when it cannot."""


class PolicySource(Protocol):
    """What serving needs to know of the policy registry."""

    def serving(self) -> PolicyVersion:
        """The policy that should serve now; cheap, and sees what other processes promoted."""

    def get(self, policy_id: str) -> PolicyVersion:
        """One policy. Raises NotFoundError when there is none of that id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """A policy that should serve and could not be loaded."""

    policy_id: str
    error: str
    at: datetime


class ServingPolicies:
    """Policies ready to write. Thread-safe."""

    def __init__(
        self, registry: PolicySource, loader: PolicyLoader, settings: ServingSettings | None = None
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._settings = settings or ServingSettings()
        self._guard = threading.Lock()
        self._ready: OrderedDict[str, Generator] = OrderedDict()
        self._loading: dict[str, Future[Generator]] = {}
        self._current: Generator | None = None
        self._promoted_id: str | None = None
        self._last_error: LoadFailure | None = None
        self._failed_at: dict[str, float] = {}

    @property
    def last_error(self) -> LoadFailure | None:
        """Why the promoted policy is not the one answering; None when it is."""
        return self._last_error

    @property
    def serving_id(self) -> str | None:
        """The policy that answered last; None before the first question."""
        current = self._current
        return current.policy_id if current else None

    def generator(self, policy_id: str | None = None) -> Generator:
        """The generator for the next completion. Keep it for the whole turn.

        Args:
            policy_id: A certain policy; None for the serving one.

        Raises:
            NotFoundError: no such policy.
            GenerationError: it cannot be loaded; for the serving policy only when there is no earlier one to go on with.
        """
        if policy_id is not None:
            with self._guard:
                found = self._find(policy_id)
            return found or self._start(self._registry.get(policy_id)).result()
        return self._serve(self._registry.serving())

    def _serve(self, policy: PolicyVersion) -> Generator:
        with self._guard:
            self._promoted_id = policy.id
            found, current = self._find(policy.id), self._current
            rests = self._rests_after_failure(policy.id)
        if found is not None:
            return self._become_current(found)
        if current is None:
            return self._become_current(self._start(policy).result())
        if rests:
            return current
        loading = self._start(policy)
        wait([loading], timeout=self._settings.swap_wait_seconds)
        if loading.done() and loading.exception() is None:
            return self._become_current(loading.result())
        return current

    def _become_current(self, generator: Generator) -> Generator:
        with self._guard:
            before = self._current
            self._current = generator
            self._last_error = None
        if before is not generator:
            old = before.policy_id if before else None
            log.info("policy_serving", policy=generator.policy_id, before=old)
        return generator

    def _find(self, policy_id: str) -> Generator | None:
        current = self._current
        if current is not None and current.policy_id == policy_id:
            return current
        found = self._ready.get(policy_id)
        if found is not None:
            self._ready.move_to_end(policy_id)
        return found

    def _rests_after_failure(self, policy_id: str) -> bool:
        failed = self._failed_at.get(policy_id)
        return failed is not None and time.monotonic() - failed < self._settings.retry_seconds

    def _start(self, policy: PolicyVersion) -> Future[Generator]:
        """Begin loading, or join a load under way."""
        with self._guard:
            under_way = self._loading.get(policy.id)
            if under_way is not None:
                return under_way
            future: Future[Generator] = Future()
            self._loading[policy.id] = future
        # Daemon: leaving the program does not wait for a large model to load.
        threading.Thread(
            target=self._load, args=(policy, future), name=f"load-{policy.id}", daemon=True
        ).start()
        return future

    def _load(self, policy: PolicyVersion, future: Future[Generator]) -> None:
        started = time.monotonic()
        try:
            generator = self._loader(policy)
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to those who wait, not to this thread
            self._note_failure(policy, error)
            future.set_exception(_as_generation_error(policy, error))
            return
        with self._guard:
            self._loading.pop(policy.id, None)
            self._failed_at.pop(policy.id, None)
            self._ready[policy.id] = generator
            self._unload_oldest()
        log.info("policy_loaded", policy=policy.id, seconds=round(time.monotonic() - started, 2))
        future.set_result(generator)

    def _unload_oldest(self) -> None:
        kept = {self._promoted_id, self._current.policy_id if self._current else None}
        idle = [policy_id for policy_id in self._ready if policy_id not in kept]
        surplus = len(self._ready) - self._settings.cached_policies
        for policy_id in idle[: max(0, surplus)]:
            # A stream that still uses it holds it itself.
            del self._ready[policy_id]
            log.info("policy_unloaded", policy=policy_id)

    def _note_failure(self, policy: PolicyVersion, error: Exception) -> None:
        message = " ".join(str(error).split()) or type(error).__name__
        with self._guard:
            self._loading.pop(policy.id, None)
            self._failed_at[policy.id] = time.monotonic()
            if policy.id == self._promoted_id:
                self._last_error = LoadFailure(policy_id=policy.id, error=message, at=datetime.now(UTC))
        log.error("policy_load_failed", policy=policy.id, error=message)


def _as_generation_error(policy: PolicyVersion, error: Exception) -> GenerationError:
    if isinstance(error, GenerationError):
        return error
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    wrapped = GenerationError(f"policy {policy.id} cannot be loaded: {reason}")
    wrapped.__cause__ = error
    return wrapped
