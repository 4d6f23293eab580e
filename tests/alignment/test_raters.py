"""Whose judgements can be trusted, found from the judgements alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.preferences import random_ranking
from alignment.rater_agreement import compare_raters
from alignment.rater_influence import cap_influence
from alignment.rater_records import KnownRaters, RaterEstimate, RaterReport, RaterSettings
from alignment.raters import estimate_raters
from alignment.records import RankedCompletions
from tests.alignment.test_trait_model import SENTENCES, prompt

TEXTS = [f"{text} [{number}]" for number, text in enumerate(SENTENCES, start=1)]


def careful(name: str, n: int, rng: random.Random, noise: float = 0.1) -> list[RankedCompletions]:
    """Likes short answers; now and then does not look."""
    rows = []
    for _ in range(n):
        number = rng.randrange(10_000)
        texts = tuple(rng.sample(TEXTS, 3))
        order = sorted(range(3), key=lambda index: len(texts[index]))
        ranking = random_ranking(3, rng) if rng.random() < noise else tuple((index,) for index in order)
        rows.append(
            RankedCompletions(
                prompt=prompt(number),
                completions=texts,
                ranking=ranking,
                question_id=str(number),
                labeler_id=name,
            )
        )
    return rows


def clicking(name: str, n: int, rng: random.Random) -> list[RankedCompletions]:
    """Does not look at all."""
    return careful(name, n, rng, noise=1.0)


def contrary(name: str, n: int, rng: random.Random) -> list[RankedCompletions]:
    """Says the opposite."""
    return [replace(row, ranking=tuple(reversed(row.ranking))) for row in careful(name, n, rng)]


def thumbs(name: str, n: int, rng: random.Random, *, honest: bool) -> list[RankedCompletions]:
    """Rates single answers: the short ones up, or all of them up."""
    rows = []
    for _ in range(n):
        number, text = rng.randrange(10_000), rng.choice(TEXTS)
        rows.append(
            RankedCompletions(
                prompt=prompt(number),
                completions=(text,),
                ranking=(),
                label=len(text) < 50 if honest else True,
                question_id=str(number),
                labeler_id=name,
            )
        )
    return rows


def company(rng: random.Random, n: int = 30) -> list[RankedCompletions]:
    """Seven who look, two who click, one who says the opposite."""
    rows = [row for k in range(7) for row in careful(f"careful-{k}", n, rng)]
    rows += [row for k in range(2) for row in clicking(f"clicking-{k}", n, rng)]
    return [*rows, *contrary("contrary", n, rng)]


def found(report: RaterReport) -> dict[str, RaterEstimate]:
    """By name."""
    return {rater.labeler_id: rater for rater in report.raters}


@pytest.mark.parametrize("seed", range(3))
def test_thirty_judgements_tell_who_looks_from_who_clicks(seed: int) -> None:
    """Everybody who looks is found more reliable than anybody who does not."""
    raters = found(estimate_raters(company(random.Random(seed))))

    worst = min(r.reliability for name, r in raters.items() if name.startswith("careful"))
    best = max(r.reliability for name, r in raters.items() if not name.startswith("careful"))
    assert worst > best


def test_who_clicks_is_left_out_and_told_why() -> None:
    """The reason names the figures that a reviewer needs."""
    raters = found(estimate_raters(company(random.Random(0))))

    assert raters["clicking-0"].weight == 0
    assert "30 judgements" in raters["clicking-0"].reason
    assert "no better than chance" in raters["clicking-0"].reason
    assert "the opposite" in raters["contrary"].reason
    assert raters["careful-0"].reason == ""


def test_the_truth_lies_in_most_intervals() -> None:
    """One in ten judgements of those who look is a click."""
    raters = estimate_raters(company(random.Random(1))).raters

    inside = [r.low <= 0.9 <= r.high for r in raters if r.labeler_id.startswith("careful")]
    assert sum(inside) >= 6


def test_thumbs_that_are_always_up_prove_nothing_either_way() -> None:
    """Such a rater is believed less than one whose thumbs tell answers apart, though most thumbs are the same."""
    rng = random.Random(0)
    rows = [row for k in range(4) for row in thumbs(f"honest-{k}", 40, rng, honest=True)]
    raters = found(estimate_raters([*rows, *thumbs("always up", 40, rng, honest=False)]))

    assert raters["always up"].reliability < min(raters[f"honest-{k}"].reliability for k in range(4))


def test_a_newcomer_is_neither_left_out_nor_sure() -> None:
    """Three judgements say little."""
    rng = random.Random(0)
    rows = [row for k in range(5) for row in careful(f"careful-{k}", 30, rng)]
    newcomer = found(estimate_raters([*rows, *contrary("new", 3, rng)]))["new"]

    assert newcomer.reason == ""
    assert newcomer.high - newcomer.low > 0.3


def test_reviewers_have_the_last_word() -> None:
    """Somebody trusted keeps their weight, somebody excluded has none."""
    known = KnownRaters(trusted=["clicking-0"], excluded=["careful-0"])
    raters = found(estimate_raters(company(random.Random(0)), known=known))

    assert raters["clicking-0"].weight > 0
    assert raters["careful-0"].weight == 0
    assert raters["careful-0"].reason == "left out by a reviewer"


def test_switched_off_everybody_weighs_the_same() -> None:
    """The estimates are still there to be read."""
    report = estimate_raters(company(random.Random(0)), RaterSettings(enabled=False))

    assert {rater.weight for rater in report.raters} == {1.0}
    assert report.quarantined == []


def test_the_estimate_does_not_depend_on_the_order_of_judgements() -> None:
    """Nor on how the rows are shuffled between people."""
    rows = company(random.Random(2), n=12)
    shuffled = random.Random(3).sample(rows, len(rows))

    one, other = found(estimate_raters(rows)), found(estimate_raters(shuffled))
    assert all(one[name].reliability == pytest.approx(other[name].reliability, abs=1e-6) for name in one)


def test_no_judgements_no_raters() -> None:
    """An empty report, no error."""
    assert estimate_raters([]).raters == ()


def test_an_estimate_reads_back_from_json() -> None:
    """As it is stored in a snapshot."""
    rater = estimate_raters(company(random.Random(0), n=5)).raters[0]

    assert RaterEstimate.from_json(json.loads(json.dumps(rater.to_json()))) == rater


@given(
    counts=st.lists(st.integers(1, 500), min_size=1, max_size=12),
    share=st.floats(0.05, 1.0),
)
@settings(max_examples=100, deadline=None)
def test_nobody_has_more_than_their_share(counts: list[int], share: float) -> None:
    """Where there are too few people for it, twice an equal share."""
    by_name = {str(n): count for n, count in enumerate(counts)}
    weights = cap_influence(dict.fromkeys(by_name, 1.0), by_name, RaterSettings(person_share=share), {})

    totals = {name: weights[name] * by_name[name] for name in by_name}
    limit = max(share, min(1.0, 2 / len(counts)))
    assert max(totals.values()) <= limit * sum(totals.values()) * 1.001
    assert sum(totals.values()) == pytest.approx(sum(counts))


def test_a_team_does_not_decide_for_all() -> None:
    """Nine of ten judgements come from sales; they weigh six of ten."""
    counts = {"a": 45, "b": 45, "c": 5, "d": 5}
    teams = {"a": ["sales"], "b": ["sales"], "c": ["hr"], "d": ["hr"]}
    settings_ = RaterSettings(person_share=1.0, team_share=0.6)

    weights = cap_influence(dict.fromkeys(counts, 1.0), counts, settings_, teams)

    sales = weights["a"] * 45 + weights["b"] * 45
    assert sales == pytest.approx(60, rel=0.001)


def test_one_team_of_all_people_is_no_team() -> None:
    """There is nobody whom it could outvote."""
    counts = {"a": 10, "b": 20}
    weights = cap_influence(
        {"a": 1.0, "b": 1.0}, counts, RaterSettings(person_share=1.0), {"a": ["all"], "b": ["all"]}
    )

    assert weights == pytest.approx({"a": 1.0, "b": 1.0})


def test_disagreements_name_who_prefers_which() -> None:
    """Two say the short one, one says the long one."""
    rng = random.Random(0)
    row = replace(careful("x", 1, rng, noise=0.0)[0], completions=("a", "b"), ranking=((0,), (1,)))
    rows = [
        replace(row, labeler_id="ann"),
        replace(row, labeler_id="bob", completions=("b", "a"), ranking=((1,), (0,))),
        replace(row, labeler_id="eve", ranking=((1,), (0,))),
    ]

    agreement, n, differ = compare_raters(rows)

    assert (agreement, n) == (pytest.approx(1 / 3), 3)
    assert (differ[0].prefer_first, differ[0].prefer_second) == (("ann", "bob"), ("eve",))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prior_reliability", 0.0),
        ("person_share", 1.5),
        ("team_share", 0.0),
        ("quarantine_below", 1.0),
        ("prior_strength", 0.0),
        ("min_judgements", 0),
        ("rounds", 0),
    ],
)
def test_bad_settings_are_refused_by_name(name: str, value: float) -> None:
    """Before anything is computed."""
    with pytest.raises(ValueError, match=name):
        RaterSettings(**{name: value})  # type: ignore[arg-type]
