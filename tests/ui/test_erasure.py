"""Deletion end to end: a person, a document and a vote that a real cycle learned from, and then not a word of them in any file of the home."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from alignment.errors import RunCancelled, TrainingError
from alignment.records import StageProgress
from alignment.run_scrub import scrub_run, without_examples
from alignment.snapshot import load_snapshot, read_manifest
from alignment.snapshot_scrub import Deleted
from chatbot.erasure import DOCUMENT_GONE
from chatbot.records import User
from knowledge_base.errors import NotFoundError
from tests.alignment.company import START
from tests.alignment.test_cycle import LENIENT
from tests.tiny_home import TINY_CYCLE
from ui.wiring import Services, open_services

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery"
QUESTION = "How many days of annual leave does a zebrafinch keeper get?"
IDEAL = "Every employee gets 25 days of annual leave each year. Unused days end in March. Okapis get more."
COMMENT = "Marmosets count better."
CHAT = "Is the pademelon enclosure closed?"
ENCLOSURES = "# Enclosures\n\n## Thylacine house\n\nThe thylacine house opens at nine with the numbat bell. Keepers lock the thylacine house at five.\n"
ASKED_OF_IT = "When does the thylacine house open?"
OF_ZELDA = ("zelda", "zebrafinch", "okapi", "marmoset", "pademelon")
OF_DOCUMENT = ("umbat",)
"""The middle of a word: an index may keep only what a word does not share with the one before."""
OF_IDEAL = ("okapi",)


def test_what_earlier_versions_wrote_down_of_traps_goes(tmp_path: Path) -> None:
    """Questions that a policy had answered badly, in the folder of its run."""
    measured = {
        "suites": [{"name": "injection", "n": 4, "n_fell": 1, "examples": [["Who keeps okapis?", "X"]]}],
        "member_wins": [0.5],
        "parent_id": "base",
    }
    (tmp_path / "gates").mkdir()
    file = tmp_path / "gates" / "done.json"
    file.write_text(json.dumps({"gates": [], "metrics": measured}))

    assert 0 == scrub_run(tmp_path, Deleted(user_id="zelda"), at=START).n_rows

    assert without_examples(measured) == json.loads(file.read_text())["metrics"]
    assert {"name": "injection", "n": 4, "n_fell": 1} == without_examples(measured)["suites"][0]
    assert [] == places(tmp_path, OF_ZELDA)


def places(home: Path, words: tuple[str, ...]) -> list[str]:
    """The files of a home that have one of these words in their bytes or their names."""
    found = []
    for path in sorted(home.rglob("*")):
        data = path.read_bytes().lower() if path.is_file() else b""
        found += [
            f"{path.relative_to(home)}: {word}"
            for word in words
            if word.encode() in data or word in path.name.lower()
        ]
    return found


def _say_things(services: Services) -> None:
    zelda = services.accounts.add("zelda", groups=["zoo"], password=PASSWORD)
    services.audit.record("command line", "user.add", "zelda", role="employee")
    services.sign_in_and_audit("Zelda", PASSWORD)
    for question, comment in ((QUESTION, COMMENT), (ASKED_OF_IT, "")):
        answer = services.assistant.answer(question, services.reader("zelda"))
        services.answers.save(answer, zelda.id, "chat")
        services.feedback.rate(zelda, answer.id, True, comment=comment)
        conversation = services.conversations.create(zelda.id)
        services.conversations.append_turn(zelda.id, conversation.id, question, answer.text, answer.id)
    services.conversations.append_turn(
        zelda.id, services.conversations.create(zelda.id).id, CHAT, "No.", None
    )
    services.feedback.demonstrate(zelda, IDEAL, question=QUESTION)
    amina = services.accounts.add("amina", role="admin")
    answer = services.assistant.answer(ASKED_OF_IT, services.reader("amina"))
    services.answers.save(answer, amina.id, "chat")
    services.feedback.rate(amina, answer.id, True)


@pytest.fixture(scope="module")
def trained_home(tiny_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose serving policy learned from Zelda and from a document on enclosures; not to be opened by tests."""
    folder = tmp_path_factory.mktemp("erasure")
    home = shutil.copytree(tiny_template / "home", folder / "home")
    (folder / "enclosures.md").write_text(ENCLOSURES)
    with open_services(home) as services:
        services.ingestor.ingest([folder / "enclosures.md"], "handbook")
        _say_things(services)
        result = services.run_training(
            "cycle", overrides=[*TINY_CYCLE, *LENIENT, "snapshot.max_derived=40", "snapshot.max_rollouts=60"]
        )
        assert result.promoted, result.reason
    return home


@dataclass(frozen=True)
class Trained:
    """A copy of the trained home, open."""

    services: Services
    home: Path
    run: Path

    @property
    def snapshot(self) -> Path:
        """The folder of its only snapshot."""
        return next(path.parent for path in self.run.glob("snapshot/*/snapshot.json"))


@pytest.fixture
def trained(trained_home: Path, tmp_path: Path) -> Iterator[Trained]:
    """One's own."""
    home = shutil.copytree(trained_home, tmp_path / "home")
    with open_services(home) as services:
        yield Trained(services, home, services.runs.list(1)[0].directory)


def zelda_of(services: Services) -> User:
    """The account."""
    return services.accounts.by_name("zelda")


def test_a_deleted_person_leaves_no_word_in_any_file(trained: Trained) -> None:
    """Account, sessions, conversations, judgements, demonstration, the audit trail, and the snapshot a policy was trained on."""
    before = places(trained.home, OF_ZELDA)
    assert {"tacit.db: zelda", "tacit.db: marmoset", "tacit.db: pademelon"} <= set(before)
    assert any("snapshot" in place and "okapi" in place for place in before)
    user_id = zelda_of(trained.services).id

    trained.services.delete_user(user_id, actor="amina")

    assert [] == places(trained.home, (*OF_ZELDA, user_id))


def test_a_deleted_person_is_a_pseudonym_in_the_audit_trail(trained: Trained) -> None:
    """What they did and who deleted them can be told, their name and what was written of them not."""
    erasure = trained.services.delete_user(zelda_of(trained.services).id, actor="amina")
    deleted, *earlier = trained.services.audit.list()
    theirs = {event.action: event for event in earlier if erasure.subject in (event.actor, event.subject)}

    assert ("amina", "user.delete", erasure.subject) == (deleted.actor, deleted.action, deleted.subject)
    assert {"sign_in", "user.add"} == set(theirs)
    assert {} == theirs["user.add"].detail


def test_a_deleted_document_leaves_no_word_in_any_file(trained: Trained) -> None:
    """Original, chunks, full-text index, what was quoted from it to people, training rows; only questions keep words that it has too."""
    before = places(trained.home, OF_DOCUMENT)
    assert "tacit.db: umbat" in before
    assert any("snapshot" in place for place in before)
    assert any("files" in place for place in before)
    document = next(d for d in trained.services.knowledge.list_documents() if d.path == "enclosures.md")

    trained.services.delete_document(document.id, actor="amina")

    assert [] == places(trained.home, OF_DOCUMENT)
    assert [] == places(trained.run, ("hylacin",))


def test_an_answer_that_rested_on_a_deleted_document_says_so(trained: Trained) -> None:
    """In the conversation, which stays with its question; the judgements of it go, others stay."""
    services = trained.services
    zelda = zelda_of(services)
    document = next(d for d in services.knowledge.list_documents() if d.path == "enclosures.md")

    services.delete_document(document.id, actor="amina")

    asked = {
        message.content: [m.content for m in services.conversations.messages(zelda.id, c.id)][1]
        for c in services.conversations.list(zelda.id)
        for message in services.conversations.messages(zelda.id, c.id)[:1]
    }
    assert DOCUMENT_GONE == asked[ASKED_OF_IT]
    assert "No." == asked[CHAT]
    assert "demonstration" in {j.kind for j in services.feedback.everything_of(zelda.id)}
    assert ASKED_OF_IT not in {j.question for j in services.feedback.everything_of(zelda.id)}


def test_a_vote_taken_back_leaves_no_word_in_any_file(trained: Trained) -> None:
    """A demonstration; what else the person said stays."""
    zelda = zelda_of(trained.services)
    ideal = next(
        j for j in trained.services.feedback.current(kinds=["demonstration"]) if j.user_id == zelda.id
    )
    assert any("snapshot" in place for place in places(trained.home, OF_IDEAL))

    trained.services.withdraw(zelda, "demonstration", ideal.subject)

    assert [] == places(trained.home, OF_IDEAL)
    assert ["tacit.db: marmoset"] == places(trained.home, ("marmoset",))


def test_the_snapshot_says_that_rows_were_taken_out(trained: Trained) -> None:
    """It can still be read and compared on; the hash before stands beside the hash now, for the policies that name it."""
    named = trained.services.registry.serving().manifest["snapshot_hash"]
    n_before = len(load_snapshot(trained.snapshot).train.pairs)

    erasure = trained.services.delete_user(zelda_of(trained.services).id, actor="amina")

    left = load_snapshot(trained.snapshot)
    (scrub,) = left.snapshot.scrubs
    assert (named, erasure.n_rows) == (scrub.hash_before, scrub.n_rows)
    assert named != left.snapshot.hash
    assert 0 < len(left.train.pairs) <= n_before


def test_policies_say_that_they_learned_from_what_was_deleted(trained: Trained) -> None:
    """Their weights keep it until the next cycle: whoever deletes is told, and so is whoever lists policies."""
    erasure = trained.services.delete_user(zelda_of(trained.services).id, actor="amina")
    serving = trained.services.registry.serving()

    assert erasure.serving_learned
    assert serving.id in erasure.policies
    assert "next training cycle" in erasure.advice()
    assert serving.manifest["data_deleted_since"]


def test_what_no_run_learned_from_changes_no_snapshot(trained: Trained) -> None:
    """A vote of a moment ago, taken back."""
    zelda = zelda_of(trained.services)
    judgement = trained.services.feedback.demonstrate(zelda, "Nobody knows.", question="May I leave early?")

    trained.services.withdraw(zelda, "demonstration", judgement.subject)

    assert () == read_manifest(trained.snapshot).scrubs


@pytest.mark.parametrize("what", ["person", "document", "vote"])
def test_a_running_run_stops_when_something_it_learns_from_is_deleted(what: str, trained: Trained) -> None:
    """And it cannot be resumed: what it has trained so far holds what was deleted."""
    services = trained.services
    zelda = zelda_of(services)

    def delete(report: StageProgress) -> None:
        if report.stage != "sft" or report.done:
            return
        if what == "person":
            services.delete_user(zelda.id, actor="amina")
        elif what == "document":
            (document,) = (d for d in services.knowledge.list_documents() if d.path == "leave.md")
            services.delete_document(document.id, actor="amina")
        else:
            (ideal,) = (
                j for j in services.feedback.current(kinds=["demonstration"]) if j.user_id == zelda.id
            )
            services.withdraw(zelda, "demonstration", ideal.subject)

    with pytest.raises(RunCancelled):
        services.run_training("cycle", overrides=TINY_CYCLE, progress=delete)
    run = services.runs.list(1)[0]

    assert "cancelled" == run.state
    with pytest.raises(TrainingError, match=r"taken out.*start a new one"):
        services.resume_run(run.id)


def test_a_snapshot_is_taken_again_when_something_is_taken_back_meanwhile(trained: Trained) -> None:
    """Whoever took it back could not find it there yet; the run goes on without it."""
    services = trained.services
    zelda = zelda_of(services)
    (ideal,) = (j for j in services.feedback.current(kinds=["demonstration"]) if j.user_id == zelda.id)
    asked_back = []

    def take_back(report: StageProgress) -> None:
        if report.stage == "snapshot" and not asked_back:
            asked_back.append(ideal)
            services.withdraw(zelda, "demonstration", ideal.subject)

    result = services.run_training("sft", overrides=TINY_CYCLE, progress=take_back)
    run = services.runs.get(result.run_id)

    assert "done" == run.state
    assert 1 == len(list(run.directory.glob("snapshot/*/snapshot.json")))
    assert [] == places(run.directory, OF_IDEAL)


def test_a_deleted_account_is_gone_for_every_face(trained: Trained) -> None:
    """And the demo's list of passwords forgets it."""
    passwords = trained.home / "demo-accounts.json"
    passwords.write_text('{"zelda": "secret words", "jonas": "other words"}')
    user_id = zelda_of(trained.services).id

    trained.services.delete_user(user_id, actor="amina")

    assert "zelda" not in passwords.read_text()
    assert "jonas" in passwords.read_text()
    with pytest.raises(NotFoundError):
        trained.services.delete_user(user_id, actor="amina")
