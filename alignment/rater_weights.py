"""What a judgement weighs, of what is known of who gave it: reliability, quarantine, and nobody above their share.

Knows estimates and nothing of how they are found (`raters.py`). Different from one weight for each person: a share is counted among the judgements at hand, so each
part of a dataset, and demonstrations beside judgements, is weighed by itself.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignment.rater_influence import cap_influence
from alignment.rater_records import KnownRaters, RaterReport, RaterSettings
from alignment.records import PromptCompletion, RankedCompletions


def weights_of(
    report: RaterReport,
    judgements: Sequence[RankedCompletions],
    settings: RaterSettings | None = None,
    known: KnownRaters | None = None,
) -> dict[str, float]:
    """Weight of each person's judgements; their share is counted among those given, which need not be those they were estimated by.

    Args:
        report: What is known of people; of those who are not in it, nothing is.
        judgements: To be weighed.
        settings: See `RaterSettings`.
        known: See `KnownRaters`.
    """
    settings, known = settings or RaterSettings(), known or KnownRaters()
    counts, found = count_judgements(judgements), {rater.labeler_id: rater for rater in report.raters}
    weights = {}
    for name in counts:
        left_out = name in known.excluded or (name in found and found[name].reason)
        reliability = found[name].reliability if name in found else settings.prior_reliability
        weights[name] = 0.0 if left_out else reliability if settings.enabled else 1.0
    return cap_influence(weights, counts, settings, known.teams) if settings.enabled else weights


def share_out(
    judgements: Sequence[RankedCompletions], settings: RaterSettings, teams: Mapping[str, Sequence[str]]
) -> list[RankedCompletions]:
    """The judgements with nobody, and no team, above their share of all weight, of what they judged and what they demonstrated together.

    Args:
        judgements: Weighed, each side by itself.
        settings: Of raters; where these are not weighed nothing changes.
        teams: Groups of each person.
    """
    rows: dict[str, list[float]] = defaultdict(list)
    for judgement in judgements:
        rows[judgement.labeler_id].append(judgement.weight)
    means = {name: statistics.fmean(weights) for name, weights in rows.items()}
    if not settings.enabled or not any(means.values()):
        return list(judgements)
    counts = {name: float(len(weights)) for name, weights in rows.items()}
    capped = cap_influence(means, counts, settings, teams)
    return [
        replace(j, weight=j.weight * capped[j.labeler_id] / means[j.labeler_id]) if j.weight > 0 else j
        for j in judgements
    ]


def shares_of_authors(
    rows: Sequence[PromptCompletion], settings: RaterSettings, teams: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """What a demonstration weighs in imitation, by author: a mean of 1 over all demonstrations, with nobody and no team above their share of them.

    Shares are of the demonstrations alone: the other rows are made of documents and nobody's, and would make room for whoever writes most.

    Args:
        rows: Those that are no demonstrations are passed over.
        settings: Of raters; where these are not weighed everybody has 1.
        teams: Groups of each person.
    """
    counts: dict[str, float] = defaultdict(float)
    for row in rows:
        if row.origin == "demonstration":
            counts[row.labeler_id] += 1.0
    alike = dict.fromkeys(sorted(counts), 1.0)
    return cap_influence(alike, counts, settings, teams) if settings.enabled else alike


def count_judgements(judgements: Sequence[RankedCompletions]) -> dict[str, float]:
    """Judgements by rater; what one click became counts once."""
    counts: dict[str, float] = defaultdict(float)
    for judgement in judgements:
        counts[judgement.labeler_id] += judgement.weight
    return dict(sorted(counts.items()))
