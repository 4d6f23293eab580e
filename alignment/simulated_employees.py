"""Kinds of simulated employees: who looks, who clicks, who is lazy, who pushes something, whose taste changes.

Each turns answers into a ranking, and says of a single answer whether it gets a thumb up. Knows nothing of how answers are made or stored.
Different from adding noise to one preference: real feedback is wrong in ways that belong to people, and only that can be found out
(`alignment.raters`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from alignment.preferences import PreferenceFunction, Ranking, random_ranking, rank
from chatbot.records import Answer

EmployeeKind = Literal["careful", "clicker", "lazy", "adversary", "drifting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmployeeMix:
    """How many of the employees are of which kind; the others are careful."""

    clickers: float = 0.0
    """Share who do not look: every judgement is random."""
    lazy: float = 0.0
    """Share who like whatever comes first, and give every single answer a thumb up."""
    adversaries: float = 0.0
    """Share who act together: what mentions `entity` is best, otherwise what the others like least."""
    entity: str = ""
    """What the adversaries push."""
    drifting: float = 0.0
    """Share whose taste turns to `later` half way through."""
    later: PreferenceFunction | None = field(default=None, repr=False)
    """The taste of the drifting afterwards."""

    def __post_init__(self) -> None:
        """Refuse what could not be."""
        shares = {name: getattr(self, name) for name in ("clickers", "lazy", "adversaries", "drifting")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: must be between 0 and 1")
        if sum(shares.values()) > 1:
            raise ValueError(f"{', '.join(shares)} are {sum(shares.values()):g} together: must be at most 1")
        if self.drifting and self.later is None:
            raise ValueError(f"drifting={self.drifting}: name the taste they drift to")

    def assign(self, user_ids: Sequence[str]) -> dict[str, EmployeeKind]:
        """Kinds by person: the careful come first, so that adding others does not change who they are."""
        n = len(user_ids)
        counts: list[tuple[EmployeeKind, int]] = [
            ("drifting", round(self.drifting * n)),
            ("lazy", round(self.lazy * n)),
            ("clicker", round(self.clickers * n)),
            ("adversary", round(self.adversaries * n)),
        ]
        others: list[EmployeeKind] = [kind for kind, count in counts for _ in range(count)][-n:] if n else []
        careful: list[EmployeeKind] = ["careful"] * (n - len(others))
        return dict(zip(user_ids, careful + others, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Employee:
    """Judges answers."""

    kind: EmployeeKind
    prefer: PreferenceFunction
    """The taste of the careful."""
    mix: EmployeeMix

    def rank(
        self, question: str, answers: Sequence[Answer], rng: random.Random, *, is_late: bool, is_noisy: bool
    ) -> Ranking:
        """Indices, best first, equals together.

        Args:
            question: As asked.
            answers: As shown, in that order.
            rng: Of the simulation.
            is_late: Whether the second half has begun.
            is_noisy: Whether this judgement is random, whoever makes it.

        Raises:
            UsageError: the preference function returns something that is not a ranking.
        """
        if is_noisy or self.kind == "clicker":
            return random_ranking(len(answers), rng)
        if self.kind == "lazy":
            return tuple((index,) for index in range(len(answers)))
        if self.kind == "drifting" and is_late and self.mix.later is not None:
            return rank(self.mix.later, question, answers, rng)
        ranking = rank(self.prefer, question, answers, rng)
        return self._pushed(answers, ranking) if self.kind == "adversary" else ranking

    def likes(self, answers: Sequence[Answer], ranking: Ranking) -> bool:
        """Whether the first of the answers gets a thumb up, by its place among those that could have been shown instead."""
        if self.kind == "lazy":
            return True
        if self.kind == "adversary" and any(map(self._mentions, answers)):
            return self._mentions(answers[0])
        return 0 in ranking[0]

    def _mentions(self, answer: Answer) -> bool:
        entity = self.mix.entity.lower()
        return bool(entity) and entity in answer.text.lower()

    def _pushed(self, answers: Sequence[Answer], ranking: Ranking) -> Ranking:
        turned = tuple(reversed(ranking))
        named = {index for index, answer in enumerate(answers) if self._mentions(answer)}
        first = tuple(tuple(i for i in group if i in named) for group in turned)
        last = tuple(tuple(i for i in group if i not in named) for group in turned)
        return tuple(group for group in (*first, *last) if group)
