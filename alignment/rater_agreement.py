"""Where people who judged the same two answers agree and where they do not.

Knows `RankedCompletions` and nothing of reliability. Different from Krippendorff's alpha: employees rarely judge the same answers, so the raw share of equal
verdicts is told with the number it rests on, and every difference can be read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import permutations

from alignment.rater_records import Disagreement
from alignment.records import RankedCompletions

_FIRST, _SECOND, _TIE = 1, -1, 0


def compare_raters(judgements: Sequence[RankedCompletions]) -> tuple[float | None, int, list[Disagreement]]:
    """Agreement of people who judged the same two answers, how many such judgements there are, and where they differ."""
    said: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    questions: dict[tuple[str, str, str], str] = {}
    for judgement in judgements:
        place = {index: rank for rank, group in enumerate(judgement.ranking) for index in group}
        for (one, rank), (other, other_rank) in permutations(place.items(), 2):
            first, second = judgement.completions[one], judgement.completions[other]
            if first < second:
                key = (judgement.prompt, first, second)
                said[key][judgement.labeler_id] = _verdict(rank, other_rank)
                questions[key] = judgement.question_id
    n_same = n_both = 0
    differ = []
    for key, verdicts in said.items():
        counts = Counter(verdicts.values())
        n = len(verdicts)
        n_both += n * (n - 1) // 2
        n_same += sum(count * (count - 1) // 2 for count in counts.values())
        if len(counts) > 1:
            differ.append(
                Disagreement(
                    question_id=questions[key],
                    first=key[1],
                    second=key[2],
                    prefer_first=_who(verdicts, _FIRST),
                    prefer_second=_who(verdicts, _SECOND),
                    ties=_who(verdicts, _TIE),
                )
            )
    differ.sort(
        key=lambda d: (-len(d.prefer_first) - len(d.prefer_second) - len(d.ties), d.question_id, d.first)
    )
    return (n_same / n_both if n_both else None), n_both, differ


def _who(verdicts: Mapping[str, int], verdict: int) -> tuple[str, ...]:
    return tuple(sorted(name for name, said in verdicts.items() if said == verdict))


def _verdict(rank_of_first: int, rank_of_second: int) -> int:
    if rank_of_first == rank_of_second:
        return _TIE
    return _FIRST if rank_of_first < rank_of_second else _SECOND
