"""No single person, and no group of people, decides what everybody reads: caps on the share of all weight.

Knows weights and counts and nothing of how reliable anybody is. Different from a limit on votes a day, which punishes who helps most: everything
that somebody says counts, less and less of it the more they have said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from alignment.rater_records import RaterSettings

_ROUNDS = 200
_TOLERANCE = 1e-9


def cap_influence(
    weights: Mapping[str, float],
    counts: Mapping[str, int],
    settings: RaterSettings,
    teams: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Weights of a judgement by rater with nobody, and no team, above their share of the whole, and a mean of 1 over all judgements.

    Args:
        weights: Of one judgement, by rater.
        counts: Judgements by rater.
        settings: `person_share` and `team_share`; they are raised, to twice an equal share of a person and 1.2 times that of a team, where there are too few people or teams for them.
        teams: Groups of each person; people without any are a team each.
    """
    totals = {name: weights[name] * counts[name] for name in weights}
    active = [name for name in totals if totals[name] > 0]
    if not active:
        return dict(weights)
    members: dict[str, list[str]] = defaultdict(list)
    for name in active:
        for team in teams.get(name, ()):
            members[team].append(name)
    capped = _cap(totals, [[name] for name in active], _at_least(settings.person_share, 2 / len(active)))
    several = [group for group in members.values() if len(group) > 1]
    units = len(several) + len(set(active) - {name for group in several for name in group})
    if units > 1:
        capped = _cap(capped, several, _at_least(settings.team_share, 1.2 / units))
    scale = sum(counts.values()) / sum(capped.values())
    return {name: scale * capped[name] / counts[name] for name in weights}


def _at_least(share: float, feasible: float) -> float:
    return max(share, min(1.0, feasible))


def _cap(totals: Mapping[str, float], groups: Sequence[Sequence[str]], limit: float) -> dict[str, float]:
    """Totals with each group at most at this share of their sum, those above it all at the same height."""
    capped = dict(totals)
    # Each round lowers the whole, so the share is checked again; it converges geometrically.
    for _ in range(_ROUNDS):
        whole = sum(capped.values())
        above = [
            group
            for group in groups
            if sum(capped[name] for name in group) > limit * whole * (1 + _TOLERANCE)
        ]
        if not above:
            break
        for group in above:
            own = sum(capped[name] for name in group)
            factor = limit * whole / own
            for name in group:
                capped[name] *= factor
    return capped
