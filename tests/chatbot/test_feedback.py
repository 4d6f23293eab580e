"""Judgements: append-only, one a person and subject, only of what was shown."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from chatbot import feedback as feedback_module
from chatbot import tables
from chatbot.answers import AnswerStore
from chatbot.errors import FeedbackError
from chatbot.feedback import FeedbackSettings, FeedbackStore
from chatbot.judgements import check_ranking
from chatbot.records import GroundingReport, JudgedAnswer, Judgement, JudgementKind, User
from knowledge_base.database import Database, new_id
from knowledge_base.errors import NotFoundError
from tests.chatbot.cast import Clock, add_user, make_answer, make_passage


@pytest.fixture
def feedback(db: Database, clock: Clock) -> FeedbackStore:
    """The store under test, with a low limit."""
    return FeedbackStore(db, FeedbackSettings(per_minute=20), clock=clock)


@pytest.fixture
def alice(db: Database) -> User:
    """Who asks and judges."""
    return add_user(db)


def shown(db: Database, user: User, n: int = 1, **changes: object) -> list[str]:
    """Ids of answers shown to a person."""
    made = [make_answer(**changes) for _ in range(n)]
    for answer in made:
        AnswerStore(db).save(answer, user.id, "chat")
    return [answer.id for answer in made]


def whole(user: User, subject: str = "s", **changes: object) -> Judgement:
    """A rating as an import makes it."""
    judgement = Judgement(
        id=new_id(),
        kind="rating",
        user_id=user.id,
        subject=subject,
        question="How many?",
        prompt="",
        document_ids=(),
        all_open=True,
        answers=(JudgedAnswer(text="25."),),
        label=True,
        surface="import",
    )
    return replace(judgement, **changes)  # type: ignore[arg-type]  # the test's own keywords


def rows(db: Database) -> int:
    """How many revisions are stored."""
    with db.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(tables.judgements)).scalar_one()


def test_a_rating_keeps_the_answers_lineage(feedback: FeedbackStore, db: Database, alice: User) -> None:
    """The completion in the model's numbering, prompt, documents, policy."""
    whole = GroundingReport(n_sentences=1, n_supported=1)
    (answer_id,) = shown(db, alice, evidence_from=[make_passage("d9", is_open=False)], grounding=whole)

    feedback.rate(alice, answer_id, False, reasons=["wrong"], comment=" It is 26. ")

    (judgement,) = feedback.current()
    assert ("rating", answer_id, False) == (judgement.kind, judgement.subject, judgement.label)
    assert ("You get 25 days [2].", "base") == (judgement.answers[0].text, judgement.answers[0].policy_id)
    assert (("d9",), False, ("wrong",), "It is 26.") == (
        judgement.document_ids,
        judgement.all_open,
        judgement.reasons,
        judgement.comment,
    )


def test_a_rating_says_when_people_saw_something_else_than_the_completion(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """A fallback's thumbs are not about what the model wrote, and are learned as being about what was shown."""
    report = GroundingReport(n_sentences=1, n_supported=0, fell_back=True)
    (answer_id,) = shown(db, alice, grounding=report, text="Quoted [1].")

    judgement = feedback.rate(alice, answer_id, True)

    assert [{"text": "Quoted [1].", "fell_back": True, "n_dropped": 0}] == judgement.extra["shown"]
    assert "Quoted [1]." == judgement.answers[0].text


def test_the_newest_revision_counts_and_the_old_ones_stay(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """A change of mind is one judgement, two rows; a double click is none more."""
    (answer_id,) = shown(db, alice)
    feedback.rate(alice, answer_id, True)
    feedback.rate(alice, answer_id, False)
    feedback.rate(alice, answer_id, False)

    (judgement,) = feedback.current()
    assert (False, 2, 2) == (judgement.label, judgement.revision, rows(db))


def test_undo_withdraws_and_judging_again_counts_again(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """Also the very same judgement."""
    (answer_id,) = shown(db, alice)
    feedback.rate(alice, answer_id, True)
    feedback.undo(alice, "rating", answer_id)
    assert (list(feedback.current()), feedback.get(alice, "rating", answer_id)) == ([], None)
    with pytest.raises(FeedbackError, match="nothing to undo"):
        feedback.undo(alice, "rating", answer_id)

    feedback.rate(alice, answer_id, True)

    assert [3] == [j.revision for j in feedback.current()]


@pytest.mark.parametrize("stranger", ["another person", "unknown answer", "nobody's answer"])
def test_only_answers_shown_to_a_person_can_be_judged(
    feedback: FeedbackStore, db: Database, alice: User, stranger: str
) -> None:
    """By any verb; and the message does not tell whether the answer exists."""
    bob = add_user(db, "bob")
    unowned = make_answer()
    AnswerStore(db).save(unowned, None, "cli")
    ids = {
        "another person": shown(db, alice)[0],
        "unknown answer": "0" * 32,
        "nobody's answer": unowned.id,
    }
    (own,) = shown(db, bob)
    answer_id = ids[stranger]

    for attempt in (
        lambda: feedback.rate(bob, answer_id, True),
        lambda: feedback.rank(bob, [own, answer_id], [[0], [1]]),
        lambda: feedback.demonstrate(bob, "26.", answer_id=answer_id),
    ):
        with pytest.raises(FeedbackError, match="was not shown to you"):
            attempt()
    assert rows(db) == 0


def test_two_answers_are_a_comparison_and_three_a_ranking(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """The subject is the same in whatever order the answers are named."""
    a, b, c = shown(db, alice, 3)
    first = feedback.rank(alice, [a, b], [[0], [1]])
    again = feedback.rank(alice, [b, a], [[0], [1]])
    ranked = feedback.rank(alice, [c, a, b], [[2], [0, 1]], displayed_order=[1, 0, 2])

    assert ("comparison", "ranking") == (first.kind, ranked.kind)
    assert (first.subject, 2) == (again.subject, again.revision)
    assert (((2,), (0, 1)), (1, 0, 2)) == (ranked.ranking, ranked.displayed_order)


def test_the_same_comparison_named_the_other_way_round_is_a_double_click(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """What counts is which text stands above which."""
    (a,), (b,) = shown(db, alice, completion="A [1]."), shown(db, alice, completion="B [1].")
    feedback.rank(alice, [a, b], [[0], [1]])
    feedback.rank(alice, [b, a], [[1], [0]])

    assert rows(db) == 1


def test_answers_to_the_same_evidence_in_another_order_can_be_compared_and_learned_from(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """Both completions get the numbers of one prompt, whichever answer is named first."""
    question, lines = (
        "Question: Why?",
        ("1. Ask early. [1]\n2. Book online. [2]", "1. Book online. [1]\n2. Ask early. [2]"),
    )
    prompts = [f"{question}\n\nEvidence:\n{shown_lines}\n\n{question}" for shown_lines in lines]
    (a,), (b,) = (
        shown(db, alice, completion="Ask early. [1]", prompt=prompts[0], grounding=None),
        shown(db, alice, completion="Book online. [1]", prompt=prompts[1], grounding=None),
    )
    judgement = feedback.compare(alice, a, b, "left")
    feedback.rank(alice, [b, a], [[1], [0]])

    assert ["Ask early. [1]", "Book online. [2]"] == [answer.text for answer in judgement.answers]
    assert prompts[0] == judgement.prompt
    assert "prompts" not in judgement.extra
    assert rows(db) == 1


def test_answers_to_different_evidence_keep_their_own_prompts(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """Their scores do not compare, so a snapshot leaves them out."""
    (a,), (b,) = (
        shown(db, alice, completion="Ask early. [1]", prompt="one prompt"),
        shown(db, alice, completion="Book online. [1]", prompt="another"),
    )

    assert ["one prompt", "another"] == feedback.compare(alice, a, b, "left").extra["prompts"]


@pytest.mark.parametrize(
    ("verdict", "ranking", "both_bad"),
    [
        ("left", ((0,), (1,)), False),
        ("right", ((1,), (0,)), False),
        ("tie", ((0, 1),), False),
        ("both bad", ((0, 1),), True),
    ],
)
def test_the_four_verdicts_of_the_compare_page(
    feedback: FeedbackStore, db: Database, alice: User, verdict: str, ranking: object, both_bad: bool
) -> None:
    """Each is a ranking of two."""
    left, right = shown(db, alice, 2)
    judgement = feedback.compare(alice, left, right, verdict)  # type: ignore[arg-type]  # parametrize gives str

    assert (ranking, both_bad, (0, 1)) == (judgement.ranking, judgement.both_bad, judgement.displayed_order)


@given(
    st.lists(st.lists(st.integers(-1, 4), max_size=3), max_size=5),
    st.integers(2, 4),
)
def test_a_ranking_is_taken_exactly_when_every_answer_stands_in_it_once(
    ranking: Sequence[Sequence[int]], n: int
) -> None:
    """Whatever groups are given."""
    flat = [index for group in ranking for index in group]
    good = sorted(flat) == list(range(n)) and all(ranking)
    try:
        check_ranking(ranking, n)
    except FeedbackError:
        assert not good
    else:
        assert good


def test_bad_comparisons_are_refused(feedback: FeedbackStore, db: Database, alice: User) -> None:
    """One answer, the same twice, other questions, an order that is none."""
    a, b = shown(db, alice, 2)
    (other,) = shown(db, alice, question="May I park here?")

    for ids, ranking, order in (
        ([a], [[0]], ()),
        ([], [], ()),
        ([a, a], [[0], [1]], ()),
        ([a, other], [[0], [1]], ()),
        ([a, b], [[0]], ()),
        ([a, b], [[0], [1]], [0, 0]),
    ):
        with pytest.raises(FeedbackError):
            feedback.rank(alice, ids, ranking, displayed_order=order)
    assert rows(db) == 0


def test_a_demonstration_takes_an_answers_place_or_answers_a_question(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """With an answer it inherits the prompt; the same question in other words' case has the same subject."""
    (answer_id,) = shown(db, alice)
    replaced = feedback.demonstrate(alice, "26 days.", answer_id=answer_id)
    free = feedback.demonstrate(alice, "No.", question="May I park?")
    again = feedback.demonstrate(alice, "Yes.", question=" may I  PARK?")

    assert (answer_id, "26 days.", True) == (
        replaced.subject,
        replaced.answers[0].text,
        "25" not in replaced.answers[0].text,
    )
    assert replaced.prompt.startswith("Question:")
    assert (free.subject, 2) == (again.subject, again.revision)


def test_empty_overlong_or_unknown_words_are_refused(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """Nothing is stored."""
    (answer_id,) = shown(db, alice)
    for attempt in (
        lambda: feedback.demonstrate(alice, "  ", question="?"),
        lambda: feedback.demonstrate(alice, "x" * 4001, question="?"),
        lambda: feedback.demonstrate(alice, "Yes.", question=" "),
        lambda: feedback.demonstrate(alice, "Yes."),
        lambda: feedback.demonstrate(alice, "Yes.\x00", question="?"),
        lambda: feedback.rate(alice, answer_id, True, reasons=["I like it"]),
        lambda: feedback.rate(alice, answer_id, True, comment="x" * 2001),
        lambda: feedback.rate(alice, answer_id, True, comment="\ud800"),
    ):
        with pytest.raises(FeedbackError):
            attempt()
    assert rows(db) == 0


def test_the_rate_limit_is_per_person_and_passes(
    feedback: FeedbackStore, db: Database, alice: User, clock: Clock
) -> None:
    """Undo counts too; the error says that trying again later can help."""
    bob = add_user(db, "bob")
    (answer_id,), (bobs,) = shown(db, alice), shown(db, bob)
    for _ in range(10):
        feedback.rate(alice, answer_id, True)
        feedback.undo(alice, "rating", answer_id)
    with pytest.raises(FeedbackError, match="wait a moment") as caught:
        feedback.rate(alice, answer_id, True)
    assert not caught.value.permanent

    feedback.rate(bob, bobs, True)
    clock.advance(minutes=1)
    feedback.rate(alice, answer_id, True)


def test_votes_sent_all_at_once_leave_one_that_counts(db: Database, alice: User) -> None:
    """Revisions are numbered without gaps or doubles."""
    feedback = FeedbackStore(db)
    (answer_id,) = shown(db, alice)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: feedback.rate(alice, answer_id, n % 2 == 0), range(16)))

    (judgement,) = feedback.current()
    with db.read() as connection:
        revisions = connection.execute(sa.select(tables.judgements.c.revision)).scalars().all()
    assert sorted(revisions) == list(range(1, len(revisions) + 1))
    assert judgement.revision == len(revisions)


def test_a_lost_race_for_a_revision_is_run_again(
    feedback: FeedbackStore, db: Database, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try sees a stale state, as on a server where readers do not wait; the constraint catches it."""
    (answer_id,) = shown(db, alice)
    feedback.rate(alice, answer_id, True)
    real, calls = feedback_module.latest_judgement, []

    def stale_once(
        connection: Connection, user_id: str, kind: JudgementKind, subject: str
    ) -> Judgement | None:
        calls.append(subject)
        return None if len(calls) == 1 else real(connection, user_id, kind, subject)

    monkeypatch.setattr(feedback_module, "latest_judgement", stale_once)

    assert (2, 2) == (feedback.rate(alice, answer_id, False).revision, len(calls))


def test_a_whole_judgement_is_added_once(feedback: FeedbackStore, alice: User) -> None:
    """Neither its id nor its content twice, also after it was superseded."""
    up = whole(alice)
    down = replace(up, id=new_id(), label=False)

    assert [True, False, True, False, False] == [
        feedback.add(up),
        feedback.add(replace(up, id=new_id())),
        feedback.add(down),
        feedback.add(up),
        feedback.add(down),
    ]
    assert [False] == [j.label for j in feedback.current()]


def test_a_batch_is_kept_whole_or_not_at_all(feedback: FeedbackStore, db: Database, alice: User) -> None:
    """An unknown user in it stops all of it."""
    stranger = replace(alice, id="0" * 32)

    with pytest.raises(NotFoundError):
        feedback.add_all([whole(alice), whole(stranger)])
    with pytest.raises(FeedbackError, match="label"):
        feedback.add_all([whole(alice), whole(alice, "t", label=None)])
    assert rows(db) == 0


def test_current_and_count_since_agree(feedback: FeedbackStore, alice: User, clock: Clock) -> None:
    """After a time, of some kinds; superseded and withdrawn ones are in neither."""
    feedback.add(whole(alice, "old"))
    before = clock.at
    clock.advance(hours=1)
    feedback.add(whole(alice, "new"))
    feedback.add(whole(alice, "gone"))
    feedback.undo(alice, "rating", "gone")

    assert ["new"] == [j.subject for j in feedback.current(before)]
    assert (1, 2) == (feedback.count_since(before), feedback.count_since(None))
    assert next(feedback.current(before)).created_at == feedback.oldest_since(before)
    assert feedback.oldest_since(clock.at) is None
    assert list(feedback.current(kinds=["comparison"])) == []


def test_current_is_as_of_the_call(feedback: FeedbackStore, alice: User) -> None:
    """Judgements given while iterating wait for the next time; erased ones are left out."""
    feedback.add(whole(alice, "first"))
    found = feedback.current()
    feedback.add(whole(alice, "second"))

    assert ["first"] == [j.subject for j in found]
    found = feedback.current()
    feedback.delete_user(alice.id)
    assert list(found) == []


def test_stats_count_what_counts(feedback: FeedbackStore, db: Database, alice: User, clock: Clock) -> None:
    """By kind, label, day, person; and how often the left answer won."""
    bob = add_user(db, "bob")
    a, b, c, d = shown(db, alice, 4)
    feedback.rate(alice, a, True)
    feedback.rate(alice, b, False)
    feedback.rate(alice, c, True)
    feedback.undo(alice, "rating", c)
    feedback.compare(alice, a, b, "left")
    feedback.compare(alice, a, c, "left")
    feedback.compare(alice, a, d, "right")
    feedback.compare(alice, b, c, "both bad")
    clock.advance(days=1)
    feedback.demonstrate(bob, "Yes.", question="May I?")

    figures = feedback.stats()

    assert {"rating": 2, "comparison": 4, "demonstration": 1} == figures.by_kind
    assert ({"up": 1, "down": 1}, 7) == (figures.by_label, figures.n)
    assert [("2026-05-04", 6), ("2026-05-05", 1)] == list(figures.per_day)
    assert [("alice", 6), ("bob", 1)] == list(figures.per_user)
    assert (pytest.approx(2 / 3), 3) == (figures.left_share, figures.n_positioned)
    assert (1, 1, 1) == (figures.n_ties, figures.n_both_bad, figures.n_withdrawn)


def test_stats_of_nothing(feedback: FeedbackStore) -> None:
    """No share of no comparisons."""
    figures = feedback.stats()

    assert (0, {"up": 0, "down": 0}, None) == (figures.n, figures.by_label, figures.left_share)


def test_deleting_a_users_judgements_leaves_others(
    feedback: FeedbackStore, db: Database, alice: User
) -> None:
    """All revisions go."""
    bob = add_user(db, "bob")
    feedback.add(whole(alice))
    feedback.add(whole(alice, label=False))
    feedback.add(whole(bob))

    assert (2, [bob.id]) == (feedback.delete_user(alice.id), [j.user_id for j in feedback.current()])
