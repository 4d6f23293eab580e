"""Comparing answers blind: draw them, show them in random order, take the judgement, only then tell who wrote them.

Different from an arena of chat logs: all answers rest on one prepared turn (the same passages and prompt), so that the judgement is about
the writing, and the order shown is stored with it. Knows nothing of pages; plain functions on services, a person and values.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from chatbot.answers import StoredAnswer
from chatbot.feedback import Verdict
from chatbot.judgements import kind_of_ranking
from chatbot.records import Answer, Judgement, PolicyVersion, PreparedTurn, User
from knowledge_base.errors import UsageError
from ui.fragments import Act

if TYPE_CHECKING:
    from ui.wiring import Services

N_RANKED = 4
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Answers to one question as shown, left to right, and what the person said of them."""

    answers: Sequence[StoredAnswer]
    judgement: Judgement | None = None

    @property
    def ids(self) -> list[str]:
        """The answers' ids in the order shown."""
        return [answer.id for answer in self.answers]


def choosable_policies(services: Services, user: User) -> Sequence[PolicyVersion]:
    """The policies that this person may choose between: ops all that may be loaded, others none."""
    if user.role != "ops":
        return []
    return [policy for policy in services.registry.list() if policy.state != "rejected"]


def choose_policies(services: Services, user: User, wanted: Sequence[str] = ()) -> list[str]:
    """The two policies to draw from.

    Args:
        services: The services.
        user: Who compares.
        wanted: Two ids, for ops; empty ones mean the serving policy.

    Returns:
        Two ids. Equal ones mean samples of one policy; without a choice it is the serving policy and the newest candidate made
        since, when there is one.

    Raises:
        UsageError: somebody else than ops chooses, or not from the list.
    """
    serving = services.registry.serving()
    if any(wanted):
        legal = {policy.id for policy in choosable_policies(services, user)}
        chosen = [policy_id or serving.id for policy_id in wanted]
        if not set(chosen) <= legal or len(chosen) != 2:
            raise UsageError("choose two policies from the list; only ops may choose")
        return chosen
    newer = (
        p for p in services.registry.list() if p.state == "candidate" and p.created_at > serving.created_at
    )
    candidate = next(newer, None)
    return [serving.id, candidate.id if candidate else serving.id]


def draw_trial(
    services: Services,
    user: User,
    question: str,
    *,
    n_answers: int = 2,
    wanted: Sequence[str] = (),
    shuffle: random.Random | None = None,
) -> Trial:
    """Answers to a question that read differently, stored as shown to this person, in random order.

    Args:
        services: The services.
        user: Who compares.
        question: As typed.
        n_answers: 2 for a comparison, more for a ranking.
        wanted: Policies, see `choose_policies`.
        shuffle: Decides the order; the system's randomness unless given.

    Returns:
        A trial of 1 to `n_answers` answers: one when everything drawn reads the same, so that there is nothing to compare.

    Raises:
        UsageError: the question is empty or too long, or the choice of policies is not allowed.
        GenerationError: a policy cannot write.
    """
    policy_ids = choose_policies(services, user, wanted)
    prepared = services.assistant.prepare(question.strip(), user.as_reader(), policy_id=policy_ids[0])
    drawn = _draw(services, prepared, policy_ids, n_answers)
    (shuffle or random.SystemRandom()).shuffle(drawn)
    return Trial(answers=[services.answers.save(answer, user.id, "compare") for answer in drawn])


def _draw(
    services: Services, prepared: PreparedTurn, policy_ids: Sequence[str], n_answers: int
) -> list[Answer]:
    assistant, (first, second) = services.assistant, policy_ids
    if first == second:
        return _differing(assistant.sample(prepared, n_answers, policy_id=first))[:n_answers]
    share = n_answers // 2
    ours = _differing(assistant.sample(prepared, share, policy_id=first))
    # One more than needed: the other policy's first answer may be word for word the same.
    theirs = _differing(assistant.sample(prepared, share + 1, policy_id=second))
    known = {answer.text for answer in ours}
    return [*ours, *[answer for answer in theirs if answer.text not in known][:share]]


def _differing(answers: Sequence[Answer]) -> list[Answer]:
    return list({answer.text: answer for answer in reversed(answers)}.values())[::-1]


def load_trial(services: Services, user: User, answer_ids: Sequence[str]) -> Trial:
    """A trial shown before, with what the person said of it.

    Raises:
        UsageError: there are no answers.
        NotFoundError: one was not shown to this person.
    """
    if not answer_ids:
        raise UsageError("there are no answers to judge: ask a question first")
    answers = [services.answers.get(answer_id, user.id) for answer_id in answer_ids]
    judgement = None
    if len(answers) > 1:
        kind = kind_of_ranking(len(answers))
        judgement = services.feedback.get(user, kind, "+".join(sorted(answer_ids)))
    return Trial(answers=answers, judgement=judgement)


def judge_pair(services: Services, user: User, answer_ids: Sequence[str], verdict: str) -> Judgement:
    """Take a verdict on two answers.

    Args:
        services: The services.
        user: Who judges.
        answer_ids: As shown, left first.
        verdict: One of `VERDICTS`.

    Raises:
        UsageError: no such verdict, or not two answers.
        FeedbackError: the answers were not shown to this person.
    """
    for legal in VERDICTS:
        if verdict == legal and len(answer_ids) == 2:
            return services.feedback.compare(user, answer_ids[0], answer_ids[1], legal)
    raise UsageError(f"a verdict on two answers is one of {', '.join(VERDICTS)}")


def judge_ranking(services: Services, user: User, answer_ids: Sequence[str], act: Act) -> Judgement:
    """Take a ranking: field `rank-ID` of each answer holds its place, 1 the best; equal places are ties.

    Raises:
        UsageError: a place is missing or no number.
        FeedbackError: the answers were not shown to this person.
    """
    ranking = ranking_from_places([act.text(f"rank-{answer_id}") for answer_id in answer_ids])
    both_bad = bool(act.text("none-good"))
    order = range(len(answer_ids))
    return services.feedback.rank(user, answer_ids, ranking, displayed_order=order, both_bad=both_bad)


def ranking_from_places(places: Sequence[str]) -> list[list[int]]:
    """Places as typed to indices best first, equals together.

    Raises:
        UsageError: a place is not a number from 1 on.

    >>> ranking_from_places(["2", "1", "2"])
    [[1], [0, 2]]
    """
    if not all(place.isascii() and place.isdigit() and int(place) >= 1 for place in places):
        raise UsageError("give every answer a place: 1 for the best, the same place for equals")
    numbers = [int(place) for place in places]
    return [[i for i, number in enumerate(numbers) if number == place] for place in sorted(set(numbers))]


def undo(services: Services, user: User, answer_ids: Sequence[str]) -> None:
    """Take the judgement of a trial back.

    Raises:
        FeedbackError: there is none.
    """
    services.withdraw(user, kind_of_ranking(len(answer_ids)), "+".join(sorted(answer_ids)))


def next_questions(services: Services, asked: Sequence[str], n: int = 3) -> list[str]:
    """Suggested questions that were not just asked, in an order that changes."""
    left = [question for question in services.starters() if question not in asked]
    random.SystemRandom().shuffle(left)
    return left[:n]
