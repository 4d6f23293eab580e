"""An order of the evidence is learned from a reward, and kept only where it helps on prompts it was not fitted to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from alignment.evidence_taste import TasteSettings, learn_order
from alignment.ppo_inputs import in_learned_order
from alignment.records import RolloutPrompt
from chatbot.evidence_order import FEATURES, EvidenceOrder
from chatbot.prompt import read_prompt
from chatbot.records import EvidenceSentence
from tests.alignment.answers import make_evidence, make_passage, make_prepared

WORDS = "leave travel laptop badge invoice parking lunch training holiday ticket payroll office".split()  # noqa: SIM905 -- words read best as words


class RewardBy:
    """Implements `RewardFunction` with a function of the quoted sentence."""

    name = "fake"

    def __init__(self, worth: Callable[[str, str], float]) -> None:
        self._worth = worth

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One number for each."""
        return [self._worth(prompt.question, text) for prompt, text in zip(prompts, completions, strict=True)]


def _prompts(n: int, seed: int) -> list[RolloutPrompt]:
    """Prompts about two words; each sentence names none, one or both of them, in no order."""
    rng = random.Random(seed)
    found = []
    for index in range(n):
        topic, other, *rest = rng.sample(WORDS, 6)
        sentences = [
            f"The {topic} and the {other} are described here.",
            f"The {topic} is described in the handbook of the {rest[0]}.",
            f"The {rest[1]} is described together with the {rest[2]}.",
            f"The {rest[3]} costs 25 euros and is described elsewhere.",
        ]
        rng.shuffle(sentences)
        passage = make_passage(" ".join(sentences), chunk_id=index + 1)
        evidence = [
            replace(item, similarity=0.6 - 0.01 * item.number)
            for item in make_evidence([(passage, text) for text in sentences])
        ]
        question = f"Where is the {topic} {other}?"
        prepared = make_prepared(question, evidence)
        content = prepared.messages[-1].content
        found.append(
            RolloutPrompt(id=f"{seed}-{index}", question=question, prompt=content, prepared=prepared)
        )
    return found


TRAIN, HELD_OUT = _prompts(60, 1), _prompts(40, 2)


def _shared(question: str, text: str) -> float:
    return float(sum(word in text for word in question.rstrip("?").split() if word in WORDS))


def _first(order: EvidenceOrder, prompt: RolloutPrompt) -> EvidenceSentence:
    return order.sort(prompt.question, prompt.prepared.evidence)[0]


def test_a_taste_for_the_questions_words_puts_sentences_that_hold_them_first() -> None:
    """On prompts nothing was fitted to."""
    learned = learn_order(
        RewardBy(_shared), TRAIN, HELD_OUT, TasteSettings(cautions=(0.0,)), passage_weight=0.3
    )

    assert learned.order is not None
    assert all(2 == _shared(p.question, _first(learned.order, p).text) for p in HELD_OUT)
    assert learned.metrics["first_after"] == pytest.approx(2.0)
    assert learned.metrics["first_before"] < 1.5
    assert learned.metrics["explained"] > 0.8
    assert 1.0 == learned.metrics["kept"]
    assert max(learned.worth, key=lambda name: learned.worth[name]) == "takes_up_question"


def test_a_reward_without_a_pattern_leaves_the_order_alone() -> None:
    """What was fitted to chance does not help where it was not fitted."""
    rng = random.Random(3)

    learned = learn_order(
        RewardBy(lambda *_: rng.gauss(0, 1)),
        TRAIN,
        HELD_OUT,
        TasteSettings(cautions=(0.0,)),
        passage_weight=0.3,
    )

    assert learned.order is None
    assert 0.0 == learned.metrics["kept"]


def test_a_liking_for_low_numbers_is_not_taken_for_one_of_sentences() -> None:
    """The order hands the numbers out; to like number 1 says nothing of the sentence that has it."""

    def likes_low(_question: str, text: str) -> float:
        return -float(text.rsplit("[", 1)[1].rstrip("]"))

    assert (
        learn_order(
            RewardBy(likes_low), TRAIN, HELD_OUT, TasteSettings(cautions=(0.0,)), passage_weight=0.3
        ).order
        is None
    )


def test_with_few_held_out_prompts_no_order_is_kept() -> None:
    """Nobody could say whether it helps."""
    learned = learn_order(RewardBy(_shared), TRAIN, HELD_OUT[:19], TasteSettings(), passage_weight=0.3)

    assert learned.order is None
    assert (60.0, 19.0) == (learned.metrics["n_prompts"], learned.metrics["n_held_out"])


def test_great_caution_leaves_the_most_similar_sentence_first() -> None:
    """Taste decides only among equals then."""
    learned = learn_order(
        RewardBy(_shared), TRAIN, HELD_OUT, TasteSettings(cautions=(0.3,)), passage_weight=0.3
    )
    careful = learn_order(
        RewardBy(_shared), TRAIN, HELD_OUT, TasteSettings(cautions=(1000.0,)), passage_weight=0.3
    )

    assert learned.order is not None
    assert careful.order is None
    assert careful.metrics["first_before"] == careful.metrics["first_after"]


def test_prompts_with_one_sentence_say_nothing() -> None:
    """There is no order of one."""
    single = [replace(p, prepared=make_prepared(p.question, p.prepared.evidence[:1])) for p in TRAIN]

    learned = learn_order(RewardBy(_shared), single, HELD_OUT, TasteSettings(), passage_weight=0.3)
    assert 0.0 == learned.metrics["n_prompts"]


def _with_references(prompts: list[RolloutPrompt], right: int) -> list[RolloutPrompt]:
    """Prompts whose known answer is the sentence at a place of the order given."""
    return [replace(p, reference=p.prepared.evidence[right].text) for p in prompts]


def test_taste_may_not_put_a_wrong_sentence_before_the_right_one() -> None:
    """Where the known answers stand first already, a taste that moves them is held back until it moves them no more."""
    settings = TasteSettings(cautions=(0.3, 1000.0))
    known = _with_references(TRAIN, 0)

    bold = learn_order(RewardBy(_shared), TRAIN, HELD_OUT, settings, passage_weight=0.3)
    held_back = learn_order(RewardBy(_shared), known, HELD_OUT, settings, passage_weight=0.3)

    assert 1000.0 == bold.metrics["caution"]  # nothing known: as careful as it goes
    assert 1000.0 == held_back.metrics["caution"]
    assert held_back.metrics["agrees_before"] == held_back.metrics["agrees_after"] == 1.0


def test_taste_that_agrees_with_known_answers_is_given_way() -> None:
    """The least caution is taken when the liked sentence is the right one."""
    known = [
        replace(p, reference=max((item.text for item in p.prepared.evidence), key=lambda text, p=p: _shared(p.question, text)))  # type: ignore[misc]  # mypy cannot type a lambda's default
        for p in TRAIN
    ]  # fmt: skip

    learned = learn_order(
        RewardBy(_shared), known, HELD_OUT, TasteSettings(cautions=(0.3, 1000.0)), passage_weight=0.3
    )

    assert learned.order is not None
    assert 0.3 == learned.metrics["caution"]
    assert learned.metrics["agrees_after"] > learned.metrics["agrees_before"]


def test_without_a_caution_that_keeps_answers_right_no_order_is_kept() -> None:
    """Every one on offer moves right sentences from the first place."""
    known = _with_references(TRAIN, 0)

    learned = learn_order(
        RewardBy(_shared), known, HELD_OUT, TasteSettings(cautions=(0.0, 0.3)), passage_weight=0.3
    )

    assert learned.order is None
    assert 0.0 == learned.metrics["kept"]


def test_caution_holds_to_the_order_in_which_evidence_is_chosen() -> None:
    """A passage's similarity counts there, so it counts here: with great caution nothing moves."""
    moved = [
        replace(
            p,
            prepared=make_prepared(
                p.question,
                [
                    replace(
                        item,
                        similarity=0.3 + 0.05 * item.number,
                        passage=replace(item.passage, similarity=0.9 - 0.2 * item.number),
                    )
                    for item in p.prepared.evidence
                ],
            ),
        )
        for p in TRAIN
    ]

    def first_moved(passage_weight: float) -> float:
        settings = TasteSettings(cautions=(1000.0,))
        metrics = learn_order(
            RewardBy(_shared), moved, moved, settings, passage_weight=passage_weight
        ).metrics
        return abs(metrics["first_after"] - metrics["first_before"])

    assert 0.0 == first_moved(0.5)
    assert first_moved(0.0) > 0


def test_ppo_samples_for_prompts_as_the_policy_will_read_them() -> None:
    """Prompt text and prepared turn are both in the new order."""
    order = EvidenceOrder(weights=dict.fromkeys(FEATURES, 0.0) | {"has_number": 1.0})
    prompt = in_learned_order(TRAIN[:1], order, lambda messages: messages[-1].content)[0]
    read = read_prompt(prompt.prompt)

    assert read is not None
    assert "25 euros" in read.evidence[1]
    assert read.evidence[1] == prompt.prepared.evidence[0].text
    assert in_learned_order(TRAIN, None, lambda _: "") == TRAIN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cautions", (-1.0,)),
        ("cautions", ()),
        ("penalty", float("inf")),
        ("min_held_out", 1),
        ("min_references", 0),
    ],
)
def test_settings_that_mean_nothing_are_named(name: str, value: object) -> None:
    """Before anything is trained."""
    with pytest.raises(ValueError, match=name):
        TasteSettings(**{name: value})  # type: ignore[arg-type]  # that is what is tested
