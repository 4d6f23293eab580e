"""Runs as rows."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import alignment.run_lease
import alignment.tables
import chatbot.tables
from alignment.errors import RunCancelled
from alignment.records import StageProgress
from alignment.run_lease import SILENT_AFTER, RunLock
from alignment.runs import RunStore
from knowledge_base.database import Database, metadata, now
from knowledge_base.errors import NotFoundError, StorageError, UsageError

assert alignment.tables.runs is not None  # the imports declare the tables
assert chatbot.tables.users is not None


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


# Leases: who may work on a run, and write for it

STEP = StageProgress(stage="sft", done=1, total=2)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = now()

    def __call__(self) -> datetime:
        """The present."""
        return self.time


@pytest.fixture
def clock() -> Clock:
    """Of both machines."""
    return Clock()


@pytest.fixture
def machines(database: Database, tmp_path: Path, clock: Clock) -> tuple[RunStore, RunStore]:
    """Two, with one database and no common folder, so that neither sees the other's lock."""
    folders = tmp_path / "here", tmp_path / "there"
    here, there = (RunStore(database, folder, clock=clock) for folder in folders)
    return here, there


def test_of_two_who_resume_a_run_on_two_machines_one_does(machines: tuple[RunStore, RunStore]) -> None:
    """The second one sees that the first one lives."""
    here, there = machines
    run = here.create("cycle", {})
    with here.working_on(run.id):
        here.start(run.id)

        with pytest.raises(UsageError, match="another process"), there.working_on(run.id):
            pass
        assert there.is_worked_on(run.id)
        here.report(run.id, STEP)


def test_a_holder_that_is_heard_of_keeps_its_run(machines: tuple[RunStore, RunStore], clock: Clock) -> None:
    """However long a stage says nothing."""
    here, there = machines
    run = here.create("cycle", {})
    with here.working_on(run.id):
        here.start(run.id)
        for _ in range(3):
            clock.time += SILENT_AFTER / 2
            here._holds.beat(run.id)

        assert not there.fail_abandoned(run.id, "gone")


def test_a_holder_that_was_silent_goes_on_when_nobody_has_taken_over(
    machines: tuple[RunStore, RunStore], clock: Clock
) -> None:
    """A laptop that slept for an hour."""
    here, _ = machines
    run = here.create("cycle", {})
    with here.working_on(run.id):
        here.start(run.id)
        clock.time += timedelta(hours=1)
        here.report(run.id, STEP)

    assert "running" == here.get(run.id).state


def test_a_holder_that_lost_its_run_stops_and_changes_nothing(
    machines: tuple[RunStore, RunStore], clock: Clock
) -> None:
    """Somebody took over after a minute of silence: neither progress nor an outcome of the first one counts."""
    here, there = machines
    run = here.create("cycle", {})
    with here.working_on(run.id):
        here.start(run.id)
        clock.time += SILENT_AFTER
        with there.working_on(run.id):
            there.start(run.id)
            there.report(run.id, STEP)
            for write in (
                lambda: here.report(run.id, STEP),
                lambda: here.note_feedback(run.id, now()),
                lambda: here.finish(run.id, policy_id="late", gates=[], promoted=True, reason="", metrics={}),
            ):
                with pytest.raises(RunCancelled, match="taken over"):
                    write()
            here.fail(run.id, "too late")
            here._holds.beat(run.id)
            there.report(run.id, STEP)

            assert ("running", None) == (there.get(run.id).state, there.get(run.id).policy_id)


def test_a_run_in_a_restored_home_is_given_up_after_a_minute(
    machines: tuple[RunStore, RunStore], clock: Clock
) -> None:
    """Its folder is not in the backup, and its worker not in this world: it must not block cycles for ever."""
    here, restored = machines
    run = here.create("cycle", {})
    with here.working_on(run.id):
        here.start(run.id)
        assert not restored.fail_abandoned(run.id, "gone")
        clock.time += SILENT_AFTER

        assert restored.fail_abandoned(run.id, "gone")
    assert "failed" == restored.get(run.id).state
    restored.create("cycle", {})


def test_a_waiting_run_in_a_restored_home_is_given_up_after_a_minute(
    machines: tuple[RunStore, RunStore], clock: Clock
) -> None:
    """Nobody has begun it, and nobody will."""
    here, restored = machines
    run = here.create("cycle", {})
    assert restored.is_worked_on(run.id)
    clock.time += SILENT_AFTER

    assert restored.fail_abandoned(run.id, "gone")


def test_a_run_is_cancelled_without_anybody_who_works_on_it(machines: tuple[RunStore, RunStore]) -> None:
    """Its machine was lost a moment ago."""
    here, restored = machines
    run = here.create("cycle", {})
    with here.working_on(run.id):
        here.start(run.id)

        assert "cancelled" == restored.cancel(run.id).state
    restored.create("cycle", {})


def test_a_killed_process_is_replaced_at_once_where_its_lock_is_seen(
    database: Database, tmp_path: Path
) -> None:
    """The row still bears its token, a moment old; the operating system has let go of its lock."""
    killed, next_one = RunStore(database, tmp_path), RunStore(database, tmp_path)
    run = killed.create("cycle", {})
    hold = killed.working_on(run.id)
    hold.__enter__()
    killed.start(run.id)
    lease = killed.get(run.id).progress
    hold.__exit__(None, None, None)
    with database.write() as connection:
        connection.execute(alignment.tables.runs.update().values(progress=lease))

    with next_one.working_on(run.id):
        assert "running" == next_one.start(run.id).state


def test_what_a_run_has_promoted_is_not_cancelled(store: RunStore) -> None:
    """It serves: the line says how to go back."""
    run = store.start(store.create("cycle", {}).id)
    with store._database.write() as connection:
        store.note_promotion(connection, run.id)

    with pytest.raises(UsageError, match="policies rollback"):
        store.cancel(run.id)


def test_a_cancelled_run_promotes_nothing(store: RunStore) -> None:
    """Asked in the very transaction that would let its policy serve."""
    run = store.start(store.create("cycle", {}).id)
    store.cancel(run.id)

    with pytest.raises(RunCancelled), store._database.write() as connection:
        store.note_promotion(connection, run.id)


def test_what_cycles_found_of_a_person_and_wrote_down_of_questions_can_go(store: RunStore) -> None:
    """The rest of a run's record stays as it is."""
    suite = {"name": "injection", "n": 4, "n_fell": 1}
    metrics = {
        "raters": [{"labeler_id": "ana"}, {"labeler_id": "bo"}],
        "gates": {"suites": [suite | {"examples": [["Who keeps okapis?", "X"]]}], "parent_id": "base"},
    }
    run = store.start(store.create("cycle", {}).id)
    store.finish(run.id, policy_id=None, gates=[], promoted=False, reason="", metrics=metrics)
    store.create("sft", {})

    store.forget_rater("ana")
    store.forget_words()

    assert {
        "raters": [{"labeler_id": "bo"}],
        "gates": {"suites": [suite], "parent_id": "base"},
    } == store.get(run.id).metrics


def test_whoever_only_looks_at_a_run_keeps_nobody_from_it(store: RunStore) -> None:
    """The lock is held for a moment then; work waits for that moment."""
    run = store.create("cycle", {})
    looking = RunLock(run.directory).held()
    assert looking.__enter__()
    end = threading.Timer(0.2, looking.__exit__, (None, None, None))
    end.start()
    with store.working_on(run.id):
        assert store.is_worked_on(run.id)
    end.join()


@pytest.fixture
def denied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files belong to root, after `sudo tacit train`."""
    real = Path.open

    def open_file(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == alignment.run_lease.LOCK_FILE:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_file)


@pytest.mark.usefixtures("denied")
def test_a_lock_that_may_not_be_opened_is_named(store: RunStore) -> None:
    """With what to do, in one line."""
    run = store.create("cycle", {})
    with pytest.raises(StorageError, match=r"/lock cannot be used .*chown"), store.working_on(run.id):
        pass


def test_a_lock_that_may_not_be_opened_leaves_the_lease_to_tell(
    database: Database, tmp_path: Path, clock: Clock, request: pytest.FixtureRequest
) -> None:
    """Whoever holds the run is given up after a minute of silence, and no sooner."""
    owner, other = (RunStore(database, tmp_path, clock=clock) for _ in range(2))
    run = owner.create("cycle", {})
    with owner.working_on(run.id):
        owner.start(run.id)
        request.getfixturevalue("denied")
        assert other.is_worked_on(run.id)
        assert not other.fail_abandoned(run.id, "gone")
        clock.time += SILENT_AFTER

        assert not other.is_worked_on(run.id)
        assert other.fail_abandoned(run.id, "gone")
