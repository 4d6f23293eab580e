"""Simulated employees: they ask, see answers of the serving policy, and judge them by a preference function, with noise.

Their judgements are stored exactly as people's are, under the surface `simulation`, so that everything downstream is the real thing.
Knows nothing of how answers are made or trained on. Different from a benchmark's simulator: a rating is made by what the
person would have ranked first among several samples, of which only one was shown.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from alignment.preferences import PreferenceFunction, Ranking
from alignment.simulated_employees import Employee, EmployeeKind, EmployeeMix
from chatbot.judgements import judged_text_of
from chatbot.records import Answer, JudgedAnswer, Judgement, JudgementKind, PreparedTurn, Sampling
from knowledge_base.database import new_id
from knowledge_base.records import Reader

KINDS: tuple[JudgementKind, ...] = ("rating", "comparison", "ranking", "demonstration")


class SimulatedAssistant(Protocol):
    """What the simulation needs of the assistant."""

    def prepare(
        self, question: str, reader: Reader, *, collections: Sequence[str] | None = None
    ) -> PreparedTurn:
        """Retrieve and build the prompt."""

    def sample_many(
        self, prepared: Sequence[PreparedTurn], n: int, sampling: Sampling, policy_id: str | None = None
    ) -> list[list[Answer]]:
        """N answers for each turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Who asks how often, and how well they judge."""

    turns: int = 300
    """Judgements to make."""
    users: int = 10
    """Simulated employees, `sim-01` onwards; each is as likely to ask."""
    noise: float = 0.0
    """Share of judgements that are random, between 0 and 1, whoever makes them."""
    mix: EmployeeMix = field(default_factory=EmployeeMix)
    """Kinds of employees."""
    kinds: tuple[JudgementKind, ...] = KINDS
    """Kinds of judgement, drawn with equal probability."""
    answers_per_ranking: int = 4
    """Answers shown in a ranking, and samples that a rating or a demonstration is judged against."""
    temperature: float = 1.0
    """Sampling temperature of the answers: people can only choose between answers that differ."""
    min_p: float = 0.05
    """Tokens less likely than this share of the likeliest one are not drawn."""
    max_new_tokens: int = 160
    """Longest answer, in tokens."""
    turns_per_batch: int = 4
    """Turns answered together, for speed."""
    seed: int = 0
    """Makes the simulation repeatable for the same policy and documents."""

    def __post_init__(self) -> None:
        """Refuse what could not run."""
        _require(self.turns >= 1, "turns", self.turns, "1 or more")
        _require(self.users >= 1, "users", self.users, "1 or more")
        _require(0 <= self.noise <= 1, "noise", self.noise, "between 0 and 1")
        _require(
            bool(self.kinds) and set(self.kinds) <= set(KINDS),
            "kinds",
            self.kinds,
            f"some of {', '.join(KINDS)}",
        )
        _require(self.answers_per_ranking >= 2, "answers_per_ranking", self.answers_per_ranking, "2 or more")
        _require(self.temperature > 0, "temperature", self.temperature, "above 0")
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "1 or more")
        _require(self.turns_per_batch >= 1, "turns_per_batch", self.turns_per_batch, "1 or more")


def _require(holds: bool, name: str, value: object, legal: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r}: must be {legal}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationReport:
    """What was judged."""

    turns: int
    by_kind: dict[str, int]
    noisy: int
    """How many judgements were random by `noise`."""
    employees: dict[str, EmployeeKind] = field(default_factory=dict)
    """Kind of each person, by id."""
    ties: int
    """Comparisons and rankings with at least one tie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    question: str
    kind: JudgementKind
    user_id: str
    is_noisy: bool
    is_late: bool


def simulate(
    questions: Sequence[str],
    prefer: PreferenceFunction,
    assistant: SimulatedAssistant,
    *,
    user_ids: Sequence[str],
    readers: Sequence[Reader],
    collections: Sequence[str] | None,
    store_answer: Callable[[Answer, str], object],
    store_judgement: Callable[[Judgement], object],
    settings: SimulationSettings,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SimulationReport:
    """Ask, answer and judge `settings.turns` times.

    Args:
        questions: What may be asked; each is asked once before any is asked twice.
        prefer: The employees' taste.
        assistant: Answers with the serving policy.
        user_ids: Ids of the simulated employees' accounts.
        readers: What each of them may read, in the same order.
        collections: Where to search; None for all permitted.
        store_answer: Called for each answer that was shown, with the id of the person.
        store_judgement: Called once a turn.
        settings: How many, how noisy.
        progress: Called with (turns done, turns in all).

    Raises:
        UsageError: the preference function returns something that is not a ranking.
    """
    rng = random.Random(settings.seed)  # noqa: S311 -- reproducible, not secret
    by_user = dict(zip(user_ids, readers, strict=True))
    turns = list(_draw_turns(questions, user_ids, settings, rng))
    kinds_of = settings.mix.assign(user_ids)
    employees = {
        user: Employee(kind=kind, prefer=prefer, mix=settings.mix) for user, kind in kinds_of.items()
    }
    kinds: Counter[str] = Counter()
    ties = 0
    for start in range(0, len(turns), settings.turns_per_batch):
        batch = turns[start : start + settings.turns_per_batch]
        prepared = [assistant.prepare(t.question, by_user[t.user_id], collections=collections) for t in batch]
        sampling = Sampling(
            temperature=settings.temperature,
            min_p=settings.min_p,
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed * 1_000_003 + start,
        )
        answers = assistant.sample_many(prepared, settings.answers_per_ranking, sampling)
        for turn, choices in zip(batch, answers, strict=True):
            judgement, shown = _judge(turn, choices, employees[turn.user_id], rng)
            for answer in shown:
                store_answer(answer, turn.user_id)
            store_judgement(judgement)
            kinds[turn.kind] += 1
            ties += any(len(group) > 1 for group in judgement.ranking)
        progress(min(start + len(batch), len(turns)), len(turns))
    return SimulationReport(
        turns=len(turns),
        by_kind=dict(kinds),
        noisy=sum(t.is_noisy for t in turns),
        ties=ties,
        employees=kinds_of,
    )


def _draw_turns(
    questions: Sequence[str], user_ids: Sequence[str], settings: SimulationSettings, rng: random.Random
) -> Iterator[_Turn]:
    waiting: list[str] = []
    for number in range(settings.turns):
        if not waiting:
            waiting = list(questions)
            rng.shuffle(waiting)
        yield _Turn(
            question=waiting.pop(),
            kind=rng.choice(settings.kinds),
            user_id=rng.choice(user_ids),
            is_noisy=rng.random() < settings.noise,
            is_late=number >= settings.turns / 2,
        )


def _judge(
    turn: _Turn, choices: Sequence[Answer], employee: Employee, rng: random.Random
) -> tuple[Judgement, Sequence[Answer]]:
    if turn.kind == "comparison":
        choices = _two_different(choices)
    ranking = employee.rank(turn.question, choices, rng, is_late=turn.is_late, is_noisy=turn.is_noisy)
    if turn.kind == "rating":
        label = 0 in ranking[0] if turn.is_noisy else employee.likes(choices, ranking)
        return _as_judgement(turn, choices[:1], label=label), choices[:1]
    if turn.kind == "demonstration":
        best = [choices[ranking[0][0]]]
        return _as_judgement(turn, best), best
    return _as_judgement(turn, choices, ranking=ranking), choices


def _two_different(choices: Sequence[Answer]) -> Sequence[Answer]:
    # Two equal texts teach nothing; when all samples agree, a person would see two equal answers and call it a tie.
    other = next((a for a in choices[1:] if a.completion != choices[0].completion), choices[1])
    return [choices[0], other]


def _as_judgement(
    turn: _Turn, answers: Sequence[Answer], *, ranking: Ranking = (), label: bool | None = None
) -> Judgement:
    prepared = answers[0].prepared
    passages = [sentence.passage for sentence in prepared.evidence]
    return Judgement(
        id=new_id(),
        kind=turn.kind,
        user_id=turn.user_id,
        subject=_subject(turn, answers),
        question=turn.question,
        prompt=answers[0].prompt,
        document_ids=sorted({p.document_id for p in passages}),
        all_open=all(p.collection_is_open for p in passages),
        answers=[_as_judged(answer) for answer in answers],
        ranking=ranking,
        label=label,
        surface="simulation",
        displayed_order=tuple(range(len(answers))) if len(answers) > 1 else (),
        extra={"noisy": turn.is_noisy},
    )


def _subject(turn: _Turn, answers: Sequence[Answer]) -> str:
    if turn.kind == "demonstration":
        return hashlib.sha256(turn.question.encode()).hexdigest()
    return "+".join(sorted(answer.id for answer in answers))


def _as_judged(answer: Answer) -> JudgedAnswer:
    return JudgedAnswer(
        text=judged_text_of(answer),
        answer_id=answer.id,
        abstained=answer.abstained,
        policy_id=answer.policy_id,
    )
