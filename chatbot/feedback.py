"""Judgements in: ratings, comparisons, rankings, demonstrations; append-only. Knows nothing of what is learned from them.

Different from a column `liked`: every change of mind is a new revision, undo is one too, and the newest counts; people may judge only
what they were shown, once per subject, and only so fast, because judgements decide what the policy becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from chatbot import judgements, tables
from chatbot.answers import AnswerStore, StoredAnswer
from chatbot.errors import FeedbackError
from chatbot.feedback_figures import FeedbackFigures, counting, feedback_figures
from chatbot.judgement_rows import (
    check_users,
    erase_words,
    from_row,
    insert_judgement,
    judgement_of,
    latest_judgement,
)
from chatbot.judgement_transactions import check_speed, read_in_pieces, run_again_on_collision
from chatbot.judgements import kind_of_ranking, same_content, text_hash
from chatbot.records import JudgedAnswer, Judgement, JudgementKind, User
from knowledge_base.database import Database, new_id, now
from knowledge_base.errors import NotFoundError

log = structlog.get_logger(__name__)

Verdict = Literal["left", "right", "tie", "both bad"]

_RANKING_OF_VERDICT: dict[Verdict, Sequence[Sequence[int]]] = {
    "left": ((0,), (1,)),
    "right": ((1,), (0,)),
    "tie": ((0, 1),),
    "both bad": ((0, 1),),
}


@dataclass(frozen=True, kw_only=True)
class FeedbackSettings:
    """Bounds on what one person may say."""

    per_minute: int = 100
    """Judgements (and undos) of one person in any minute; count."""
    max_comment_characters: int = 2000
    """Characters."""
    max_demonstration_characters: int = 4000
    """Characters."""

    def __post_init__(self) -> None:
        for name in ("per_minute", "max_comment_characters", "max_demonstration_characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


class FeedbackStore:
    """Takes and hands out judgements.

    The verbs `rate`, `compare`, `rank`, `demonstrate`, `undo` are for people and check what they may do; `add` takes a whole judgement from
    an import or a simulation. All raise FeedbackError for what can not be stored; `permanent` is False when it is only too soon.
    """

    def __init__(
        self, db: Database, settings: FeedbackSettings | None = None, *, clock: Callable[[], datetime] = now
    ) -> None:
        self._db = db
        self._settings = settings or FeedbackSettings()
        self._clock = clock
        self._answers = AnswerStore(db)

    def rate(
        self,
        user: User,
        answer_id: str,
        label: bool,
        *,
        reasons: Sequence[str] = (),
        comment: str = "",
        surface: str = "chat",
    ) -> Judgement:
        """Thumbs up (True) or down on an answer this person was shown."""
        answer = self._shown(user, answer_id)
        judgement = judgement_of([answer], user.id, kind="rating", subject=answer.id, surface=surface)
        return self._take(replace(judgement, label=label, reasons=tuple(reasons), comment=comment.strip()))

    def compare(
        self,
        user: User,
        left_id: str,
        right_id: str,
        verdict: Verdict,
        *,
        reasons: Sequence[str] = (),
        comment: str = "",
        surface: str = "compare",
    ) -> Judgement:
        """Say which of two answers, shown side by side, is better; the shape of `rank` that a page with four buttons needs."""
        if verdict not in _RANKING_OF_VERDICT:
            raise FeedbackError(f"{verdict!r} is not a verdict: use one of {', '.join(_RANKING_OF_VERDICT)}")
        return self.rank(
            user,
            [left_id, right_id],
            _RANKING_OF_VERDICT[verdict],
            displayed_order=(0, 1),
            both_bad=verdict == "both bad",
            reasons=reasons,
            comment=comment,
            surface=surface,
        )

    def rank(
        self,
        user: User,
        answer_ids: Sequence[str],
        ranking: Sequence[Sequence[int]] = (),
        *,
        displayed_order: Sequence[int] = (),
        both_bad: bool = False,
        reasons: Sequence[str] = (),
        comment: str = "",
        surface: str = "compare",
    ) -> Judgement:
        """Rank answers to one question: two make a comparison, more a ranking.

        Args:
            user: Who; all answers must have been shown to this person.
            answer_ids: What, each once.
            ranking: Indices into `answer_ids`, best first, equals together; may be left out when `both_bad`: then all are equal.
            displayed_order: Indices in the order shown, left to right.
            both_bad: None of them is good enough.
            reasons: From `judgements.REASONS`.
            comment: Free text.
            surface: Where it was given.
        """
        if len(set(answer_ids)) != len(answer_ids):
            raise FeedbackError("the same answer can not be compared with itself: name each answer once")
        answers = [self._shown(user, answer_id) for answer_id in answer_ids]
        if len({text_hash(answer.question) for answer in answers}) > 1:
            raise FeedbackError("only answers to the same question can be compared")
        if both_bad and not ranking:
            ranking = [range(len(answers))]
        judgement = judgement_of(
            answers,
            user.id,
            kind=kind_of_ranking(len(answers)),
            subject="+".join(sorted(answer_ids)),
            surface=surface,
        )
        return self._take(
            replace(
                judgement,
                ranking=tuple(tuple(group) for group in ranking),
                displayed_order=tuple(displayed_order),
                both_bad=both_bad,
                reasons=tuple(reasons),
                comment=comment.strip(),
            )
        )

    def demonstrate(
        self,
        user: User,
        text: str,
        *,
        answer_id: str | None = None,
        question: str | None = None,
        surface: str = "chat",
    ) -> Judgement:
        """Write the ideal answer, in place of one that was shown or to a question of one's own.

        A demonstration without an answer has no evidence, so nothing restricts its use: the page must say that everyone may come to
        read it.
        """
        text = text.strip()
        if (answer_id is None) == (question is None):
            raise FeedbackError("a demonstration needs either the answer it replaces or a question")
        if len(text) > self._settings.max_demonstration_characters:
            raise FeedbackError(
                f"an ideal answer has at most {self._settings.max_demonstration_characters} characters, "
                f"this one has {len(text)}: shorten it"
            )
        ideal = (JudgedAnswer(text=text),)
        if answer_id is not None:
            shown = self._shown(user, answer_id)
            judgement = judgement_of(
                [shown], user.id, kind="demonstration", subject=shown.id, surface=surface
            )
            extra: dict[str, Any] = {"replaces": shown.id, "policy_id": shown.policy_id}
            return self._take(replace(judgement, answers=ideal, extra=extra))
        asked = (question or "").strip()
        return self._take(
            Judgement(
                id=new_id(),
                kind="demonstration",
                user_id=user.id,
                subject=text_hash(asked),
                question=asked,
                prompt="",
                document_ids=(),
                all_open=True,
                answers=ideal,
                surface=surface,
            )
        )

    def undo(self, user: User, kind: JudgementKind, subject: str) -> Judgement:
        """Withdraw this person's judgement of a subject; judging it again counts again.

        That it was withdrawn is kept, what had been said is not.
        """

        def withdraw(connection: Connection) -> Judgement:
            check_speed(connection, user.id, self._settings.per_minute, self._clock)
            latest = latest_judgement(connection, user.id, kind, subject)
            if latest is None or latest.withdrawn:
                raise FeedbackError("there is nothing to undo: you have not judged this")
            withdrawn = replace(latest, id=new_id(), withdrawn=True)
            taken_back = insert_judgement(connection, withdrawn, latest.revision + 1, self._clock())
            erase_words(connection, taken_back)
            return taken_back

        return run_again_on_collision(self._db, withdraw)

    def add(self, judgement: Judgement) -> bool:
        """Take a whole judgement, as made by an import or a simulation: no rate limit, no check that the answers were shown.

        The store decides the revision; the id and, when given, the time are kept.

        Returns:
            Whether it was new: False when its id is known or this person's newest judgement of the subject says the same.

        Raises:
            NotFoundError: there is no such user.
        """
        return self.add_all([judgement]) == 1

    def add_all(self, batch: Sequence[Judgement]) -> int:
        """As `add`, for several in one transaction: all are kept or none. Returns how many were new."""
        for judgement in batch:
            judgements.check_judgement(judgement)

        def append_all(connection: Connection) -> int:
            check_users(connection, {judgement.user_id for judgement in batch})
            return sum(self._append(connection, judgement)[1] for judgement in batch)

        return run_again_on_collision(self._db, append_all)

    def get(self, user: User, kind: JudgementKind, subject: str) -> Judgement | None:
        """This person's judgement of a subject as it counts now; None when there is none or it was withdrawn."""
        with self._db.read() as connection:
            latest = latest_judgement(connection, user.id, kind, subject)
        return None if latest is None or latest.withdrawn else latest

    def everything_of(self, user_id: str) -> list[Judgement]:
        """All judgements of a person, superseded and withdrawn ones too, oldest first."""
        t = tables.judgements
        with self._db.read() as connection:
            rows = connection.execute(
                sa.select(t).where(t.c.user_id == user_id).order_by(t.c.created_at, t.c.id)
            )
            return [from_row(row) for row in rows.all()]

    def current(
        self, since: datetime | None = None, kinds: Sequence[JudgementKind] | None = None
    ) -> Iterator[Judgement]:
        """The judgements that count, oldest first, as of this call; ones erased while iterating are left out.

        Args:
            since: Only those given after this time.
            kinds: Only these kinds.
        """
        t = tables.judgements
        conditions = counting(since)
        if kinds is not None:
            conditions.append(t.c.kind.in_(list(kinds)))
        with self._db.read() as connection:
            chosen = sa.select(t.c.id).where(*conditions).order_by(t.c.created_at, t.c.id)
            ids = connection.execute(chosen).scalars().all()
        return read_in_pieces(self._db, ids)

    def questions_without(self, gone: Collection[str], *, user_id: str = "") -> set[str]:
        """What the judgements ask that count, without these judgements and without a person's; reads nothing else of them.

        Args:
            gone: Ids of judgements.
            user_id: Of a person.
        """
        c = tables.judgements.c
        query = sa.select(c.id, c.question).where(*counting(None), c.user_id != user_id)
        with self._db.read() as connection:
            return {row.question for row in connection.execute(query) if row.id not in gone}

    def count_since(self, time: datetime | None) -> int:
        """How many judgements that count were given after a time (None: ever)."""
        with self._db.read() as connection:
            statement = sa.select(sa.func.count()).select_from(tables.judgements).where(*counting(time))
            return connection.execute(statement).scalar_one()

    def oldest_since(self, time: datetime | None) -> datetime | None:
        """When the oldest of the judgements that `count_since` counts was given; None where it counts none."""
        with self._db.read() as connection:
            oldest = sa.select(sa.func.min(tables.judgements.c.created_at)).where(*counting(time))
            value: datetime | None = connection.execute(oldest).scalar_one()
            return value

    def stats(self) -> FeedbackFigures:
        """Counts for operators."""
        with self._db.read() as connection:
            return feedback_figures(connection)

    def delete_user(self, user_id: str) -> int:
        """Erase all of a person's judgements, withdrawn and superseded ones too. Returns how many rows went."""
        t = tables.judgements
        with self._db.write() as connection:
            return connection.execute(sa.delete(t).where(t.c.user_id == user_id)).rowcount

    def _shown(self, user: User, answer_id: str) -> StoredAnswer:
        try:
            return self._answers.get(answer_id, user.id)
        except NotFoundError as error:
            raise FeedbackError(
                f"answer {answer_id[:80]!r} was not shown to you: only your own answers can be judged"
            ) from error

    def _take(self, judgement: Judgement) -> Judgement:
        judgements.check_judgement(judgement)
        if len(judgement.comment) > self._settings.max_comment_characters:
            raise FeedbackError(
                f"a comment has at most {self._settings.max_comment_characters} characters, "
                f"this one has {len(judgement.comment)}: shorten it"
            )

        def append(connection: Connection) -> Judgement:
            check_speed(connection, judgement.user_id, self._settings.per_minute, self._clock)
            return self._append(connection, judgement)[0]

        taken = run_again_on_collision(self._db, append)
        log.info("judgement_taken", kind=taken.kind, surface=taken.surface, revision=taken.revision)
        return taken

    def _append(self, connection: Connection, judgement: Judgement) -> tuple[Judgement, bool]:
        """The judgement as kept, and whether it was new."""
        t = tables.judgements
        known = connection.execute(sa.select(t).where(t.c.id == judgement.id)).one_or_none()
        if known is not None:
            return from_row(known), False
        latest = latest_judgement(connection, judgement.user_id, judgement.kind, judgement.subject)
        if latest is not None and not latest.withdrawn and same_content(latest, judgement):
            return latest, False  # a double click, or an import of what is here already
        revision = 1 if latest is None else latest.revision + 1
        return insert_judgement(connection, judgement, revision, judgement.created_at or self._clock()), True
