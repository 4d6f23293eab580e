"""Learning what traits are worth from few judgements."""

from __future__ import annotations

import json
import math
import random
import statistics
from dataclasses import replace

import pytest

from alignment.answer_traits import TRAITS
from alignment.records import RankedCompletions
from alignment.trait_data import read_traits
from alignment.trait_model import TraitModel, fit_traits
from chatbot.prompt import REFUSAL, NumberedEvidence, build_messages

SENTENCES = [
    "Travel is booked in the portal.",
    "Hotels cost at most 140 euros a night outside the capital.",
    "Ask your manager before you book anything that costs more than the limit of your department.",
    "Receipts are kept for ten years.",
]


def prompt(n: int) -> str:
    """Of question n."""
    evidence = [
        NumberedEvidence(number=k, heading="Travel", text=t) for k, t in enumerate(SENTENCES, start=1)
    ]
    return build_messages(f"How do I book trip {n}?", evidence)[-1].content


def judged(n_questions: int, *, noise: float = 0.0, seed: int = 0) -> list[RankedCompletions]:
    """People who like short answers: of two quotations the shorter one wins; every third judgement is a thumb."""
    rng = random.Random(seed)
    rows = []
    for n in range(n_questions):
        texts = [f"{t} [{k}]" for k, t in enumerate(SENTENCES, start=1)]
        first, second = rng.sample(texts, 2)
        shorter_first = (len(first) < len(second)) != (rng.random() < noise)
        common = {"prompt": prompt(n), "question_id": str(n), "labeler_id": "u", "weight": 1.0}
        if n % 3 == 2:
            rows.append(
                RankedCompletions(completions=(first,), ranking=(), label=len(first) < 50, **common)  # type: ignore[arg-type]
            )
        else:
            ranking = ((0,), (1,)) if shorter_first else ((1,), (0,))
            rows.append(
                RankedCompletions(completions=(first, second), ranking=ranking, label=None, **common)  # type: ignore[arg-type]
            )
    return rows


def test_forty_judgements_teach_a_taste_for_short_answers() -> None:
    """On a question nobody judged, and with a tenth of the judgements wrong."""
    model = fit_traits(judged(40, noise=0.1))

    scores = [model.score(prompt(999), f"{text} [{k}]") for k, text in enumerate(SENTENCES, start=1)]

    assert scores[3] > scores[2]
    assert scores[0] > scores[2]
    assert model.by_name()["words"] < 0


def test_judgements_by_chance_give_no_weights_worth_speaking_of() -> None:
    """Cross-validation over questions sees that nothing is learned."""
    largest = [max(map(abs, fit_traits(coin_flips(120, seed)).weights)) for seed in range(3)]

    assert statistics.median(largest) < 0.2


def coin_flips(n: int, seed: int) -> list[RankedCompletions]:
    """Comparisons, of texts of any length, decided by a coin."""
    rng = random.Random(seed)
    words = " ".join(SENTENCES).split()
    return [
        RankedCompletions(
            prompt=prompt(k),
            completions=tuple(" ".join(rng.choices(words, k=rng.randint(4, 60))) for _ in range(2)),
            ranking=rng.choice([((0,), (1,)), ((1,), (0,))]),
            question_id=str(k),
            labeler_id="u",
            label=None,
            weight=1.0,
        )
        for k in range(n)
    ]


def test_one_judgement_is_no_reason_for_a_crash() -> None:
    """There is nothing to cross-validate; all finite is all that is asked."""
    model = fit_traits(judged(1))

    assert all(map(math.isfinite, (*model.weights, model.log_nu, model.threshold)))


def test_it_survives_json() -> None:
    """As written beside the reward model's weights."""
    model = fit_traits(judged(40))

    again = TraitModel.from_json(json.loads(json.dumps(model.to_json(), allow_nan=False)))

    assert again == model


def test_a_model_of_other_traits_is_refused() -> None:
    """Weights without their meaning are worth nothing."""
    stored = fit_traits(judged(6)).to_json() | {"traits": TRAITS[:-1]}

    with pytest.raises(ValueError, match="other traits"):
        TraitModel.from_json(stored)


def test_beyond_what_was_judged_more_of_a_trait_is_worth_no_more() -> None:
    """Nobody judged an answer of a thousand words, so it is worth what the longest that could be imagined is."""
    model = fit_traits(judged(40))

    assert model.score(prompt(999), "word " * 1_000) == pytest.approx(
        model.score(prompt(999), "word " * 2_000), abs=0.5
    )
    assert abs(model.score(prompt(999), "word " * 2_000)) <= 3 * sum(map(abs, model.weights))


def test_thumbs_that_follow_something_else_teach_little() -> None:
    """Comparisons prefer short answers, thumbs fall as they like: their slope falls, and the taste stays what it was."""
    rng = random.Random(4)
    comparisons = [row for row in judged(90) if row.ranking]
    thumbs = [
        RankedCompletions(
            prompt=prompt(n),
            completions=(f"{rng.choice(SENTENCES)} [1]",),
            ranking=(),
            label=rng.random() < 0.5,
            question_id=str(n),
            labeler_id="u",
        )
        for n in range(100)
    ]

    alone, together = fit_traits(comparisons), fit_traits([*comparisons, *thumbs])
    short, long = f"{SENTENCES[3]} [4]", f"{SENTENCES[2]} [3]"

    assert together.slope < 0.7
    assert together.score(prompt(999), short) - together.score(prompt(999), long) > 0.7 * (
        alone.score(prompt(999), short) - alone.score(prompt(999), long)
    )


def test_thumbs_that_follow_the_taste_keep_their_say() -> None:
    """Thumbs for short answers beside comparisons for short answers."""
    assert fit_traits(judged(90)).slope > 0.7


def test_thumbs_by_chance_do_not_end_in_no_weights_where_comparisons_say_something() -> None:
    """A quarter of the comparisons wrong, and twice as many thumbs that mean nothing: weighed by all, no trait was of any use."""
    rng = random.Random(1)
    comparisons = [row for row in judged(45, noise=0.25, seed=1) if row.ranking]
    thumbs = [
        replace(row, completions=(text,), ranking=(), label=rng.random() < 0.5)
        for row in comparisons
        for text in row.completions
    ]
    model = fit_traits([*comparisons, *thumbs])

    assert model.penalty < math.inf
    assert model.by_name()["words"] < 0


def test_what_somebody_was_shown_and_compared_is_told_from_demonstrations_and_thumbs() -> None:
    """By the first alone the penalty is chosen."""
    rows = judged(3)
    told = replace(rows[0], seen=False)

    assert [True, True, False, False] == read_traits([*rows, told]).compared.tolist()


def test_thumbs_alone_are_enough_to_learn_from() -> None:
    """Where nobody compares, they decide."""
    thumbs = [
        RankedCompletions(
            prompt=prompt(n),
            completions=(f"{SENTENCES[n % 4]} [{n % 4 + 1}]",),
            ranking=(),
            label=len(SENTENCES[n % 4]) < 50,
            question_id=str(n),
            labeler_id="u",
        )
        for n in range(40)
    ]

    assert fit_traits(thumbs).penalty < math.inf


def test_a_ranking_of_four_says_as_much_as_three_comparisons() -> None:
    """Its six pairs weigh three together, a comparison's one weighs one."""
    texts = tuple(f"{t} [{k}]" for k, t in enumerate(SENTENCES, start=1))
    common = {"prompt": prompt(1), "question_id": "1", "labeler_id": "u"}
    ranking = RankedCompletions(completions=texts, ranking=((0,), (1,), (2, 3)), **common)  # type: ignore[arg-type]
    comparison = RankedCompletions(completions=texts[:2], ranking=((0,), (1,)), **common)  # type: ignore[arg-type]

    weights = read_traits([ranking, comparison]).pair_weights

    assert weights[:6].tolist() == pytest.approx([0.5] * 6)
    assert weights[6:].tolist() == pytest.approx([1.0])


def test_a_refusal_nobody_judged_is_worth_what_an_average_answer_is() -> None:
    """It has no length and no citation, but what these are worth says nothing about it."""
    model = fit_traits(judged(40))
    scores = [model.score(prompt(n), text) for n in range(40) for text in judged(40)[n].completions]

    assert model.score(prompt(999), REFUSAL) == 0.0
    assert min(scores) < 0 < max(scores)


@pytest.mark.parametrize("liked", [True, False])
def test_what_people_think_of_refusals_is_learned(liked: bool) -> None:
    """Preferred to every answer, or to none."""
    order = ((0,), (1,)) if liked else ((1,), (0,))
    refusals = [
        RankedCompletions(
            prompt=prompt(n),
            completions=(REFUSAL, f"{SENTENCES[n % 4]} [{n % 4 + 1}]"),
            ranking=order,
            question_id=str(n),
            labeler_id="u",
        )
        for n in range(20)
    ]
    model = fit_traits([*judged(40), *refusals])

    assert (model.score(prompt(999), REFUSAL) > 0) is liked
