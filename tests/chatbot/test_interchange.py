"""Judgements to files and back; a bad file changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatbot.accounts import Accounts
from chatbot.answers import AnswerStore
from chatbot.durable_files import written_atomically
from chatbot.feedback import FeedbackStore
from chatbot.interchange import export_feedback, import_feedback
from chatbot.records import Judgement
from knowledge_base.database import Database
from knowledge_base.errors import StorageError, UsageError
from tests.chatbot.cast import add_user, make_answer, make_passage

RATING = {"kind": "rating", "question": "Days?", "answer": "25.", "label": True, "user": "ann"}
COMPARISON = {
    "kind": "comparison",
    "question": "Days?",
    "answers": ["25.", "26.", "I don't know."],
    "ranking": [[0], [1, 2]],
    "user": "ben",
    "at": "2025-12-01T08:00:00+01:00",
    "reasons": ["wrong"],
    "passages": ["You get 25 days.", {"text": "Ask early.", "document": "leave.md"}],
}
DEMONSTRATION = {"kind": "demonstration", "question": "Days?", "answer": "25 days [1].", "user": "ann"}


@pytest.fixture
def feedback(db: Database) -> FeedbackStore:
    """Where imports go."""
    return FeedbackStore(db)


@pytest.fixture
def accounts(db: Database) -> Accounts:
    """Whose they are."""
    return Accounts(db)


def write(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A file of JSON lines; texts go in as they are."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def content(judgement: Judgement) -> tuple[Any, ...]:
    """What an export must carry."""
    return (
        judgement.kind,
        judgement.subject,
        judgement.question,
        judgement.prompt,
        tuple(judgement.document_ids),
        judgement.all_open,
        [answer.text for answer in judgement.answers],
        judgement.ranking,
        judgement.label,
        judgement.both_bad,
        judgement.reasons,
        judgement.comment,
        judgement.surface,
        judgement.displayed_order,
    )


def test_an_import_stores_all_kinds_and_makes_users(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path
) -> None:
    """Three answers make a ranking; the new users can not sign in; empty lines do not matter."""
    path = write(tmp_path / "f.jsonl", RATING, "", COMPARISON, DEMONSTRATION)

    report = import_feedback(path, feedback, accounts)

    assert (3, 3, 0, 2) == (report.lines, report.added, report.unchanged, report.users_created)
    assert {"rating": 1, "ranking": 1, "demonstration": 1} == report.by_kind
    assert ["ann", "ben"] == [user.name for user in accounts.list()]
    (ranking,) = feedback.current(kinds=["ranking"])
    assert ("2025-12-01T07:00:00+00:00", COMPARISON["passages"]) == (
        ranking.extra["at"],
        ranking.extra["passages"],
    )


def test_importing_twice_adds_nothing(feedback: FeedbackStore, accounts: Accounts, tmp_path: Path) -> None:
    """Not even when the file contradicts itself: its last word stays the last."""
    path = write(tmp_path / "f.jsonl", RATING, COMPARISON, {**RATING, "label": False})
    first = import_feedback(path, feedback, accounts)
    second = import_feedback(path, feedback, accounts)

    assert ((3, 0), (0, 3)) == ((first.added, first.unchanged), (second.added, second.unchanged))
    assert [False] == [j.label for j in feedback.current(kinds=["rating"])]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ({**RATING, "kind": "vote"}, "'vote' is not a kind"),
        ({**RATING, "label": "yes"}, "'label' must be true or false"),
        ({k: v for k, v in RATING.items() if k != "user"}, "'user' is missing"),
        ({**RATING, "user": "a b"}, "not a user name"),
        ({**RATING, "lable": True}, "unknown key 'lable'"),
        ({**RATING, "answer": " "}, "can not be empty"),
        ({**RATING, "at": "yesterday"}, "'at'"),
        ({**RATING, "at": "2026-01-01T00:00:00"}, "without a time zone"),
        ({**RATING, "reasons": ["meh"]}, "not a reason"),
        ({**RATING, "question": "\u0000"}, "can not be stored"),
        ({**COMPARISON, "ranking": [[0], [1]]}, "exactly once"),
        ({**COMPARISON, "ranking": [[0], [1], [True]]}, "list of lists"),
        ({**COMPARISON, "answers": "25."}, "list of texts"),
        ({**COMPARISON, "passages": [1]}, "'passages'"),
        ({**COMPARISON, "answers": ["one"], "ranking": [[0]]}, "has 1"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path, line: dict[str, Any] | str, says: str
) -> None:
    """Not the good lines before it, and no users."""
    path = write(tmp_path / "f.jsonl", RATING, "", line)

    with pytest.raises(UsageError, match="line 3: ") as caught:
        import_feedback(path, feedback, accounts)

    assert says in str(caught.value)
    assert (list(feedback.current()), accounts.list()) == ([], [])


def test_files_that_are_not_text_or_not_there_are_refused(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path
) -> None:
    """One clear line each."""
    (tmp_path / "latin1.jsonl").write_bytes(b'{"kind": "\xe9"}\n')
    (tmp_path / "long.jsonl").write_bytes(b"x" * 1_000_002)
    for name, says in (
        ("latin1.jsonl", "UTF-8"),
        ("none.jsonl", "check the path"),
        (".", "check the path"),
        ("long.jsonl", "longer than"),
    ):
        with pytest.raises(UsageError, match=says):
            import_feedback(tmp_path / name, feedback, accounts)


def test_an_export_reads_back_in_another_home(
    feedback: FeedbackStore, accounts: Accounts, db: Database, tmp_path: Path
) -> None:
    """Content for content; and read back into the same home it adds nothing."""
    alice = add_user(db)
    answers = [make_answer(evidence_from=[make_passage(is_open=False)]), make_answer()]
    for answer in answers:
        AnswerStore(db).save(answer, alice.id, "chat")
    feedback.rate(alice, answers[0].id, False, reasons=["wrong"], comment="Too old")
    feedback.compare(alice, answers[0].id, answers[1].id, "both bad")
    import_feedback(write(tmp_path / "in.jsonl", COMPARISON, DEMONSTRATION), feedback, accounts)
    before = [content(j) for j in feedback.current()]

    report = export_feedback(tmp_path / "out.jsonl", feedback, accounts)

    assert import_feedback(tmp_path / "out.jsonl", feedback, accounts).added == 0
    for user in accounts.list():
        accounts.delete(user.id)
    import_feedback(tmp_path / "out.jsonl", feedback, accounts)
    assert sorted(map(repr, before)) == sorted(repr(content(j)) for j in feedback.current())
    assert (4, 4) == (report.judgements, report.rows)


def test_exported_lines_follow_the_contract(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path
) -> None:
    """The required keys, with the values that came in."""
    import_feedback(write(tmp_path / "in.jsonl", RATING, COMPARISON, DEMONSTRATION), feedback, accounts)
    export_feedback(tmp_path / "out.jsonl", feedback, accounts)

    lines = {line["kind"]: line for line in read(tmp_path / "out.jsonl")}
    for given in (RATING, DEMONSTRATION, COMPARISON):
        exported = lines[str(given["kind"])]
        assert {k: v for k, v in given.items() if k != "at"} == {k: exported[k] for k in given if k != "at"}


def test_preferences_are_all_ordered_pairs(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path
) -> None:
    """Ties are left out and counted."""
    import_feedback(write(tmp_path / "in.jsonl", RATING, COMPARISON), feedback, accounts)

    report = export_feedback(tmp_path / "out.jsonl", feedback, accounts, kind="trl-preference")

    assert [
        {"prompt": "Days?", "chosen": "25.", "rejected": "26."},
        {"prompt": "Days?", "chosen": "25.", "rejected": "I don't know."},
    ] == read(tmp_path / "out.jsonl")
    assert (1, 2, 1) == (report.judgements, report.rows, report.ties_left_out)


def test_ratings_and_demonstrations_have_their_formats(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path
) -> None:
    """TRL's columns, nothing else."""
    import_feedback(write(tmp_path / "in.jsonl", RATING, DEMONSTRATION), feedback, accounts)
    export_feedback(tmp_path / "u", feedback, accounts, kind="trl-unpaired")
    export_feedback(tmp_path / "d", feedback, accounts, kind="trl-prompt-completion")

    assert [{"prompt": "Days?", "completion": "25.", "label": True}] == read(tmp_path / "u")
    assert [{"prompt": "Days?", "completion": "25 days [1]."}] == read(tmp_path / "d")


def test_training_formats_hold_nothing_restricted(
    feedback: FeedbackStore, accounts: Accounts, tmp_path: Path
) -> None:
    """What not everyone may read is left out and counted."""
    import_feedback(write(tmp_path / "in.jsonl", {**RATING, "all_open": False}), feedback, accounts)

    report = export_feedback(tmp_path / "out", feedback, accounts, kind="trl-unpaired")

    assert (0, 1, "") == (report.rows, report.restricted_left_out, (tmp_path / "out").read_text())


def test_an_unknown_format_is_refused(feedback: FeedbackStore, accounts: Accounts, tmp_path: Path) -> None:
    """The message lists the legal ones; no file appears."""
    with pytest.raises(UsageError, match="trl-unpaired"):
        export_feedback(tmp_path / "out", feedback, accounts, kind="csv")
    assert list(tmp_path.glob("*out*")) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """And nothing half-written beside it."""
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def act() -> None:
        with written_atomically(path) as file:
            file.write("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        act()

    assert (["out.jsonl"], "old") == ([p.name for p in tmp_path.glob("*out*")], path.read_text())


def test_a_missing_folder_is_said_in_one_line(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(StorageError, match="make it first"), written_atomically(tmp_path / "none" / "out"):
        pass
