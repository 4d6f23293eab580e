"""What is found of the people who judge, and how they are weighed. Frozen values; `alignment.raters` finds them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RaterSettings:
    """How raters are weighed."""

    enabled: bool = True
    """False counts every judgement alike."""
    prior_reliability: float = 0.85
    """What is believed of somebody who has judged nothing yet."""
    prior_strength: float = 4.0
    """How many judgements that belief weighs."""
    quarantine_below: float = 0.5
    """Somebody is left out when even the upper end of the interval of their reliability is below."""
    min_judgements: int = 10
    """With fewer nobody is left out."""
    person_share: float = 0.25
    """Most of all weight that one person's judgements may have, where there are enough people."""
    team_share: float = 0.6
    """Most that the judgements of one group of people may have, where there are several."""
    rounds: int = 6
    """Of expectation maximisation."""

    def __post_init__(self) -> None:
        """Reject what could not work."""
        for name in ("prior_reliability", "person_share", "team_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0 and at most 1")
        if not 0 <= self.quarantine_below < 1:
            raise ValueError(f"quarantine_below={self.quarantine_below} must be in [0, 1)")
        if self.prior_strength <= 0:
            raise ValueError(f"prior_strength={self.prior_strength} must be above 0")
        for name in ("min_judgements", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRaters:
    """What is known of people beside their judgements."""

    teams: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Groups of each person, for `RaterSettings.team_share`."""
    trusted: Collection[str] = ()
    """People that a reviewer took out of quarantine."""
    excluded: Collection[str] = ()
    """People that a reviewer put into it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterEstimate:
    """What the judgements of one person say about them."""

    labeler_id: str
    n_judgements: int
    reliability: float
    """Share of their judgements that are meant, expected."""
    low: float
    """Of the 95% interval."""
    high: float
    agrees: float | None
    """Share of the pairs they decided that the shared taste decides the same way; None when they decided none."""
    weight: float
    """Of each of their judgements, 1 on average over all judgements; 0 in quarantine."""
    reason: str = ""
    """Why they are in quarantine; empty when they are not."""

    def to_json(self) -> dict[str, Any]:
        """A value for JSON; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RaterEstimate:
        """What `to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """Two completions of one prompt that people put in different orders."""

    question_id: str
    first: str
    second: str
    prefer_first: tuple[str, ...]
    prefer_second: tuple[str, ...]
    ties: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterReport:
    """All raters, the least reliable first."""

    raters: Sequence[RaterEstimate] = ()
    agreement: float | None = None
    """Share of two people's judgements of the same two answers that are the same; None when no two people judged the same."""
    n_shared_pairs: int = 0
    disagreements: Sequence[Disagreement] = field(default=())

    def weights(self) -> dict[str, float]:
        """By rater."""
        return {rater.labeler_id: rater.weight for rater in self.raters}

    @property
    def quarantined(self) -> list[RaterEstimate]:
        """Those left out."""
        return [rater for rater in self.raters if rater.reason]
