"""Runs as rows."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import alignment.tables
from alignment.errors import RunCancelled
from alignment.records import StageProgress
from alignment.runs import RunStore
from knowledge_base.database import Database, metadata
from knowledge_base.errors import NotFoundError, UsageError

assert alignment.tables.runs is not None  # the import declares the tables


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run store on a fresh database."""
    database = Database("sqlite://")
    metadata.create_all(database.engine)
    return RunStore(database, tmp_path)


def test_a_run_goes_from_queued_to_done(store: RunStore) -> None:
    """Creating, starting and finishing leave a complete record."""
    run = store.create("cycle", {"seed": 1})
    store.start(run.id)
    store.finish(
        run.id, policy_id="ppo-1", gates=[], promoted=True, reason="all gates passed", metrics={"kl": 1.0}
    )

    done = store.get(run.id)

    assert ("done", "ppo-1", True, {"seed": 1}) == (done.state, done.policy_id, done.promoted, done.settings)
    assert done.directory.is_dir()


def test_a_cancelled_run_stops_at_its_next_report(store: RunStore) -> None:
    """Progress of a cancelled run raises, so that the stage stops."""
    run = store.start(store.create("cycle", {}).id)
    store.cancel(run.id)

    with pytest.raises(RunCancelled):
        store.report(run.id, StageProgress(stage="sft", done=1, total=2))


def test_a_cancelled_run_can_be_resumed(store: RunStore) -> None:
    """Cancelling keeps the checkpoints; starting again is allowed."""
    run = store.start(store.create("cycle", {}).id)
    store.cancel(run.id)

    assert store.start(run.id).state == "running"


def test_a_finished_run_cannot_be_cancelled(store: RunStore) -> None:
    """The error says that it has ended."""
    run = store.start(store.create("cycle", {}).id)
    store.finish(run.id, policy_id=None, gates=[], promoted=False, reason="", metrics={})

    with pytest.raises(UsageError, match="already done"):
        store.cancel(run.id)


def test_an_unknown_run_is_named(store: RunStore) -> None:
    """The error says how to list runs."""
    with pytest.raises(NotFoundError, match="runs list"):
        store.get("nope")


def test_the_active_run_is_the_one_waiting_or_running(store: RunStore) -> None:
    """Ended runs are not active."""
    first = store.start(store.create("cycle", {}).id)
    assert store.active() == store.get(first.id)

    store.fail(first.id, "out of memory")

    assert store.active() is None


def test_there_is_one_active_run_at_a_time(database: Database, tmp_path: Path) -> None:
    """On both databases; the second one's directory is not left behind."""
    store = RunStore(database, tmp_path)
    first = store.create("cycle", {})

    with pytest.raises(UsageError, match=first.id):
        store.create("sft", {})
    assert [first.id] == [path.name for path in tmp_path.iterdir() if path.is_dir()]


def test_of_many_who_start_at_once_one_does(database: Database, tmp_path: Path) -> None:
    """Two workers whose schedules fire at the same moment."""
    store = RunStore(database, tmp_path)

    def start(_: int) -> bool:
        try:
            store.create("cycle", {})
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert 1 == sum(pool.map(start, range(8)))


def test_the_hold_on_a_run_ends_with_the_work(store: RunStore) -> None:
    """Nobody else gets it meanwhile, not even in this process."""
    run = store.create("cycle", {})
    with store.working_on(run.id):
        assert store.is_worked_on(run.id)
        with pytest.raises(UsageError, match="another process"), store.working_on(run.id):
            pass

    assert not store.is_worked_on(run.id)


def test_a_run_of_another_machine_is_not_judged(store: RunStore) -> None:
    """Its directory is not here: whether somebody works on it cannot be known."""
    run = store.create("cycle", {})
    run.directory.rmdir()

    assert store.is_worked_on(run.id)
