"""Answers come back as they were saved, to whom they were shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from chatbot.answers import AnswerStore
from chatbot.conversations import ConversationStore
from chatbot.erasure import DOCUMENT_GONE, erase_document_words
from chatbot.prompt import Message
from chatbot.records import GroundingReport
from knowledge_base.database import Database
from knowledge_base.errors import NotFoundError, UsageError
from knowledge_base.tables import documents
from tests.chatbot.cast import START, Clock, add_user, make_answer, make_citation, make_passage


@pytest.fixture
def answers(db: Database) -> AnswerStore:
    """The store under test."""
    return AnswerStore(db)


def test_an_answer_comes_back_with_its_lineage(answers: AnswerStore, db: Database) -> None:
    """Everything JSON carries survives: citations, evidence, sampling, versions, grounding."""
    alice, answer = add_user(db), make_answer()
    answers.save(answer, alice.id, "chat")

    stored = answers.get(answer.id, alice.id)

    assert (make_citation(),) == stored.citations
    assert (answer.sampling, answer.grounding, answer.logprob) == (
        stored.sampling,
        stored.grounding,
        stored.logprob,
    )
    assert answer.prepared.versions == stored.versions
    assert (1, "You get 25 days.", 7, "d1", True) == (
        stored.evidence[0].number,
        stored.evidence[0].text,
        stored.evidence[0].chunk_id,
        stored.evidence[0].document_id,
        stored.evidence[0].collection_is_open,
    )
    assert (answer.created_at, "chat", alice.id) == (stored.created_at, stored.surface, stored.user_id)


def test_what_is_not_there_stays_none(answers: AnswerStore) -> None:
    """An answer without model, grounding or person."""
    answer = make_answer(grounding=None, logprob=None, seconds_to_first_token=None, evidence_from=[])
    stored = answers.save(answer, None, "cli")

    assert (None, None, None, None) == (
        stored.grounding,
        stored.logprob,
        stored.seconds_to_first_token,
        stored.user_id,
    )
    assert stored.evidence == ()


def test_another_persons_answer_is_not_found(answers: AnswerStore, db: Database) -> None:
    """Whoever knows the id learns nothing."""
    alice, bob, answer = add_user(db), add_user(db, "bob"), make_answer()
    answers.save(answer, alice.id, "chat")

    with pytest.raises(NotFoundError):
        answers.get(answer.id, bob.id)


def test_an_answer_is_saved_once(answers: AnswerStore) -> None:
    """It never changes afterwards."""
    answer = make_answer()
    answers.save(answer, None, "cli")

    with pytest.raises(UsageError, match="already stored"):
        answers.save(answer, None, "cli")


def test_restricted_evidence_makes_an_answer_restricted(answers: AnswerStore) -> None:
    """One sentence is enough; its documents are listed once each."""
    passages = [make_passage("d1"), make_passage("d2", is_open=False), make_passage("d1")]
    stored = answers.save(make_answer(evidence_from=passages), None, "chat")

    assert (False, ("d1", "d2")) == (stored.all_open, stored.document_ids)


def test_restricted_history_makes_a_follow_up_restricted(answers: AnswerStore) -> None:
    """Its prompt repeats restricted text, whatever its own evidence is."""
    first = make_answer(evidence_from=[make_passage("secret", is_open=False)])
    answers.save(first, None, "chat")

    stored = answers.save(make_answer(), None, "chat", earlier_answer_ids=[first.id])

    assert (False, ("d1", "secret")) == (stored.all_open, stored.document_ids)


def test_figures_of_no_answers_are_none(answers: AnswerStore) -> None:
    """Not zero: nothing is known."""
    figures = answers.figures()

    assert (0, [], None, None, None) == (
        figures.n,
        list(figures.per_day),
        figures.abstention_rate,
        figures.fallback_rate,
        figures.median_seconds,
    )


def test_figures_count_days_rates_and_the_median(answers: AnswerStore, clock: Clock) -> None:
    """Four answers over two days; the median of an even count is the mean of the middle two."""
    quoted = GroundingReport(n_sentences=1, n_supported=0, fell_back=True)
    answers.save(make_answer(seconds=1.0, abstained=True, grounding=None), None, "chat")
    answers.save(make_answer(seconds=9.0, grounding=quoted), None, "chat")
    answers.save(make_answer(seconds=2.0), None, "chat")
    clock.advance(days=1)
    answers.save(make_answer(seconds=4.0, created_at=clock.at, policy_id="ppo-1"), None, "chat")

    figures = answers.figures()

    assert [("2026-05-04", 3), ("2026-05-05", 1)] == list(figures.per_day)
    assert (0.25, 0.25, 3.0) == (figures.abstention_rate, figures.fallback_rate, figures.median_seconds)
    assert (1, 4.0) == (answers.figures(START).n, answers.figures(policy_id="ppo-1").median_seconds)


def test_recent_answers_come_newest_first(answers: AnswerStore, clock: Clock) -> None:
    """Of one policy when asked."""
    answers.save(make_answer(), None, "chat")
    clock.advance(minutes=1)
    newest = answers.save(make_answer(created_at=clock.at, policy_id="ppo-1"), None, "chat")

    assert newest == answers.recent(1)[0]
    assert [newest] == list(answers.recent(policy_id="ppo-1"))


def _delete_document(db: Database, document_id: str) -> None:
    with db.write() as connection:
        erase_document_words(connection, document_id)
        connection.execute(sa.delete(documents).where(documents.c.id == document_id))


def test_an_answer_written_while_its_document_was_deleted_has_no_words(
    answers: AnswerStore, db: Database
) -> None:
    """It is kept as the deletion would have left it, and the conversation shows as much."""
    alice, answer = add_user(db), make_answer()
    _delete_document(db, "d1")

    stored = answers.save(answer, alice.id, "chat")
    conversations = ConversationStore(db)
    conversation = conversations.create(alice.id)
    shown = conversations.append_answer(alice.id, conversation.id, answer.text, answer.id)

    assert (DOCUMENT_GONE, DOCUMENT_GONE) == (stored.text, shown.content)
    assert ("", "", (), (), ("d1",)) == (
        stored.prompt, stored.completion, stored.evidence, stored.citations, stored.document_ids,
    )  # fmt: skip
    assert stored.grounding is not None
    assert () == tuple(stored.grounding.dropped)


@pytest.mark.parametrize(
    ("shown", "kept"), [("You get 25 days.", DOCUMENT_GONE), (DOCUMENT_GONE, "You get 25 days [1].")]
)
def test_a_follow_up_loses_its_words_only_if_it_was_asked_before_the_deletion(
    shown: str, kept: str, answers: AnswerStore, db: Database
) -> None:
    """Afterwards the prompt repeats nothing of the document, and the conversation may go on."""
    first = make_answer(evidence_from=[make_passage("d2")])
    answers.save(first, None, "chat")
    follow_up = make_answer()
    messages = [Message(role="user", content="How many?"), Message(role="assistant", content=shown)]
    follow_up = replace(follow_up, prepared=replace(follow_up.prepared, messages=messages))
    _delete_document(db, "d2")

    assert kept == answers.save(follow_up, None, "chat", earlier_answer_ids=[first.id]).text
