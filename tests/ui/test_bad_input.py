"""Bad input of every kind: one clear line that says what to do, exit code 1 or 2, and the store unharmed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.ui.cli_runs import call, refused

Capture = pytest.CaptureFixture[str]
ENCRYPTED_PDF_PASSWORD = "secret"


def _documents(home: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "tacit.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = "SELECT id, path, content_hash FROM documents ORDER BY id"
        return [*connection.execute(rows), *connection.execute("SELECT count(*) FROM chunks")]


@pytest.fixture
def home(tiny: Path) -> Iterator[Path]:
    """A home whose documents must be the same afterwards."""
    before = _documents(tiny / "home")
    yield tiny / "home"
    assert before == _documents(tiny / "home")


def _ingest(capsys: Capture, home: Path, path: Path) -> tuple[int, str]:
    return refused(capsys, home, "ingest", path, "--collection", "handbook")


# Files


def test_a_wrong_path(home: Path, capsys: Capture) -> None:
    """Named, as wrong usage."""
    code, line = _ingest(capsys, home, home.parent / "nowhere")

    assert 2 == code
    assert "nowhere" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything: nothing is unreadable to it")
def test_an_unreadable_file(home: Path, capsys: Capture) -> None:
    """The line names permissions."""
    file = home.parent / "closed.md"
    file.write_text("# Closed")
    file.chmod(0)
    code, line = _ingest(capsys, home, file)

    assert 1 == code
    assert "permission" in line


def test_an_empty_pdf(home: Path, capsys: Capture) -> None:
    """Of no bytes at all."""
    (home.parent / "empty.pdf").write_bytes(b"")
    code, line = _ingest(capsys, home, home.parent / "empty.pdf")

    assert 1 == code
    assert "empty.pdf" in line


def test_a_pdf_without_text(home: Path, capsys: Capture) -> None:
    """One empty page."""
    from fpdf import FPDF

    pdf = FPDF()
    pdf.add_page()
    pdf.output(str(home.parent / "blank.pdf"))
    code, line = _ingest(capsys, home, home.parent / "blank.pdf")

    assert 1 == code
    assert "blank.pdf" in line


def test_an_encrypted_pdf(home: Path, capsys: Capture) -> None:
    """The line says that a password protects it."""
    from fpdf import FPDF

    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica")
    pdf.cell(text="The code of the safe is 1234.")
    pdf.set_encryption(owner_password="owner", user_password=ENCRYPTED_PDF_PASSWORD)
    pdf.output(str(home.parent / "locked.pdf"))
    code, line = _ingest(capsys, home, home.parent / "locked.pdf")

    assert 1 == code
    assert "password" in line


@pytest.mark.parametrize("name", ["photo.pdf", "photo.md", "photo.docx", "photo.html", "photo.txt"])
def test_a_renamed_binary(name: str, home: Path, capsys: Capture) -> None:
    """A picture that calls itself a document."""
    (home.parent / name).write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 40)
    code, line = _ingest(capsys, home, home.parent / name)

    assert 1 == code
    assert name in line


def test_a_text_file_of_200_megabytes(home: Path, capsys: Capture) -> None:
    """Refused by its size and unread: the file is sparse, reading it would find zeros and say something else."""
    with (home.parent / "huge.txt").open("wb") as file:
        file.truncate(200_000_000)
    code, line = _ingest(capsys, home, home.parent / "huge.txt")

    assert 1 == code
    assert "the limit is" in line


def test_a_file_of_a_kind_nobody_reads(home: Path, capsys: Capture) -> None:
    """The line names the kinds that are read."""
    (home.parent / "song.mp3").write_bytes(b"ID3")
    code, line = _ingest(capsys, home, home.parent / "song.mp3")

    assert code in {1, 2}
    assert "pdf" in line.lower()


def test_text_that_is_not_utf_8_is_read_all_the_same(tiny: Path, capsys: Capture) -> None:
    """Old files are in old encodings."""
    (tiny / "old.txt").write_bytes("Das Büro öffnet um acht Uhr, außer an Feiertagen.\n".encode("cp1252") * 5)
    assert 1 == call(capsys, tiny / "home", "ingest", tiny / "old.txt", "--collection", "old")["documents"]
    found = call(capsys, tiny / "home", "search", "Wann öffnet das Büro?", "--collection", "old")["passages"]

    assert "Büro öffnet" in found[0]["text"]


def test_one_bad_file_does_not_stop_the_others(tiny: Path, capsys: Capture) -> None:
    """They are in, it is reported."""
    (tiny / "mixed").mkdir()
    (tiny / "mixed" / "a.pdf").write_bytes(b"no pdf")
    (tiny / "mixed" / "b.md").write_text("# Lunch\n\nLunch is at noon.\n")
    report = call(capsys, tiny / "home", "ingest", tiny / "mixed", "--collection", "mixed")

    assert (1, ["a.pdf"]) == (report["documents"], [Path(f["path"]).name for f in report["failed"]])


# Disk


@pytest.fixture
def full_disk(tiny: Path) -> Iterator[None]:
    """SQLite may not grow by more than a few pages (PRAGMA max_page_count): its own error for a full disk, from its own code."""
    with closing(sqlite3.connect(tiny / "home" / "tacit.db")) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages + 30}")

    event.listen(Engine, "connect", limit)
    yield
    event.remove(Engine, "connect", limit)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_during_ingest(tiny: Path, capsys: Capture) -> None:
    """What was stored before is there, what was committed on the way too, and the line says to free some space."""
    before = _documents(tiny / "home")[:-1]
    for n in range(8):
        _write_rules(tiny / "rules" / f"{n}.md", n)
    (tiny / "home" / "settings.toml").open("a").write("[ingestion]\nchunks_per_batch = 1\n")
    code, line = _ingest(capsys, tiny / "home", tiny / "rules")

    assert 1 == code
    assert "full" in line
    assert "free some" in line
    after = _documents(tiny / "home")[:-1]
    assert set(before) < set(after)
    assert len(before) + 8 > len(after)
    _only_originals_of(tiny / "home", after)


def _write_rules(path: Path, n: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"# Rule {n}\n\n" + "".join(f"Rule {n}.{i} has some words. " for i in range(120)))


def _only_originals_of(home: Path, documents: list[tuple[object, ...]]) -> None:
    assert {document[0] for document in documents} == {path.name for path in (home / "files").iterdir()}


# Questions, names


def test_a_question_of_100_000_characters(home: Path, capsys: Capture) -> None:
    """The line names the limit."""
    code, line = refused(capsys, home, "ask", "why " * 25_000)

    assert 2 == code
    assert "100,000 characters" in line


def test_an_empty_question(home: Path, capsys: Capture) -> None:
    """As wrong usage."""
    assert 2 == refused(capsys, home, "ask", "  ")[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "why", "--as", "nobody"),
        ("ask", "why", "--policy", "nobody"),
        ("ask", "why", "--collection", "nobody"),
        ("search", "why", "--collection", "nobody"),
        ("documents", "list", "--collection", "nobody"),
        ("documents", "delete", "nobody"),
        ("collections", "grant", "nobody", "hr"),
        ("collections", "revoke", "nobody", "everyone"),
        ("users", "disable", "nobody"),
        ("users", "key", "nobody"),
        ("policies", "show", "nobody"),
        ("policies", "promote", "nobody"),
        ("policies", "compare", "nobody", "base"),
        ("runs", "show", "nobody"),
        ("runs", "cancel", "nobody"),
        ("runs", "resume", "nobody"),
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_named(arguments: tuple[str, ...], home: Path, capsys: Capture) -> None:
    """Unknown user, policy, collection, document, run."""
    code, line = refused(capsys, home, *arguments)

    assert 1 == code
    assert "nobody" in line or "tacit documents list" in line


def test_asking_as_a_disabled_user(home: Path, capsys: Capture) -> None:
    """The line says whom to ask."""
    call(capsys, home, "users", "add", "ann")
    call(capsys, home, "users", "disable", "ann")

    assert "disabled" in refused(capsys, home, "ask", "why", "--as", "ann")[1]


def test_a_user_that_exists(home: Path, capsys: Capture) -> None:
    """Is not made twice."""
    call(capsys, home, "users", "add", "ann")

    assert "ann" in refused(capsys, home, "users", "add", "ann")[1]


def test_groups_for_a_collection_that_exists(home: Path, capsys: Capture) -> None:
    """Ingesting must not open what was closed, nor close what was open."""
    line = refused(capsys, home, "ingest", home.parent / "docs", "--collection", "pay", "--groups", "it")[1]

    assert "grant" in line


def test_nothing_to_roll_back_to(home: Path, capsys: Capture) -> None:
    """Only the base model ever served."""
    assert "nothing to roll back" in refused(capsys, home, "policies", "rollback")[1]


def test_no_run_is_resumed_twice(home: Path, capsys: Capture) -> None:
    """A run that is worked on by another process is left to it."""
    from ui.wiring import open_services

    with open_services(home) as services:
        run = services.runs.create("cycle", {})
        with services.runs.working_on(run.id):
            code, line = refused(capsys, home, "runs", "resume", run.id)

    assert 2 == code
    assert "another process" in line


# Home


def test_a_missing_home(tmp_path: Path, capsys: Capture) -> None:
    """The line names the command that makes one; nothing is made by looking."""
    assert "tacit init" in refused(capsys, tmp_path / "none", "documents", "list")[1]
    assert not (tmp_path / "none").exists()


def test_a_directory_that_is_no_home(tmp_path: Path, capsys: Capture) -> None:
    """A mistyped --home is not filled with our folders."""
    assert "tacit init" in refused(capsys, tmp_path, "documents", "list")[1]
    assert not list(tmp_path.iterdir())


def test_a_home_that_is_a_file(tmp_path: Path, capsys: Capture) -> None:
    """Even where a home may be made."""
    (tmp_path / "file").write_text("")

    assert "is a file" in refused(capsys, tmp_path / "file", "init")[1]


def test_a_home_below_a_file(tmp_path: Path, capsys: Capture) -> None:
    """A part of its path is a file."""
    (tmp_path / "file").write_text("")

    assert "--home" in refused(capsys, tmp_path / "file" / "home", "init")[1]


def test_a_home_of_a_newer_version(home: Path, capsys: Capture) -> None:
    """The line says to upgrade."""
    with closing(sqlite3.connect(home / "tacit.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    assert "newer version" in refused(capsys, home, "documents", "list")[1]


def test_a_database_that_is_none(tmp_path: Path, capsys: Capture) -> None:
    """Overwritten by something else."""
    (tmp_path / "tacit.db").write_bytes(b"not a database at all" * 100)

    assert "restore" in refused(capsys, tmp_path, "documents", "list")[1]


# Settings


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[retreival]\ntop_k = 3\n", "retreival"),
        ("[assistant]\ntemprature = 1\n", "temprature"),
        ("[assistant]\ntemperature = 'warm'\n", "warm"),
        ("[assistant]\ntop_k = -3\n", "top_k"),
        ("assistant = 3\n", "assistant"),
        ("[assistant\n", "TOML"),
        ("[database]\nurl = 'nonsense'\n", "URL"),
    ],
)
def test_bad_settings(text: str, named: str, tmp_path: Path, capsys: Capture) -> None:
    """The section, the field or the value is named, with what is legal."""
    (tmp_path / "settings.toml").write_text(text)
    code, line = refused(capsys, tmp_path, "documents", "list")

    assert code in {1, 2}
    assert named in line


def test_a_settings_file_that_is_not_text(tmp_path: Path, capsys: Capture) -> None:
    """Binary."""
    (tmp_path / "settings.toml").write_bytes(b"\xff\xfe\x00")

    assert 2 == refused(capsys, tmp_path, "documents", "list")[0]


def test_a_bad_value_in_the_environment(home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the file."""
    monkeypatch.setenv("TACIT_ASSISTANT_TEMPERATURE", "warm")

    assert "warm" in refused(capsys, home, "documents", "list")[1]


@pytest.mark.parametrize(
    "text", ["steps=3", "ppo.steps", "ppo.stepz=3", "ppo.steps=many", "warp.speed=9", "ppo.steps=0"]
)
def test_a_bad_override(text: str, home: Path, capsys: Capture) -> None:
    """Refused before a run is recorded."""
    named = text.partition(".")[2].partition("=")[0] or text
    code, line = refused(capsys, home, "train", "cycle", "--set", text)

    assert 2 == code
    assert named in line
    assert [] == call(capsys, home, "runs", "list")["runs"]


@pytest.mark.parametrize("cron", ["nonsense", "0 3 * *", "61 3 * * *", "0 0 31 2 *"])
def test_a_bad_cron_expression(cron: str, home: Path, capsys: Capture) -> None:
    """Of wrong form, or one that never fires."""
    code, line = refused(capsys, home, "schedule", "set", "--cron", cron)

    assert 2 == code
    assert cron in line


# Other files


@pytest.mark.parametrize(
    "content", [b"", b"not json\n", b'{"id": "q1"}\n', b"[1, 2]\n", b"\xff\xfe\x00\n"], ids=repr
)
def test_a_bad_question_file(content: bytes, home: Path, capsys: Capture) -> None:
    """The file is named."""
    (home.parent / "bad.jsonl").write_bytes(content)
    code, line = refused(capsys, home, "evaluate", home.parent / "bad.jsonl")

    assert 2 == code
    assert "bad.jsonl" in line


@pytest.mark.parametrize("content", [b"not json\n", b'{"kind":"shout"}\n', b"\xff\xfe\x00\n"], ids=repr)
def test_a_bad_feedback_file(content: bytes, home: Path, capsys: Capture) -> None:
    """Nothing of it is imported."""
    (home.parent / "bad.jsonl").write_bytes(content)
    code, line = refused(capsys, home, "feedback", "import", home.parent / "bad.jsonl")

    assert 2 == code
    assert "bad.jsonl" in line
    assert 20 == call(capsys, home, "feedback", "stats")["n"]


@pytest.mark.parametrize("command", ["evaluate", "restore"])
def test_a_missing_input_file(command: str, home: Path, capsys: Capture) -> None:
    """Named."""
    target = home if command == "evaluate" else home.parent / "new"
    code, line = refused(capsys, target, command, home.parent / "none.file")

    assert code in {1, 2}
    assert "none.file" in line


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ("def prefer(question, answers): return [[0]]", "exactly once"),
        ("def prefer(question, answers): return 'best'", "lists of indices"),
        ("def prefer(question, answers): return answers[99]", "IndexError"),
        ("def other(): pass", "no function"),
        ("this is no Python", "cannot be run"),
    ],
)
def test_a_bad_preference_function(program: str, named: str, home: Path, capsys: Capture) -> None:
    """The line says what it returned or raised."""
    (home.parent / "bad.py").write_text(program)
    taste = f"{home.parent / 'bad.py'}:prefer"
    options = ("--preferences", taste, "--turns", "1", "--kinds", "ranking")
    code, line = refused(capsys, home, "simulate", home.parent / "questions.jsonl", *options)

    assert 2 == code
    assert named in line


def test_a_preference_file_may_hold_dataclasses(home: Path, capsys: Capture) -> None:
    """Which look up their own module while it is being loaded."""
    program = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Taste:\n    n: int = 0\n"
        "def prefer(question, answers): return [list(range(len(answers)))]\n"
    )
    (home.parent / "good.py").write_text(program)
    taste = f"{home.parent / 'good.py'}:prefer"
    questions = home.parent / "questions.jsonl"

    assert 1 == call(capsys, home, "simulate", questions, "--preferences", taste, "--turns", "1")["turns"]


def test_a_backup_that_is_none(home: Path, capsys: Capture) -> None:
    """No home is left behind."""
    (home.parent / "not.tar.gz").write_bytes(b"no tar")
    code, line = refused(capsys, home.parent / "new", "restore", home.parent / "not.tar.gz")

    assert 2 == code
    assert "not a backup" in line
    assert not (home.parent / "new").exists()


def test_restoring_over_a_home(home: Path, capsys: Capture) -> None:
    """Refused."""
    call(capsys, home, "backup", home.parent / "b.tar.gz")

    assert "not empty" in refused(capsys, home, "restore", home.parent / "b.tar.gz")[1]


def test_a_backup_over_a_file(home: Path, capsys: Capture) -> None:
    """Refused: it may be the last good one."""
    (home.parent / "b.tar.gz").write_text("the last good one")

    assert "exists" in refused(capsys, home, "backup", home.parent / "b.tar.gz")[1]


def test_a_base_model_that_is_missing(home: Path, capsys: Capture) -> None:
    """The line names the setting or the directory; nothing is asked of a hub."""
    (home / "settings.toml").write_text(f'[model]\nbase = "{home / "no-model"}"\n')
    code, line = refused(capsys, home, "ask", "How many days of annual leave do I get?")

    assert 1 == code
    assert "no-model" in line
