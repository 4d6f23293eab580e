"""A promoted policy serves the next question without a restart; a broken one never takes the old one down."""

from __future__ import annotations

import threading

import pytest

from chatbot.errors import GenerationError
from chatbot.prompt import Message
from chatbot.protocols import Generator
from chatbot.records import PolicyVersion, Sampling
from chatbot.serving import ServingPolicies
from chatbot.settings import ServingSettings
from knowledge_base.errors import NotFoundError
from tests.chatbot.turn_fakes import FakeGenerator, FakeRegistry, make_policy

ASK = [Message(role="user", content="?")]


class _Loader:
    """Loads fakes; notes what it loaded, fails for chosen ids, waits at a gate when told to."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.broken: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, policy: PolicyVersion) -> Generator:
        self.gate.wait(10)
        self.loaded.append(policy.id)
        if policy.id in self.broken:
            raise OSError("weights are\nmissing")
        return FakeGenerator(f"from {policy.id}", policy_id=policy.id)


def _make(**settings: float) -> tuple[FakeRegistry, _Loader, ServingPolicies]:
    registry = FakeRegistry(*(make_policy(name) for name in ("base", "ppo-1", "ppo-2", "ppo-3")))
    loader = _Loader()
    return registry, loader, ServingPolicies(registry, loader, ServingSettings(**settings))  # type: ignore[arg-type]  # ints and floats by name


def test_a_policy_is_loaded_once() -> None:
    """Two questions, one load."""
    _, loader, policies = _make()

    assert policies.generator() is policies.generator()
    assert loader.loaded == ["base"]


def test_the_next_question_is_answered_by_the_promoted_policy() -> None:
    """After a promotion the next call returns the new policy."""
    registry, _, policies = _make()
    policies.generator()

    registry.promote("ppo-1")

    assert policies.generator().policy_id == "ppo-1"
    assert policies.serving_id == "ppo-1"


def test_the_old_policy_answers_while_a_slow_one_loads() -> None:
    """When loading takes longer than a question may wait, the old one answers, and the new one afterwards."""
    registry, loader, policies = _make(swap_wait_seconds=0)
    policies.generator()
    loader.gate.clear()
    registry.promote("ppo-1")

    assert policies.generator().policy_id == "base"

    loader.gate.set()
    assert policies.generator("ppo-1").policy_id == "ppo-1"  # joins the load under way
    assert policies.generator().policy_id == "ppo-1"
    assert loader.loaded == ["base", "ppo-1"]


def test_a_stream_in_progress_keeps_its_generator() -> None:
    """A stream begun before promotion and eviction ends in its own policy's words."""
    registry, _, policies = _make(cached_policies=1)
    stream = policies.generator().stream(ASK, Sampling(), threading.Event())
    first = next(stream).text

    registry.promote("ppo-1")
    policies.generator()

    assert first + "".join(delta.text for delta in stream) == "from base"


def test_a_broken_policy_leaves_the_old_one_serving_and_is_reported() -> None:
    """A failed load is told in one line; it is not tried again at each question."""
    registry, loader, policies = _make()
    policies.generator()
    loader.broken.add("ppo-1")
    registry.promote("ppo-1")

    served = [policies.generator().policy_id for _ in range(3)]

    assert served == ["base"] * 3
    assert policies.last_error is not None
    assert (policies.last_error.policy_id, policies.last_error.error) == ("ppo-1", "weights are missing")
    assert loader.loaded == ["base", "ppo-1"]


def test_a_broken_policy_is_tried_again_later() -> None:
    """Once the pause is over and the bundle is whole again, it serves and the report is gone."""
    registry, loader, policies = _make(retry_seconds=0)
    policies.generator()
    loader.broken.add("ppo-1")
    registry.promote("ppo-1")
    policies.generator()
    loader.broken.clear()

    assert policies.generator().policy_id == "ppo-1"
    assert policies.last_error is None


def test_rolling_back_a_broken_policy_clears_the_report() -> None:
    """Back to the old policy means that nothing is wrong any more."""
    registry, loader, policies = _make()
    policies.generator()
    loader.broken.add("ppo-1")
    registry.promote("ppo-1")
    policies.generator()

    registry.promote("base")
    policies.generator()

    assert policies.last_error is None


def test_the_very_first_policy_must_load() -> None:
    """With nothing to go on with, the failure reaches the person who asked."""
    _, loader, policies = _make()
    loader.broken.add("base")

    with pytest.raises(GenerationError, match="policy base cannot be loaded: weights are missing"):
        policies.generator()


def test_a_certain_policy_can_be_asked_for() -> None:
    """An id returns that policy and leaves the serving one as it is; an unknown id is an error."""
    _, _, policies = _make()
    policies.generator()

    assert policies.generator("ppo-2").policy_id == "ppo-2"
    assert policies.generator().policy_id == "base"
    with pytest.raises(NotFoundError):
        policies.generator("nobody")


def test_only_so_many_policies_stay_in_memory() -> None:
    """The policy unused for longest is dropped, never the serving one."""
    _, loader, policies = _make(cached_policies=2)
    for policy_id in (None, "ppo-1", "ppo-2", None, "ppo-2", "ppo-1"):
        policies.generator(policy_id)

    assert loader.loaded == ["base", "ppo-1", "ppo-2", "ppo-1"]


def test_many_questions_at_once_load_a_policy_once() -> None:
    """Ten threads asking first share one load."""
    _, loader, policies = _make()
    threads = [threading.Thread(target=policies.generator) for _ in range(10)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert loader.loaded == ["base"]
