"""What a training run may leave behind in the product; training itself is not done here."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment.errors import RunCancelled
from chatbot.records import PolicyVersion
from knowledge_base.database import now
from knowledge_base.errors import NotFoundError
from ui.training import ProductWorld
from ui.wiring import Services


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with what a stage wrote."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def _candidate(weights: Path, run_id: str) -> PolicyVersion:
    return PolicyVersion(
        id="ppo-1",
        stage="ppo",
        state="candidate",
        parent=None,
        path=str(weights),
        created_at=now(),
        metrics={},
        gates=(),
        manifest={"run": run_id},
    )


def test_a_run_that_goes_on_publishes(services: Services, weights: Path) -> None:
    """The policy is registered, with a bundle of its own."""
    run = services.runs.start(services.runs.create("cycle", {}).id)

    ProductWorld(services, run.id).publish(_candidate(weights, run.id), weights)

    assert (Path(services.registry.get("ppo-1").path) / "config.json").is_file()


def test_a_run_that_a_deletion_stopped_publishes_nothing(services: Services, weights: Path) -> None:
    """The deletion has marked the run's policies by then: one more would look as if it had learned from nothing that is gone."""
    run = services.runs.start(services.runs.create("cycle", {}).id)
    services.runs.cancel(run.id)

    with pytest.raises(RunCancelled):
        ProductWorld(services, run.id).publish(_candidate(weights, run.id), weights)

    with pytest.raises(NotFoundError):
        services.registry.get("ppo-1")
    assert not (services.home.policies / "ppo-1").exists()
