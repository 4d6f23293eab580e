"""Whose judgements can be trusted, found from the judgements alone."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.preferences import random_ranking
from alignment.rater_agreement import compare_raters
from alignment.rater_influence import cap_influence
from alignment.rater_records import KnownRaters, RaterEstimate, RaterReport, RaterSettings
from alignment.rater_weights import share_out, shares_of_authors, weights_of
from alignment.raters import estimate_raters
from alignment.records import PromptCompletion, RankedCompletions
from tests.alignment.test_trait_model import SENTENCES, prompt

TEXTS = [f"{text} [{number}]" for number, text in enumerate(SENTENCES, start=1)]
WORDS = [
    "portal",
    "hotel",
    "manager",
    "receipt",
    "travel",
    "limit",
    "night",
    "euros",
    "week",
    "holiday",
    "invoice",
    "budget",
    "train",
    "badge",
    "parking",
]


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


def judging(name: str, n: int, rng: random.Random, *, tied: float) -> list[RankedCompletions]:
    """Likes short answers, never surely; calls two of them equal when they are hardly worse than one another."""
    rows = []
    for _ in range(n):
        number, lengths = rng.randrange(10_000), [rng.randint(5, 60) for _ in range(2)]
        texts = tuple(
            f"{' '.join(rng.choice(WORDS) for _ in range(length))}. [{rng.randint(1, 4)}]"
            for length in lengths
        )
        chance = rng.random()
        better = (lengths[1] - lengths[0]) / 17 + math.log(chance / (1 - chance))
        rows.append(
            RankedCompletions(
                prompt=prompt(number),
                completions=texts,
                ranking=((0, 1),) if abs(better) < tied else ((0,), (1,)) if better > 0 else ((1,), (0,)),
                question_id=str(number),
                labeler_id=name,
            )
        )
    return rows


def test_who_never_says_equal_is_not_taken_for_who_does_not_look() -> None:
    """Six others say it of every other pair, with the same taste."""
    rng = random.Random(0)
    rows = [row for k in range(6) for row in judging(f"often-{k}", 60, rng, tied=1.2)]
    raters = found(estimate_raters([*rows, *judging("never", 60, rng, tied=0.0)]))

    assert raters["never"].reason == ""
    assert raters["never"].reliability > 0.6


def test_whose_thumb_seldom_goes_up_is_believed_as_much() -> None:
    """Their bar is higher, and the answers that pass it are the same ones' best."""
    rng = random.Random(0)
    rows = [row for k in range(5) for row in thumbs(f"usual-{k}", 40, rng, honest=True)]
    strict = [
        replace(row, label=len(row.completions[0]) < 35, labeler_id="strict")
        for row in thumbs("x", 40, rng, honest=True)
    ]
    raters = found(estimate_raters([*rows, *strict]))

    assert raters["strict"].reliability > 0.7


def test_both_bad_is_one_judgement() -> None:
    """A tie and two thumbs down of one click count once, for the estimate and for being left out."""
    rng = random.Random(0)
    rows = [row for k in range(4) for row in careful(f"careful-{k}", 20, rng)]
    clicks = []
    for row in careful("cross", 4, rng):
        first, second = row.completions[:2]
        clicks += [
            replace(row, completions=(first, second), ranking=((0, 1),), weight=1 / 3),
            replace(row, completions=(first,), ranking=(), label=False, weight=1 / 3),
            replace(row, completions=(second,), ranking=(), label=False, weight=1 / 3),
        ]

    assert found(estimate_raters([*rows, *clicks]))["cross"].n_judgements == 4


def test_who_prefers_nothing_is_told_so() -> None:
    """Ties alone are no thumbs."""
    rng = random.Random(0)
    rows = [row for k in range(5) for row in careful(f"careful-{k}", 40, rng)]
    ties = [replace(row, ranking=((0, 1, 2),)) for row in careful("ties", 40, rng)]
    reason = found(estimate_raters([*rows, *ties], RaterSettings(quarantine_below=0.99)))["ties"].reason

    assert reason.startswith("40 ties and thumbs say nothing of the answers")


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


@given(
    people=st.lists(
        st.tuples(st.integers(1, 300), st.frozensets(st.sampled_from(["all", "b", "c"]))),
        min_size=2,
        max_size=10,
    )
)
@settings(max_examples=150, deadline=None)
def test_nobody_gains_so_much_by_the_caps_of_teams_that_they_decide(
    people: list[tuple[int, frozenset[str]]],
) -> None:
    """Also where people are in several teams: a person's cap holds after those of the teams, and so does each team's."""
    counts = {str(n): count for n, (count, _) in enumerate(people)}
    teams = {str(n): sorted(names) for n, (_, names) in enumerate(people)}
    weights = cap_influence(dict.fromkeys(counts, 1.0), counts, RaterSettings(), teams)

    totals = {name: weights[name] * counts[name] for name in counts}
    whole = sum(totals.values())
    assert whole == pytest.approx(sum(counts.values()))
    assert max(totals.values()) <= max(0.25, min(1.0, 2 / len(counts))) * whole * 1.001
    for team in {name for names in teams.values() for name in names}:
        members = [name for name in counts if team in teams[name]]
        if 1 < len(members) < len(counts):
            # Twelve tenths of an equal share are never more than of two units.
            limit = max(0.6, len(members) / len(counts))
            assert sum(totals[name] for name in members) <= limit * whole * 1.001


def test_who_is_in_no_team_does_not_decide_for_all() -> None:
    """Twenty people in one team with a hundred judgements each, and one outside with five: five judgements weigh as much as anybody's."""
    counts = {f"t{n:02}": 100 for n in range(20)} | {"admin": 5}
    teams = {name: ["staff"] for name in counts if name != "admin"}

    weights = cap_influence(dict.fromkeys(counts, 1.0), counts, RaterSettings(), teams)

    assert weights["admin"] * 5 / sum(counts.values()) == pytest.approx(1 / 21, rel=0.01)


def test_overlapping_teams_are_capped_together() -> None:
    """Everybody is in one, eight of ten in the other: everybody keeps a tenth, whatever the teams are called."""
    counts = {str(n): 100 for n in range(10)}
    for everybody, most in (("all", "engineering"), ("zeta", "engineering")):
        teams = {name: [everybody, *([most] if int(name) < 8 else [])] for name in counts}
        weights = cap_influence(dict.fromkeys(counts, 1.0), counts, RaterSettings(), teams)
        assert weights == pytest.approx(dict.fromkeys(counts, 1.0))


def test_others_judgements_are_weighed_by_what_is_known() -> None:
    """Somebody unknown is believed like anybody new, somebody in quarantine not at all, and nobody has more than their share of these."""
    report = estimate_raters(company(random.Random(0)))
    rng = random.Random(9)
    others = [
        row
        for name, n in (("careful-0", 10), ("clicking-0", 10), ("new", 400))
        for row in careful(name, n, rng)
    ]
    others += [row for k in range(1, 7) for row in careful(f"careful-{k}", 10, rng)]

    weights = weights_of(report, others)

    assert weights["clicking-0"] == 0
    total = sum(weights[row.labeler_id] for row in others)
    assert 400 * weights["new"] == pytest.approx(0.25 * total, rel=0.01)


def test_demonstrations_count_towards_a_persons_share() -> None:
    """Ninety comparisons of one person's demonstrations beside ten judgements each of four others: a quarter becomes two fifths, five people being few."""
    rng = random.Random(0)
    rows = [row for k in range(4) for row in careful(f"careful-{k}", 10, rng)]
    shown = [replace(row, weight=0.5) for row in careful("writer", 180, rng)]

    shared = share_out([*rows, *shown], RaterSettings(), {})

    total = sum(row.weight for row in shared)
    assert sum(r.weight for r in shared if r.labeler_id == "writer") == pytest.approx(0.4 * total, rel=0.01)
    assert share_out([*rows, *shown], RaterSettings(enabled=False), {}) == [*rows, *shown]


def test_demonstrations_count_towards_a_teams_share() -> None:
    """Two of sales judge little and write much; six of others judge. What sales shows is six tenths, and not three quarters as its comparisons are."""
    rng = random.Random(0)
    rows = [row for k in range(6) for row in careful(f"careful-{k}", 10, rng)]
    shown = [row for k in range(2) for row in careful(f"sales-{k}", 100, rng)]
    teams = {f"sales-{k}": ["sales"] for k in range(2)} | {f"careful-{k}": ["it"] for k in range(6)}
    settings_ = RaterSettings(person_share=1.0, team_share=0.3)

    shared = share_out([*rows, *shown], settings_, teams)

    total = sum(row.weight for row in shared)
    sales = sum(row.weight for row in shared if row.labeler_id.startswith("sales"))
    assert sales == pytest.approx(0.6 * total, rel=0.01)  # of two teams each has 1.2 halves


def test_nobody_writes_most_of_what_is_imitated() -> None:
    """Three hundred demonstrations of one person beside five of each of nine weigh a quarter of all; rows of documents are nobody's and make no room."""

    def written(name: str, n: int) -> list[PromptCompletion]:
        origin = "demonstration" if name else "derived"
        return [
            PromptCompletion(prompt="p", completion="c", question_id="q", origin=origin, labeler_id=name)
        ] * n

    rows = [row for name in "abcdefghi" for row in written(name, 5)] + written("writer", 300)
    rows += written("", 400)
    shares = shares_of_authors(rows, RaterSettings(), {})

    assert 300 * shares["writer"] == pytest.approx(0.25 * 345, rel=0.01)
    assert sum(5 * shares[name] for name in "abcdefghi") == pytest.approx(0.75 * 345, rel=0.01)
    assert set(shares_of_authors(rows, RaterSettings(enabled=False), {}).values()) == {1.0}


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
