"""What `tacit --json` promises to other programs, and what its exit codes mean."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_home import QUESTIONS, TINY_CYCLE
from tests.ui.cli_runs import call, refused
from ui.cli import run, tacit

Capture = pytest.CaptureFixture[str]
QUESTION = QUESTIONS[0][0]
HEAVY = ("torch", "transformers", "gradio", "faiss", "sentence_transformers", "trl", "fastapi", "alembic")


@pytest.fixture(scope="module")
def shared(tiny_template: Path) -> Path:
    """The home of tests that only read, and answers given in it hurt nobody."""
    return tiny_template / "home"


def test_help_imports_nothing_heavy() -> None:
    """That is what keeps it under a second."""
    program = (
        "import sys; from ui.cli import run; code = run(['--help']);"
        f"print(code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "0 []" == done.stderr.strip()
    assert "tacit demo" in done.stdout


@pytest.mark.parametrize("command", sorted(tacit.commands))
def test_every_command_explains_itself(command: str, capsys: Capture) -> None:
    """`--help` works and says something."""
    assert 0 == run([command, "--help"])
    assert "Usage: tacit " + command in capsys.readouterr().out


def test_no_command_shows_the_help(capsys: Capture) -> None:
    """As wrong usage."""
    assert 2 == run([])
    assert "Usage: tacit" in capsys.readouterr().err


def test_init_makes_a_home_that_serves_the_base_model(tmp_path: Path, capsys: Capture) -> None:
    """Doing it twice is safe."""
    call(capsys, tmp_path / "new", "init")

    assert {"home": str(tmp_path / "new"), "serving": "base"} == call(capsys, tmp_path / "new", "init")


def test_ingest_counts(tiny: Path, capsys: Capture) -> None:
    """Ingesting again skips what is unchanged, and a file that fails is named."""
    (tiny / "docs" / "broken.pdf").write_bytes(b"no pdf")
    report = call(capsys, tiny / "home", "ingest", tiny / "docs", "--collection", "handbook")

    assert {"documents", "chunks", "skipped", "failed", "seconds"} == set(report)
    assert (0, 0, 4) == (report["documents"], report["chunks"], report["skipped"])
    assert [{"path", "error"}] == [set(failure) for failure in report["failed"]]


def test_ingest_fails_when_nothing_could_be_read(tiny: Path, capsys: Capture) -> None:
    """The object is printed all the same, and the exit code is 1."""
    (tiny / "broken.pdf").write_bytes(b"no pdf")
    code = run(
        ["ingest", str(tiny / "broken.pdf"), "--collection", "x", "--home", str(tiny / "home"), "--json"]
    )

    assert 1 == code
    assert 1 == len(json.loads(capsys.readouterr().out)["failed"])


def test_documents_are_listed_and_deleted(tiny: Path, capsys: Capture) -> None:
    """A deleted one is gone from the list."""
    found = call(capsys, tiny / "home", "documents", "list", "--collection", "handbook")["documents"]
    assert {"id", "collection", "path", "title", "chunks", "updated_at"} == set(found[0])
    assert {"deleted": found[0]["id"]} == call(capsys, tiny / "home", "documents", "delete", found[0]["id"])

    left = call(capsys, tiny / "home", "documents", "list", "--collection", "handbook")["documents"]

    assert found[1:] == left


def test_collections_are_granted_and_revoked(tiny: Path, capsys: Capture) -> None:
    """`everyone` opens and closes; a group is added and taken away."""
    home = tiny / "home"
    granted = call(capsys, home, "collections", "grant", "pay", "board")
    assert {"name": "pay", "open": False, "groups": ["board", "hr"]} == granted
    assert ["hr"] == call(capsys, home, "collections", "revoke", "pay", "board")["groups"]
    assert call(capsys, home, "collections", "grant", "pay", "everyone")["open"]
    listed = call(capsys, home, "collections", "list")["collections"]

    assert {"name", "title", "open", "groups", "owner", "documents", "chunks"} == set(listed[0])


def test_users_are_added_listed_keyed_and_disabled(tiny: Path, capsys: Capture) -> None:
    """A password is made and shown once when none is given; a key likewise."""
    home = tiny / "home"
    added = call(capsys, home, "users", "add", "ann", "--groups", "hr, it")
    assert {"id", "name", "role", "groups", "password"} == set(added)
    assert ["hr", "it"] == added["groups"]
    assert {"id", "key"} == set(call(capsys, home, "users", "key", "ann"))
    assert {"name", "disabled_at"} == set(call(capsys, home, "users", "disable", "ann"))
    listed = {user["name"]: user for user in call(capsys, home, "users", "list")["users"]}

    assert {"id", "name", "role", "groups", "disabled_at"} == set(listed["ann"])
    assert listed["ann"]["disabled_at"]


def test_a_user_is_deleted_after_being_asked(
    tiny: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--yes` stands for the answer; the trail has a pseudonym."""
    home = tiny / "home"
    call(capsys, home, "users", "add", "ann")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert 0 != run(["users", "delete", "ann", "--home", str(home)])
    assert "This cannot be undone" in capsys.readouterr().err
    assert "ann" in {user["name"] for user in call(capsys, home, "users", "list")["users"]}

    deleted = call(capsys, home, "users", "delete", "ann", "--yes")

    assert {
        "deleted",
        "recorded_as",
        "snapshot_rows",
        "cancelled_run",
        "policies_that_learned_from_it",
    } == set(deleted)
    assert deleted["recorded_as"] in {e["subject"] for e in call(capsys, home, "audit", "list")["events"]}
    assert "ann" not in {user["name"] for user in call(capsys, home, "users", "list")["users"]}


def test_the_last_administrator_cannot_be_deleted(tiny: Path, capsys: Capture) -> None:
    """One line says what to do first; the account stays as it was."""
    home = tiny / "home"
    call(capsys, home, "users", "add", "jonas", "--role", "admin")

    assert 2 == run(["users", "delete", "jonas", "--yes", "--home", str(home)])

    assert "last administrator: make or enable another one first" in capsys.readouterr().err
    (jonas,) = (u for u in call(capsys, home, "users", "list")["users"] if u["name"] == "jonas")
    assert jonas["disabled_at"] is None


def test_raters_are_listed_left_out_and_let_back_in(tiny: Path, capsys: Capture) -> None:
    """A decision shows in the list; without judgements there is nobody to estimate."""
    home = tiny / "home"
    call(capsys, home, "users", "add", "ann")
    assert [] == call(capsys, home, "raters", "list")["raters"]

    assert {"name": "ann", "review": "excluded"} == call(capsys, home, "raters", "exclude", "ann")
    assert {"name": "ann", "review": "trusted"} == call(capsys, home, "raters", "trust", "ann")
    assert {"name": "ann", "review": None} == call(capsys, home, "raters", "undo", "ann")


def test_a_given_password_is_not_shown(tmp_path: Path, capsys: Capture) -> None:
    """Neither as JSON nor as text."""
    added = call(capsys, tmp_path / "new", "users", "add", "ann", "--password", "long enough 1")

    assert "password" not in added


def test_search_shows_passages(shared: Path, capsys: Capture) -> None:
    """At most as many as asked for, best first."""
    found = call(capsys, shared, "search", QUESTION, "--top-k", "2")

    assert {"passages", "seconds"} == set(found)
    assert {"document", "heading", "page", "text", "score", "chunk_id"} <= set(found["passages"][0])
    assert "leave.md" == found["passages"][0]["document"]
    assert 2 >= len(found["passages"])


def test_search_as_a_user_shows_only_what_that_person_may_read(tiny: Path, capsys: Capture) -> None:
    """The operator at the command line reads all."""
    home, question = tiny / "home", "What is the middle of pay band T3?"
    call(capsys, home, "users", "add", "ann")
    all_of_it = call(capsys, home, "search", question)["passages"]
    hers = call(capsys, home, "search", question, "--as", "ann")["passages"]

    assert "bands.md" in {p["document"] for p in all_of_it}
    assert "bands.md" not in {p["document"] for p in hers}


def test_ask_answers_with_citations(shared: Path, capsys: Capture) -> None:
    """The contract's keys, and a citation that holds the answer."""
    answer = call(capsys, shared, "ask", QUESTION)

    assert {"answer", "abstained", "citations", "policy", "seconds", "answer_id"} == set(answer)
    assert {"number", "document", "heading", "page", "text"} <= set(answer["citations"][0])
    assert "leave.md" == answer["citations"][0]["document"]


def test_ask_abstains_where_the_documents_are_silent(shared: Path, capsys: Capture) -> None:
    """No citation is made up."""
    answer = call(capsys, shared, "ask", "Who won the football championship in 1954?")

    assert (True, []) == (answer["abstained"], answer["citations"])


def test_evaluate_measures_retrieval_answers_and_abstention(shared: Path, capsys: Capture) -> None:
    """The contract's keys, every figure finite."""
    figures = call(capsys, shared, "evaluate", shared.parent / "questions.jsonl", "--limit", "2")

    assert {"retrieval", "answers", "abstention", "seconds", "n"} == set(figures)
    assert {"recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10"} <= set(figures["retrieval"])
    names = {
        "key_fact_recall",
        "token_f1",
        "rouge_l",
        "citation_precision",
        "citation_support",
        "groundedness",
    }
    assert names <= set(figures["answers"])
    assert {"precision", "recall", "f1"} <= set(figures["abstention"])
    assert {"p50", "p95"} <= set(figures["seconds"])
    assert (2, 1.0) == (figures["n"], figures["retrieval"]["recall@5"])


def test_evaluate_writes_a_report(shared: Path, tmp_path: Path, capsys: Capture) -> None:
    """Into a folder that need not exist."""
    questions = shared.parent / "questions.jsonl"
    call(capsys, shared, "evaluate", questions, "--limit", "1", "--report", tmp_path / "report")

    assert any((tmp_path / "report").iterdir())


def test_feedback_goes_out_and_in(tiny: Path, capsys: Capture) -> None:
    """Importing one's own export adds nothing the second time."""
    home, file = tiny / "home", tiny / "out.jsonl"
    assert 20 == call(capsys, home, "feedback", "stats")["n"]
    assert 20 == call(capsys, home, "feedback", "export", "--format", "jsonl", file)["rows"]
    new = tiny / "new"
    call(capsys, new, "init")
    first = call(capsys, new, "feedback", "import", file)
    again = call(capsys, new, "feedback", "import", file)

    assert (20, 20, 0) == (first["lines"], first["added"], again["added"])


@pytest.mark.parametrize("kind", ["trl-preference", "trl-unpaired", "trl-prompt-completion"])
def test_feedback_is_exported_for_trl(kind: str, shared: Path, tmp_path: Path, capsys: Capture) -> None:
    """Each line has the columns that TRL names."""
    columns = {
        "trl-preference": {"prompt", "chosen", "rejected"},
        "trl-unpaired": {"prompt", "completion", "label"},
        "trl-prompt-completion": {"prompt", "completion"},
    }[kind]
    call(capsys, shared, "feedback", "export", "--format", kind, tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]

    assert rows
    assert all(columns == set(row) for row in rows)


def test_simulate_stores_as_many_judgements_as_turns(tiny: Path, capsys: Capture) -> None:
    """And says which kinds; the same seed draws the same kinds."""
    taste = f"{tiny / 'prefer.py'}:prefer"
    options = (
        "--turns",
        "4",
        "--users",
        "2",
        "--noise",
        "0.5",
        "--kinds",
        "rating,comparison",
        "--seed",
        "3",
    )
    report = call(
        capsys, tiny / "home", "simulate", tiny / "questions.jsonl", "--preferences", taste, *options
    )

    assert {"turns", "by_kind", "noisy", "ties", "seed", "users", "noise", "employees"} == set(report)
    assert {"rating", "comparison"} >= set(report["by_kind"])
    assert 24 == call(capsys, tiny / "home", "feedback", "stats")["n"]


def test_the_schedule_is_set_in_parts(tmp_path: Path, capsys: Capture) -> None:
    """What is not given stays; an empty expression clears."""
    home = tmp_path / "new"
    call(capsys, home, "init")
    call(capsys, home, "schedule", "set", "--cron", "0 3 * * *")
    call(capsys, home, "schedule", "set", "--min-feedback", "5")
    shown = call(capsys, home, "schedule", "show")
    assert {"cron", "min_feedback", "updated_at", "updated_by", "new_feedback"} == set(shown)
    assert ("0 3 * * *", 5) == (shown["cron"], shown["min_feedback"])

    cleared = call(capsys, home, "schedule", "set", "--cron", "", "--min-feedback", "0")

    assert (None, None) == (cleared["cron"], cleared["min_feedback"])


@pytest.mark.slow
def test_train_cycle_ends_with_a_verdict(tiny: Path, capsys: Capture) -> None:
    """Rejected is an outcome, not a failure; runs and policies show it."""
    overrides = [part for text in TINY_CYCLE for part in ("--set", text)]
    result = call(capsys, tiny / "home", "train", "cycle", *overrides)

    assert {"run", "policy", "gates", "promoted", "metrics", "reason"} == set(result)
    assert {"name", "passed", "value", "threshold", "why", "measured"} == set(result["gates"][0])
    listed = call(capsys, tiny / "home", "runs", "list")["runs"]
    assert [(result["run"], "done")] == [(run["id"], run["state"]) for run in listed]
    assert result["policy"] == call(capsys, tiny / "home", "runs", "show", result["run"])["policy_id"]
    shown = call(capsys, tiny / "home", "policies", "show", result["policy"])
    assert {"id", "stage", "state", "parent", "created_at", "metrics", "gates", "manifest"} <= set(shown)


def test_policies_are_listed_promoted_and_rolled_back(tiny: Path, capsys: Capture) -> None:
    """A candidate of SFT serves at the next question, until it is rolled back."""
    home = tiny / "home"
    overrides = [part for text in TINY_CYCLE for part in ("--set", text)]
    made = call(capsys, home, "train", "sft", *overrides)["policy"]
    listed = call(capsys, home, "policies", "list")
    assert {"policies", "serving"} == set(listed)
    keys = {"id", "stage", "state", "parent", "created_at", "metrics", "data_deleted_since"}
    assert keys == set(listed["policies"][0])
    assert {made, "base"} == {policy["id"] for policy in listed["policies"]}
    assert {"serving": made} == call(capsys, home, "policies", "promote", made)
    assert made == call(capsys, home, "ask", QUESTION)["policy"]

    assert {"serving": "base"} == call(capsys, home, "policies", "rollback")


def test_comparing_a_policy_with_itself_is_a_draw(shared: Path, capsys: Capture) -> None:
    """Ties count half; the interval holds the win rate."""
    folder = shared.parent
    judge = ("--questions", folder / "questions.jsonl", "--preferences", f"{folder / 'prefer.py'}:prefer")
    result = call(capsys, shared, "policies", "compare", "base", "base", *judge)

    assert {"win_rate", "interval", "n", "judge"} <= set(result)
    assert (0.5, 6) == (result["win_rate"], result["n"])
    assert result["interval"][0] <= 0.5 <= result["interval"][1]


def test_a_backup_becomes_a_home_elsewhere(tiny: Path, capsys: Capture) -> None:
    """Documents, judgements and policies are there, and the old home is not needed any more."""
    overrides = [part for text in TINY_CYCLE for part in ("--set", text)]
    made = call(capsys, tiny / "home", "train", "sft", *overrides)["policy"]
    call(capsys, tiny / "home", "policies", "promote", made)
    written = call(capsys, tiny / "home", "backup", tiny / "backup.tar.gz")
    assert {
        "backup": str(tiny / "backup.tar.gz"),
        "bytes": (tiny / "backup.tar.gz").stat().st_size,
    } == written
    (tiny / "home").rename(tiny / "gone")
    call(capsys, tiny / "second", "restore", tiny / "backup.tar.gz")

    assert made == call(capsys, tiny / "second", "ask", QUESTION)["policy"]
    assert 20 == call(capsys, tiny / "second", "feedback", "stats")["n"]


def test_the_audit_trail_names_who_did_what(tiny: Path, capsys: Capture) -> None:
    """Newest first; one kind of event can be picked."""
    call(capsys, tiny / "home", "users", "add", "ann")
    events = call(capsys, tiny / "home", "audit", "list", "--limit", "1", "--action", "user.add")["events"]

    assert [("command line", "user.add", "ann")] == [(e["actor"], e["action"], e["subject"]) for e in events]
    assert {"at", "actor", "action", "subject", "detail"} == set(events[0])


def test_doctor_says_what_it_checked(shared: Path, capsys: Capture) -> None:
    """All is well with a home that works."""
    checks = call(capsys, shared, "doctor")["checks"]

    assert {"name", "passed", "detail"} == set(checks[0])
    assert {"python", "disk", "home", "embedder", "reranker", "policy", "training"} <= {
        c["name"] for c in checks
    }


def test_doctor_fails_on_a_missing_home(tmp_path: Path, capsys: Capture) -> None:
    """With the reason in its list."""
    assert 1 == run(["doctor", "--home", str(tmp_path / "none"), "--json"])
    assert "tacit init" in json.loads(capsys.readouterr().out)["checks"][-1]["detail"]


def test_without_json_people_get_text(shared: Path, capsys: Capture) -> None:
    """A table for lists."""
    assert 0 == run(["policies", "list", "--home", str(shared)])
    assert capsys.readouterr().out.startswith("id")


def test_the_home_may_come_from_the_environment(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """TACIT_HOME stands in for --home."""
    monkeypatch.setenv("TACIT_HOME", str(shared))

    assert 0 == run(["policies", "list"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("ask",),
        ("ask", "why", "--nonsense"),
        ("search", "why", "--top-k", "0"),
        ("ingest", "docs"),
        ("users", "add", "ann", "--role", "king"),
        ("feedback", "export", "--format", "xml", "out"),
        ("schedule", "set", "--min-feedback", "-1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path, capsys: Capture
) -> None:
    """It names the help that would have told."""
    code, line = refused(capsys, tmp_path, *arguments)

    assert 2 == code
    assert "--help" in line


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """For reports of unexpected errors."""
    with pytest.raises(Exception, match="no Tacit home"):
        run(["documents", "list", "--home", str(tmp_path / "none"), "--debug"])
