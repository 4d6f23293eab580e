"""Which policy serves: promotions, roll-backs, and what may not serve."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatbot import tables
from chatbot.audit import AuditLog
from chatbot.bundles import delete_bundle, new_staging, write_bundle
from chatbot.errors import PolicyError
from chatbot.policies import PolicyRegistry
from chatbot.records import PolicyVersion
from knowledge_base.database import Database
from knowledge_base.errors import NotFoundError, UsageError
from tests.chatbot.cast import START, Clock


def version(policy_id: str, **changes: object) -> PolicyVersion:
    """A candidate without files of its own."""
    values: dict[str, object] = {
        "id": policy_id,
        "stage": "ppo",
        "state": "candidate",
        "parent": "base",
        "path": f"hub/{policy_id}",
        "created_at": START,
        "metrics": {"win_rate": 0.5},
        "gates": ({"name": "length", "passed": True},),
        "manifest": {"seed": 1},
    }
    return PolicyVersion(**{**values, **changes})  # type: ignore[arg-type]  # the test's own keywords


@pytest.fixture
def registry(db: Database, clock: Clock) -> PolicyRegistry:
    """The base model serves; a, b and c are candidates."""
    registry = PolicyRegistry(db, clock=clock)
    registry.ensure_base("hub/base", {"weights": "abc"})
    for policy_id in ("ppo-a", "ppo-b", "ppo-c"):
        registry.add(version(policy_id))
    return registry


def test_before_the_first_start_nothing_serves(db: Database) -> None:
    """The message says what to run."""
    with pytest.raises(NotFoundError, match="tacit init"):
        PolicyRegistry(db).serving()


def test_the_base_model_serves_first_and_is_registered_once(registry: PolicyRegistry, db: Database) -> None:
    """Starting again does not take the place of what was promoted; a moved base model is followed."""
    assert ("base", "serving") == (registry.serving().id, registry.serving().state)
    registry.promote("ppo-a", "olga")

    registry.ensure_base("hub/base", {"weights": "abc"})
    moved = registry.ensure_base("hub/base-2", {"weights": "def"})

    assert ("ppo-a", "hub/base-2", "retired") == (registry.serving().id, moved.path, moved.state)
    assert ["policy.base_changed"] == [e.action for e in AuditLog(db).list(action="policy.base_changed")]


def test_an_added_policy_comes_back_whole(registry: PolicyRegistry) -> None:
    """Metrics, gates and manifest included."""
    assert version("ppo-a") == registry.get("ppo-a")
    assert {"base", "ppo-a", "ppo-b", "ppo-c"} == {policy.id for policy in registry.list()}


@pytest.mark.parametrize(
    "changes", [{"id": "ppo-a"}, {"id": "../x"}, {"state": "serving"}, {"parent": "nobody"}]
)
def test_odd_policies_are_not_added(registry: PolicyRegistry, changes: dict[str, object]) -> None:
    """Taken or unsafe ids, self-made states, unknown parents."""
    with pytest.raises(UsageError):
        registry.add(
            version(
                policy_id=str(changes.get("id", "ppo-d")), **{k: v for k, v in changes.items() if k != "id"}
            )
        )


def test_an_unknown_policy_names_near_ones(registry: PolicyRegistry) -> None:
    """A typing error is met with help."""
    with pytest.raises(NotFoundError, match=r"did you mean .*ppo-a"):
        registry.get("pp-a")
    with pytest.raises(NotFoundError, match="policies list"):
        registry.get("zzzzzzzz")


def test_promoting_retires_what_served_and_is_audited(registry: PolicyRegistry, db: Database) -> None:
    """One serves at any time; promoting it again changes nothing."""
    registry.promote("ppo-a", "olga")
    registry.promote("ppo-b", "olga", reason="better")
    registry.promote("ppo-b", "olga")

    states = {policy.id: policy.state for policy in registry.list()}
    assert {"base": "retired", "ppo-a": "retired", "ppo-b": "serving", "ppo-c": "candidate"} == states
    assert registry.get("ppo-a").reason == "replaced by ppo-b"
    newest, older, _ = AuditLog(db).list(action="policy.promote")
    assert ("olga", "ppo-b", "ppo-a", "better") == (
        newest.actor,
        newest.subject,
        newest.detail["before"],
        newest.detail["reason"],
    )
    assert older.subject == "ppo-a"


def test_rolling_back_twice_goes_two_back(registry: PolicyRegistry) -> None:
    """And then there is nothing left."""
    registry.promote("ppo-a", "olga")
    registry.promote("ppo-b", "olga")

    assert ["ppo-a", "base"] == [registry.rollback("olga").id, registry.rollback("olga").id]
    with pytest.raises(PolicyError, match="nothing to roll back to"):
        registry.rollback("olga")
    assert ("base", "rolled back to ppo-a") == (registry.serving().id, registry.get("ppo-b").reason)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["base", "ppo-a", "ppo-b", "ppo-c", "roll back"]), max_size=12))
def test_serving_is_the_top_of_a_stack(registry: PolicyRegistry, db: Database, steps: list[str]) -> None:
    """Any sequence of promotions and roll-backs does what a plain list does."""
    with db.write() as connection:  # the fixture's database lives through all examples
        connection.execute(sa.delete(tables.promotions))
        connection.execute(sa.update(tables.policies).values(state="candidate"))
    registry.promote("base", "olga")
    stack = ["base"]
    for step in steps:
        if step != "roll back":
            registry.promote(step, "olga")
            if stack[-1] != step:
                stack.append(step)
        elif len(stack) > 1:
            stack.pop()
            registry.rollback("olga")
        else:
            with pytest.raises(PolicyError):
                registry.rollback("olga")
        assert stack[-1] == registry.serving().id
        assert [stack[-1]] == [policy.id for policy in registry.list() if policy.state == "serving"]


def test_a_rejected_policy_serves_only_by_force_with_a_reason(registry: PolicyRegistry, db: Database) -> None:
    """The reason is in the audit trail."""
    rejected = registry.reject("ppo-a", "too long", [{"name": "length", "passed": False}])
    assert ("rejected", "too long", False) == (rejected.state, rejected.reason, rejected.gates[0]["passed"])

    with pytest.raises(PolicyError, match="too long"):
        registry.promote("ppo-a", "olga")
    with pytest.raises(UsageError, match="reason"):
        registry.promote("ppo-a", "olga", force=True)
    registry.promote("ppo-a", "olga", force=True, reason="a demonstration")

    (event, *_) = AuditLog(db).list(action="policy.promote")
    assert ("ppo-a", True, "a demonstration") == (
        registry.serving().id,
        event.detail["forced"],
        event.detail["reason"],
    )


def test_the_serving_policy_is_not_rejected(registry: PolicyRegistry) -> None:
    """Something must answer; and a rejection says why."""
    with pytest.raises(PolicyError, match="roll back"):
        registry.reject("base", "old")
    with pytest.raises(UsageError, match="reason"):
        registry.reject("ppo-a", " ")


def test_rolling_back_passes_over_what_was_rejected_since(registry: PolicyRegistry) -> None:
    """Also when rolling back again afterwards."""
    for policy_id in ("ppo-a", "ppo-b", "ppo-c"):
        registry.promote(policy_id, "olga")
    registry.reject("ppo-b", "leaks names")

    assert ["ppo-a", "base"] == [registry.rollback("olga").id, registry.rollback("olga").id]


def test_a_changed_bundle_does_not_serve(registry: PolicyRegistry, tmp_path: Path) -> None:
    """Neither by promotion nor by roll-back; what serves goes on serving."""
    directory = tmp_path / "ppo-d"
    staging = new_staging(directory)
    (staging / "model.safetensors").write_bytes(b"weights")
    manifest = write_bundle(staging, directory, {"stage": "ppo"})
    registry.add(version("ppo-d", path=str(directory), manifest=manifest))
    registry.promote("ppo-d", "olga")
    registry.promote("ppo-a", "olga")
    (directory / "model.safetensors").chmod(0o644)
    (directory / "model.safetensors").write_bytes(b"other")

    for attempt in (lambda: registry.promote("ppo-d", "olga"), lambda: registry.rollback("olga")):
        with pytest.raises(PolicyError, match="was changed"):
            attempt()
    assert registry.serving().id == "ppo-a"
    delete_bundle(directory)


def test_a_roll_back_to_what_is_gone_names_the_way_out(registry: PolicyRegistry, tmp_path: Path) -> None:
    """It is not passed over in silence: the policy that served before it and is whole is named, with the command."""
    for policy_id in ("ppo-d", "ppo-e"):
        directory = tmp_path / policy_id
        staging = new_staging(directory)
        (staging / "model.safetensors").write_bytes(b"weights")
        manifest = write_bundle(staging, directory, {"stage": "ppo"})
        registry.add(version(policy_id, path=str(directory), manifest=manifest))
    for policy_id in ("ppo-a", "ppo-d", "ppo-e", "ppo-b"):
        registry.promote(policy_id, "olga")
    for policy_id in ("ppo-d", "ppo-e"):
        delete_bundle(tmp_path / policy_id)

    with pytest.raises(PolicyError, match=r"to ppo-e: .*is gone.*`tacit policies promote ppo-a`"):
        registry.rollback("olga")
    assert registry.serving().id == "ppo-b"


def test_promotions_at_the_same_moment_leave_one_serving(registry: PolicyRegistry) -> None:
    """They wait for each other."""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda i: registry.promote(i, "olga"), ["ppo-a", "ppo-b", "ppo-c"]))

    assert [registry.serving().id] == [policy.id for policy in registry.list() if policy.state == "serving"]


def test_an_evaluation_is_kept_with_the_policy(registry: PolicyRegistry) -> None:
    """In place of the one before."""
    changed = registry.record_evaluation(
        "ppo-a", metrics={"win_rate": 0.75}, gates=[{"name": "kl", "passed": True}]
    )

    assert ({"win_rate": 0.75}, ["kl"]) == (changed.metrics, [gate["name"] for gate in changed.gates])
