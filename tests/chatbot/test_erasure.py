"""Words go where a document goes, on every database; who did not read it keeps everything."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from chatbot import tables
from chatbot.answers import AnswerStore
from chatbot.conversations import ConversationStore
from chatbot.erasure import DOCUMENT_GONE, erase_document_words
from chatbot.feedback import FeedbackStore
from knowledge_base.database import Database
from tests.chatbot.cast import add_user, make_answer


def test_what_was_quoted_from_a_document_goes_with_it(db: Database) -> None:
    """Answer, message, judgement; the question and the count stay."""
    alice = add_user(db)
    answer = make_answer("Am I ill?", text="Perhaps [1].")
    AnswerStore(db).save(answer, alice.id, "chat")
    conversations = ConversationStore(db)
    conversation = conversations.create(alice.id)
    conversations.append_turn(alice.id, conversation.id, "Am I ill?", "Perhaps [1].", answer.id)
    FeedbackStore(db).rate(alice, answer.id, True)
    (document_id,) = AnswerStore(db).get(answer.id).document_ids

    with db.write() as connection:
        n_answers = erase_document_words(connection, document_id)

    stored = AnswerStore(db).get(answer.id)
    asked, answered = conversations.messages(alice.id, conversation.id)
    assert (1, "Am I ill?", DOCUMENT_GONE) == (n_answers, stored.question, stored.text)
    assert ("", "", (), ()) == (stored.prompt, stored.completion, stored.evidence, stored.citations)
    assert ("Am I ill?", DOCUMENT_GONE) == (asked.content, answered.content)
    assert [] == list(FeedbackStore(db).current())


def test_answers_from_other_documents_stay(db: Database) -> None:
    """Nothing is taken from whom it does not concern."""
    alice = add_user(db)
    answer = make_answer("Am I ill?", text="Perhaps [1].")
    before = AnswerStore(db).save(answer, alice.id, "chat")
    FeedbackStore(db).rate(alice, answer.id, True)

    with db.write() as connection:
        assert 0 == erase_document_words(connection, "0" * 32)

    assert before == AnswerStore(db).get(answer.id)
    assert 1 == len(list(FeedbackStore(db).current()))


@pytest.mark.parametrize("verb", ["rate", "demonstrate"])
def test_a_withdrawn_judgement_is_without_words(verb: str, db: Database) -> None:
    """In all its revisions; that there were so many stays, for the pace and the numbering."""
    alice = add_user(db)
    feedback = FeedbackStore(db)
    if verb == "rate":
        answer = AnswerStore(db).save(make_answer("Am I ill?", text="Perhaps [1]."), alice.id, "chat")
        feedback.rate(alice, answer.id, True, comment="Perhaps one")
        judgement = feedback.rate(alice, answer.id, False, comment="Perhaps two")
    else:
        feedback.demonstrate(alice, "Perhaps one", question="Perhaps?")
        judgement = feedback.demonstrate(alice, "Perhaps two", question="Perhaps?")

    feedback.undo(alice, judgement.kind, judgement.subject)

    with db.read() as connection:
        rows = connection.execute(sa.select(tables.judgements)).all()
    assert [1, 2, 3] == sorted(row.revision for row in rows)
    assert "Perhaps" not in repr(rows)
