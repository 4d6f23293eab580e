"""No single person, and no group of people, decides what everybody reads: caps on the share of all weight.

Knows weights and counts and nothing of how reliable anybody is. Different from a limit on votes a day, which punishes who helps most: everything
that somebody says counts, less and less of it the more they have said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from alignment.rater_records import RaterSettings

_ROUNDS = 500
_TOLERANCE = 1e-9


def cap_influence(
    weights: Mapping[str, float],
    counts: Mapping[str, float],
    settings: RaterSettings,
    teams: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Weights of a judgement by rater with nobody, and no team, above their share of the whole, and a mean of 1 over all judgements.

    Args:
        weights: Of one judgement, by rater.
        counts: Judgements by rater.
        settings: `person_share` and `team_share`; they are raised, to twice an equal share of a person and 1.2 times that of a team, where there are too few people or teams for them,
            and a team's is never below its share of the people.
        teams: Groups of each person; people without any are a team each, and a group of everybody is none.
    """
    totals = {name: weights[name] * counts[name] for name in weights}
    active = [name for name in totals if totals[name] > 0]
    if not active:
        return dict(weights)
    capped = _cap(totals, [*_people(active, settings), *_teams(active, settings, teams)])
    scale = sum(counts.values()) / sum(capped.values())
    return {name: scale * capped[name] / counts[name] for name in weights}


def _people(active: Sequence[str], settings: RaterSettings) -> list[tuple[list[str], float]]:
    limit = max(settings.person_share, min(1.0, 2 / len(active)))
    return [([name], limit) for name in active]


def _teams(
    active: Sequence[str], settings: RaterSettings, teams: Mapping[str, Sequence[str]]
) -> list[tuple[list[str], float]]:
    members: dict[str, list[str]] = defaultdict(list)
    for name in active:
        for team in sorted(set(teams.get(name, ()))):
            members[team].append(name)
    several = [group for _, group in sorted(members.items()) if 1 < len(group) < len(active)]
    units = len(several) + len(set(active) - {name for group in several for name in group})
    # A team of nearly all people would otherwise be held down so far that the one who is in none decides.
    return [
        (group, max(settings.team_share, min(1.0, 1.2 / units), len(group) / len(active)))
        for group in several
    ]


def _cap(totals: Mapping[str, float], groups: Sequence[tuple[list[str], float]]) -> dict[str, float]:
    """Totals with each group at most at its share of their sum.

    People and teams together: to hold down a team raises the share of those who are in none, and people can be in several.
    """
    capped = dict(totals)
    for _ in range(_ROUNDS):
        settled = True
        for group, limit in groups:
            whole, own = sum(capped.values()), sum(capped[name] for name in group)
            if limit < 1 and own > limit * whole * (1 + _TOLERANCE):
                settled = False
                factor = limit * (whole - own) / ((1 - limit) * own)
                for name in group:
                    capped[name] *= factor
        if settled:
            break
    return capped
