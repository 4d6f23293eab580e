"""Deletion that is interrupted, that meets another one, or that finds damaged files: on snapshots written by hand, so that no model is trained."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ui.erasure
from alignment.records import DatasetSnapshot, RankedCompletions, Run
from alignment.run_scrub import RunScrub
from alignment.runs import CANCELLED_BY_DELETION
from alignment.snapshot import MANIFEST, SnapshotRows, load_snapshot, write_snapshot
from chatbot.records import JudgedAnswer, Judgement, PolicyVersion, User
from knowledge_base.database import new_id, now
from knowledge_base.errors import NotFoundError, StorageError
from tests.ui.page_fakes import add_user
from ui.wiring import Services
from ui.worker import Worker

NOTHING = SnapshotRows(pairs=[], judgements=[], rollouts=[])


@pytest.fixture
def ann(services: Services) -> User:
    """An employee."""
    return add_user(services, "ann")


def _rating(user: User, text: str = "Because zebra.", question: str = "Why?") -> Judgement:
    return Judgement(
        id=new_id(), kind="rating", user_id=user.id, subject=new_id(), question=question, prompt=f"Prompt {question}",
        document_ids=(), all_open=True, answers=(JudgedAnswer(text=text),), label=True,
    )  # fmt: skip


def _said(services: Services, user: User, *words: str, **named: str) -> Judgement:
    judgement = _rating(user, *words, **named)
    services.feedback.add(judgement)
    return judgement


def _write_snapshot(run: Run, said: list[Judgement]) -> Path:
    rows = [
        RankedCompletions(
            prompt=judgement.prompt, completions=(judgement.answers[0].text,), ranking=(), question_id="q",
            labeler_id=judgement.user_id, label=judgement.label, document_ids=[],
        )
        for judgement in said
    ]  # fmt: skip
    draft = DatasetSnapshot(
        hash="", path=run.directory, n_judgements=1, n_demonstrations=0, n_derived=0, n_questions=1, left_out={}, until=now()
    )  # fmt: skip
    out_dir = run.directory / "snapshot"
    return write_snapshot(draft, SnapshotRows(pairs=[], judgements=rows, rollouts=[]), NOTHING, out_dir).path


def _learning(services: Services, *said: Judgement) -> Run:
    """A cycle that runs and has its snapshot."""
    run = services.runs.start(services.runs.create("cycle", {}).id)
    _write_snapshot(run, list(said))
    services.runs.note_feedback(run.id, now())
    return services.runs.get(run.id)


def _failed(services: Services, *said: Judgement) -> Run:
    run = _learning(services, *said)
    services.runs.fail(run.id, "out of memory")
    return services.runs.get(run.id)


def _policy_of(services: Services, run: Run, folder: Path) -> str:
    folder.mkdir()
    services.registry.add(
        PolicyVersion(
            id="cand", stage="ppo", state="candidate", parent=None, path=str(folder), created_at=now(), metrics={}, gates=(),
            manifest={"run": run.id},
        )
    )  # fmt: skip
    return "cand"


def _is_kept(run: Run, word: str) -> bool:
    return any(word.encode() in path.read_bytes() for path in run.directory.rglob("*") if path.is_file())


def _while_scrubbing(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Callable[[], RunScrub]], RunScrub]
) -> None:
    real = ui.erasure.scrub_run
    monkeypatch.setattr(ui.erasure, "scrub_run", lambda *args, **named: act(lambda: real(*args, **named)))


def _full(scrub: Callable[[], RunScrub]) -> RunScrub:
    raise StorageError("the disk is full")


def _killed_after(scrub: Callable[[], RunScrub]) -> RunScrub:
    scrub()
    raise KeyboardInterrupt


def test_two_who_take_back_at_once_both_get_it_out(services: Services, ann: User) -> None:
    """Neither writes back the rows that the other one took out."""
    bob = add_user(services, "bob")
    others = [_rating(bob, f"Text {n}", f"Question {n}?") for n in range(400)]
    taken = [(ann, _said(services, ann, "zebra")), (bob, _said(services, bob, "okapi"))]
    run = _failed(services, *(judgement for _, judgement in taken), *others)
    threads = [
        threading.Thread(target=services.withdraw, args=(user, "rating", judgement.subject))
        for user, judgement in taken
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (False, False) == (_is_kept(run, "zebra"), _is_kept(run, "okapi"))
    (path,) = (manifest.parent for manifest in run.directory.glob(f"snapshot/*/{MANIFEST}"))
    assert 400 == len(load_snapshot(path).train.judgements)


def test_an_undo_that_failed_can_be_asked_for_again(
    services: Services, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said is known until it is gone from the runs."""
    judgement = _said(services, ann)
    run = _failed(services, judgement)
    with monkeypatch.context() as patched:
        _while_scrubbing(patched, _full)
        with pytest.raises(StorageError, match="full"):
            services.withdraw(ann, "rating", judgement.subject)

    services.withdraw(ann, "rating", judgement.subject)

    assert not _is_kept(run, "zebra")
    assert services.feedback.get(ann, "rating", judgement.subject) is None


def test_what_a_snapshot_got_during_an_undo_goes_too(
    services: Services, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written between the look at the runs and the end of the words."""
    judgement = _said(services, ann)
    run = services.runs.start(services.runs.create("cycle", {}).id)
    undo = services.feedback.undo

    def undo_late(*args: Any) -> Judgement:
        _write_snapshot(run, [judgement])
        return undo(*args)

    monkeypatch.setattr(services.feedback, "undo", undo_late)

    services.withdraw(ann, "rating", judgement.subject)

    assert not _is_kept(run, "zebra")
    assert "cancelled" == services.runs.get(run.id).state


@pytest.mark.parametrize("what", ["person", "vote"])
def test_a_deletion_killed_after_the_rows_stops_the_run_when_it_is_repeated(
    what: str, services: Services, ann: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And marks the policies, though it finds no more rows."""
    judgement = _said(services, ann)
    run = _learning(services, judgement)
    policy = _policy_of(services, run, tmp_path / "cand")

    def delete() -> None:
        if what == "person":
            services.delete_user(ann.id, actor="amina")
        else:
            services.withdraw(ann, "rating", judgement.subject)

    with monkeypatch.context() as patched:
        _while_scrubbing(patched, _killed_after)
        with pytest.raises(KeyboardInterrupt):
            delete()
    assert "data_deleted_since" not in services.registry.get(policy).manifest

    delete()

    assert "cancelled" == services.runs.get(run.id).state
    assert services.registry.get(policy).manifest["data_deleted_since"]


def test_a_deletion_killed_after_the_rows_marks_policies_of_an_ended_run_when_it_is_repeated(
    services: Services, ann: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is left to stop; what serves learned from it all the same."""
    run = _failed(services, _said(services, ann))
    policy = _policy_of(services, run, tmp_path / "cand")
    with monkeypatch.context() as patched:
        _while_scrubbing(patched, _killed_after)
        with pytest.raises(KeyboardInterrupt):
            services.delete_user(ann.id, actor="amina")

    erasure = services.delete_user(ann.id, actor="amina")

    assert [policy] == list(erasure.policies)
    assert services.registry.get(policy).manifest["data_deleted_since"]


def test_a_deletion_of_something_else_stops_no_run_that_went_on_since(services: Services, ann: User) -> None:
    """It has found out by itself, when it went on, what had been taken out of a snapshot that it had."""
    judgement = _said(services, ann)
    run = _learning(services, judgement)
    services.withdraw(ann, "rating", judgement.subject)
    services.runs.start(run.id)
    bob = add_user(services, "bob")

    services.delete_user(bob.id, actor="amina")

    assert "running" == services.runs.get(run.id).state


def test_a_run_whose_policy_serves_already_keeps_nobody_from_deleting(
    services: Services, ann: User, tmp_path: Path
) -> None:
    """It cannot be stopped any more; its policies are marked."""
    run = _learning(services, _said(services, ann))
    policy = _policy_of(services, run, tmp_path / "cand")
    with services.db.write() as connection:
        services.runs.note_promotion(connection, run.id)

    services.delete_user(ann.id, actor="amina")

    with pytest.raises(NotFoundError):
        services.accounts.by_name("ann")
    assert services.registry.get(policy).manifest["data_deleted_since"]


def test_a_cycle_that_an_undo_stopped_is_started_again_by_the_schedule(services: Services, ann: User) -> None:
    """It did not fail on what was said: that waits as before. Ops see why it was stopped."""
    bob = add_user(services, "bob")
    judgement = _said(services, ann)
    for n in range(3):
        _said(services, bob, question=f"Question {n}?")
    services.schedule.set(cron=None, min_feedback=3, actor="ops")
    run = _learning(services, judgement)

    services.withdraw(ann, "rating", judgement.subject)

    stopped = services.runs.get(run.id)
    assert ("cancelled", CANCELLED_BY_DELETION) == (stopped.state, stopped.reason)
    assert Worker(services).schedule_step()


def test_a_cycle_that_an_undo_stopped_has_not_spent_its_mark_of_the_clock(
    services: Services, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weekly schedule does not lose a week to it."""
    judgement = _said(services, ann)
    _said(services, add_user(services, "bob"))
    services.schedule.set(cron="0 3 * * 0", min_feedback=None, actor="ops")
    later = now() + timedelta(days=8)
    run = _learning(services, judgement)
    services.withdraw(ann, "rating", judgement.subject)
    monkeypatch.setattr("ui.worker.now", lambda: later)

    assert "cancelled" == services.runs.get(run.id).state
    assert Worker(services).schedule_step()


def test_a_damaged_record_of_gates_stops_no_deletion(services: Services, ann: User) -> None:
    """Nobody can read it, so it goes: a run that is resumed measures again."""
    run = _failed(services, _said(services, ann))
    record = run.directory / "gates" / "done.json"
    record.parent.mkdir()
    record.write_text("")

    services.delete_user(ann.id, actor="amina")

    assert not record.exists()
    assert not _is_kept(run, "zebra")


@pytest.mark.parametrize("name", [MANIFEST, "rankings.train.jsonl"])
def test_a_damaged_snapshot_is_named_when_all_others_are_done(
    name: str, services: Services, ann: User
) -> None:
    """Its rows that can be read go too; without its folder the deletion goes through."""
    judgement = _said(services, ann)
    runs = [_failed(services, judgement), _failed(services, judgement), _failed(services, judgement)]
    (file,) = runs[1].directory.glob(f"snapshot/*/{name}")
    file.chmod(0o644)
    file.write_text("{zebra")

    with pytest.raises(StorageError, match=rf"{name} is damaged.*remove {file.parent}") as raised:
        services.delete_user(ann.id, actor="amina")

    assert "zebra" not in str(raised.value)
    assert [False, False] == [_is_kept(runs[0], "zebra"), _is_kept(runs[2], "zebra")]
    assert "zebra" not in (file.parent / "unpaired.train.jsonl").read_text()
    for left in file.parent.iterdir():
        left.unlink()
    services.delete_user(ann.id, actor="amina")
    assert services.accounts.find("ann") is None


def test_a_run_whose_lock_is_another_user_s_leaves_the_others_scrubbed(
    services: Services, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion fails, and says so, when it has done what it could."""
    judgement = _said(services, ann)
    older, newest = _failed(services, judgement), _failed(services, judgement)
    real = services.runs.is_worked_on

    def look(run_id: str) -> bool:
        if run_id == newest.id:
            raise StorageError("the lock may not be written")
        return real(run_id)

    monkeypatch.setattr(services.runs, "is_worked_on", look)

    with pytest.raises(StorageError, match="lock"):
        services.delete_user(ann.id, actor="amina")

    assert not _is_kept(older, "zebra")


def test_a_run_that_took_no_snapshot_makes_no_undo_look_at_all_judgements(
    services: Services, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended before; and one that has a snapshot of later is looked at."""
    run = services.runs.start(services.runs.create("cycle", {}).id)
    services.runs.fail(run.id, "the base model is missing")
    asked: list[str] = []
    scrubbed: list[datetime] = []
    real = services.feedback.questions_without

    def note(*args: Any, **named: Any) -> set[str]:
        asked.append("all")
        return real(*args, **named)

    def look(scrub: Callable[[], RunScrub]) -> RunScrub:
        scrubbed.append(now())
        return scrub()

    monkeypatch.setattr(services.feedback, "questions_without", note)
    _while_scrubbing(monkeypatch, look)
    judgement = _said(services, ann)
    services.withdraw(ann, "rating", judgement.subject)
    assert ([], []) == (asked, scrubbed)

    judgement = _said(services, ann, "okapi")
    _write_snapshot(run, [judgement])
    services.withdraw(ann, "rating", judgement.subject)

    assert not _is_kept(run, "okapi")


def test_questions_that_others_ask_too_are_known_without_their_judgements(
    services: Services, ann: User
) -> None:
    """By id, or all of a person's."""
    bob = add_user(services, "bob")
    mine = _said(services, ann, question="Mine?")
    _said(services, ann, question="Both?")
    _said(services, bob, question="Both?")

    assert {"Both?"} == services.feedback.questions_without({mine.id})
    assert {"Both?"} == services.feedback.questions_without((), user_id=ann.id)
    assert {"Mine?", "Both?"} == services.feedback.questions_without((), user_id=bob.id)
