"""The reward model on tiny random models, through TRL's real trainer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignment import reward_training
from alignment.datasets import is_held_out
from alignment.errors import TrainingError
from alignment.padding import ensure_padding
from alignment.records import PromptCompletion, RankedCompletions, StageResult
from alignment.reward_dataset import Encoder, encode_judgements, lay_out, mean_weight
from alignment.reward_fitting import load_classifier
from alignment.reward_model import RewardModel, copy_for_scoring
from alignment.reward_report import measure_judgements
from alignment.reward_scoring import completion_scores, takes_shared_prompts
from alignment.reward_settings import RewardSettings
from alignment.reward_training import train_reward
from tests.alignment.tiny_reward import SETTINGS, ignore
from tests.chatbot.tiny_models import ARCHITECTURES, make_tiny_model


def _judgements(first: int, n: int) -> list[RankedCompletions]:
    """Cited answers win over bare ones; two bare ones tie; a cited one gets a thumb up."""
    made = []
    for i in range(first, first + n):
        prompt = f"Question {i}: how many days?"
        cited, bare = f"{i} days [1].", f"{i} days maybe"
        common: dict[str, Any] = {"prompt": prompt, "question_id": str(i), "labeler_id": "ana"}
        made += [
            RankedCompletions(completions=(bare, cited), ranking=((1,), (0,)), **common),
            RankedCompletions(completions=(bare, f"{i} maybe", cited), ranking=((2,), (0, 1)), **common),
            RankedCompletions(completions=(cited,), ranking=(), label=True, **common),
            RankedCompletions(completions=(bare,), ranking=(), label=False, **common),
        ]
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A tiny Llama that has seen 12 questions' judgements."""
    folder = tmp_path_factory.mktemp("reward")
    base = make_tiny_model(folder / "base", "llama")
    anchors = [
        PromptCompletion(
            prompt=f"Question {i}: how many days?",
            completion=f"{i} days [1].",
            question_id=str(i),
            origin="derived",
        )
        for i in range(12)
    ]
    result = train_reward(
        SETTINGS,
        init_dir=base,
        judgements=_judgements(0, 12),
        held_out=_judgements(20, 5),
        anchors=anchors,
        out_dir=folder / "out",
        progress=ignore,
    )
    return result.path, result.metrics


def test_it_learns_what_is_preferred_on_unseen_questions(trained: tuple[Path, dict[str, float]]) -> None:
    """Pairs and thumbs of held-out questions come out right."""
    metrics = trained[1]

    assert metrics["held_out_pair_accuracy"] > 0.9
    assert metrics["held_out_rating_accuracy"] > 0.9
    assert metrics["held_out_log_likelihood"] > -1.0


def test_ties_are_counted_apart(trained: tuple[Path, dict[str, float]]) -> None:
    """One pair in four is a tie, by weight 1/3 of one judgement against 1 + 2/3."""
    assert trained[1]["tie_rate"] == pytest.approx((1 / 3) / 2)


def test_scores_are_standardised_on_the_anchors(trained: tuple[Path, dict[str, float]]) -> None:
    """Taught completions have mean 0 and deviation 1, also after loading."""
    model = RewardModel.load(trained[0], precision="float32")
    prompts = [f"Question {i}: how many days?" for i in range(12)]
    scores = torch.tensor(model.score_texts(prompts, [f"{i} days [1]." for i in range(12)]))

    assert abs(float(scores.mean())) < 0.02
    assert float(scores.std(correction=0)) == pytest.approx(1.0, abs=0.02)


def test_scores_do_not_depend_on_company_or_order(trained: tuple[Path, dict[str, float]]) -> None:
    """A completion's score is its own, whatever else is in the batch."""
    model = RewardModel.load(trained[0], precision="float32")
    prompts = ["Question 1: how many days?", "Question 2: why?", "Question 1: how many days?"]
    completions = ["1 days [1].", "so", "maybe many days"]
    together = model.score_texts(prompts, completions)
    alone = [model.score_texts([p], [c])[0] for p, c in zip(prompts, completions, strict=True)]

    assert together == pytest.approx(alone, abs=1e-3)


def test_the_likelihoods_scalars_are_not_in_the_weights(trained: tuple[Path, dict[str, float]]) -> None:
    """The export is a plain sequence classifier."""
    from safetensors import safe_open

    with safe_open(str(trained[0] / "model.safetensors"), framework="pt") as weights:
        assert not [name for name in weights.keys() if "likelihood" in name]  # noqa: SIM118 -- not a mapping


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shared_prompt_gives_the_scores_of_separate_ones(architecture: str, tmp_path: Path) -> None:
    """The mask and the positions make a packed pass equal to one pass per completion, for each architecture."""
    model, tokenizer = load_classifier(make_tiny_model(tmp_path, architecture), seed=0)
    ensure_padding(tokenizer, model)
    model.eval()
    batch = lay_out([([5, 6, 7], [[8, 9], [10]]), ([11] * 9, [[12, 13, 14]])], tokenizer.pad_token_id)
    with torch.no_grad():
        packed = completion_scores(model, batch, shares_prompts=True)
        apart = completion_scores(model, batch, shares_prompts=False)
    real = batch["ends"] >= 0

    assert takes_shared_prompts(model)
    assert torch.allclose(packed[real], apart[real], atol=1e-4)


def test_a_model_that_ignores_the_mask_is_found_out(tmp_path: Path) -> None:
    """Then completions are scored one by one."""
    model, _ = load_classifier(make_tiny_model(tmp_path, "llama"), seed=0)
    body_forward = model.model.forward

    def forget_mask(*args: Any, attention_mask: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        two_dimensional = attention_mask if attention_mask is not None and attention_mask.dim() == 2 else None
        return body_forward(*args, attention_mask=two_dimensional, **kwargs)

    model.model.forward = forget_mask

    assert not takes_shared_prompts(model)


def test_a_long_prompt_is_cut_from_the_left_and_a_long_completion_is_counted(tmp_path: Path) -> None:
    """The completion is never cut."""
    _, tokenizer = load_classifier(make_tiny_model(tmp_path, "llama"), seed=0)
    encoder = Encoder(tokenizer, 40, "full")
    common: dict[str, Any] = {"question_id": "q", "labeler_id": "ana", "ranking": (), "label": True}
    encoded = encode_judgements(
        [
            RankedCompletions(prompt="abc " * 50 + "end", completions=("yes",), **common),
            RankedCompletions(prompt="why", completions=("no " * 100,), **common),
        ],
        encoder,
    )
    element = encoded.elements[0]

    assert (1, 1) == (encoded.n_cut, encoded.n_dropped)
    assert 40 == element.n_tokens
    assert tokenizer.decode(element.prompt).endswith("end")


def test_judgements_of_one_prompt_share_an_element(tmp_path: Path) -> None:
    """Four judgements over three texts: one prompt, three completions."""
    _, tokenizer = load_classifier(make_tiny_model(tmp_path, "llama"), seed=0)
    encoded = encode_judgements(_judgements(0, 1), Encoder(tokenizer, 128, "full"))

    assert [(3, 4)] == [(len(e.completions), e.n_judgements) for e in encoded.elements]


def test_weights_are_relative(tmp_path: Path) -> None:
    """Doubling every weight changes nothing."""
    _, tokenizer = load_classifier(make_tiny_model(tmp_path, "llama"), seed=0)
    encoder = Encoder(tokenizer, 128, "full")
    judgements = _judgements(0, 2)
    doubled = [dataclasses.replace(j, weight=2.0) for j in judgements]

    assert encode_judgements(judgements, encoder) == encode_judgements(doubled, encoder)


def test_a_part_of_judgements_counts_what_it_counts_in_the_whole(tmp_path: Path) -> None:
    """Calibration reads them in parts: what weighs little must not weigh much because all beside it does."""
    _, tokenizer = load_classifier(make_tiny_model(tmp_path, "llama"), seed=0)
    encoder = Encoder(tokenizer, 128, "full")
    light = [dataclasses.replace(j, weight=0.02) for j in _judgements(0, 1)]
    whole = [*light, *_judgements(1, 1)]

    (element,) = encode_judgements(light, encoder, mean_weight(whole)).elements
    assert sum(weight for *_, weight in element.ratings) == pytest.approx(2 * 0.02 / 0.51)


@pytest.mark.parametrize("micro_batch_size", [4, 2, 1])
def test_memory_does_not_decide_what_a_judgement_weighs(micro_batch_size: int, tmp_path: Path) -> None:
    """One prompt with seven judgements and seven with one: the same weights whatever a forward pass holds."""
    rows = [
        dataclasses.replace(_judgements(i, 1)[0], ranking=((0,), (1,)) if i == 7 else ((1,), (0,)))
        for i in (*range(7), *[7] * 7)
    ]
    plain = {"traits": False, "members": 1, "batch_size": 8, "epochs": 3, "center_coefficient": 0.0}

    def weights(size: int) -> dict[str, torch.Tensor]:
        path = _train(tmp_path / str(size), rows, micro_batch_size=size, **plain).path
        return load_file(path / "model.safetensors")

    together, apart = weights(8), weights(micro_batch_size)
    assert max(float((together[name] - apart[name]).abs().max()) for name in together) < 1e-3


def test_what_weighs_little_counts_little_in_accuracy(trained: tuple[Path, dict[str, float]]) -> None:
    """As it does in the likelihood beside it."""
    model = RewardModel.load(trained[0])
    rows = [row for row in _judgements(20, 5) if len(row.ranking) == 2 and len(row.completions) == 2]
    wrong = [dataclasses.replace(row, ranking=((0,), (1,)), weight=0.05) for row in rows]
    encoded = encode_judgements([*rows, *wrong], model.encoder)
    metrics = measure_judgements(model, encoded, model.calibration)

    assert metrics["held_out_pair_accuracy"] == pytest.approx(1 / 1.05)


def test_the_question_context_leaves_the_evidence_out(tmp_path: Path) -> None:
    """The judge reads the question only."""
    _, tokenizer = load_classifier(make_tiny_model(tmp_path, "llama"), seed=0)
    prompt = "Question: Why?\n\nEvidence:\n1. Because. [1]\n\nQuestion: Why?"
    ids = Encoder(tokenizer, 128, "question").prompt(prompt, 100)

    assert tokenizer.decode(ids) == "Question: Why?"


def test_no_judgement_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Nothing to learn."""
    base = make_tiny_model(tmp_path / "base", "llama")

    with pytest.raises(TrainingError, match="collect ratings"):
        train_reward(SETTINGS, init_dir=base, judgements=[], out_dir=tmp_path / "out", progress=ignore)


def test_a_directory_without_a_reward_model_is_named(tmp_path: Path) -> None:
    """One line, and what to run."""
    with pytest.raises(TrainingError, match="tacit train reward"):
        RewardModel.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("context", "all"), ("epochs", 0), ("micro_batch_size", 3), ("max_length", 1)]
)
def test_bad_settings_are_refused_by_name(name: str, value: Any) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=name):
        RewardSettings(**{name: value})


def _train(folder: Path, judgements: list[RankedCompletions], **changes: Any) -> StageResult:
    return train_reward(
        dataclasses.replace(SETTINGS, **changes),
        init_dir=make_tiny_model(folder / "base", "llama"),
        judgements=judgements,
        held_out=_judgements(20, 5),
        out_dir=folder / "out",
        progress=ignore,
    )


def test_with_few_judgements_only_the_traits_learn(tmp_path: Path) -> None:
    """No step is taken, the language model is not asked, and unseen questions come out right all the same."""
    result = _train(tmp_path, _judgements(0, 12), language_model_min_judgements=49)
    model = RewardModel.load(result.path)

    assert result.metrics["n_steps"] == 0
    assert result.metrics["held_out_pair_accuracy"] > 0.9
    assert model.model is None  # whoever asks it fails
    assert model.score_texts(["How many days?"] * 2, ["3 days [1].", "3 days maybe"])[0] > 0


def test_a_copy_for_scoring_scores_alike_without_weights_that_are_not_asked(tmp_path: Path) -> None:
    """A policy that serves the best of n carries its reward with it; 80 MB that nobody reads would be carried for nothing."""
    result = _train(tmp_path, _judgements(0, 12), language_model_min_judgements=49)
    copy_for_scoring(result.path, tmp_path / "copy")
    texts = ["3 days [1].", "3 days maybe"]

    whole, light = (RewardModel.load(folder) for folder in (result.path, tmp_path / "copy"))
    assert not list((tmp_path / "copy").glob("*.safetensors"))
    assert whole.score_texts(["How many days?"] * 2, texts) == light.score_texts(
        ["How many days?"] * 2, texts
    )


def test_a_copy_for_scoring_keeps_weights_that_are_asked(
    trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """Of a reward model that reads."""
    copy_for_scoring(trained[0], tmp_path / "copy")
    texts = ["3 days [1].", "3 days maybe"]

    whole, copied = (RewardModel.load(folder) for folder in (trained[0], tmp_path / "copy"))
    assert whole.score_texts(["How many days?"] * 2, texts) == copied.score_texts(
        ["How many days?"] * 2, texts
    )


def test_the_language_model_learns_from_enough_judgements_on(tmp_path: Path) -> None:
    """As many as the setting says."""
    assert _train(tmp_path, _judgements(0, 12), language_model_min_judgements=48).metrics["n_steps"] > 0


def test_some_questions_are_set_aside_to_say_how_sure_it_is(tmp_path: Path) -> None:
    """What they say is not learned from, and the scale is no longer that of training."""
    metrics = _train(tmp_path, _judgements(0, 12), calibration_share=0.3, epochs=2).metrics

    assert metrics["n_set_aside"] > 0
    assert metrics["n_set_aside"] + metrics["n_judgements"] == 48
    assert metrics["scale"] != 1.0


def test_the_seed_of_the_snapshot_sets_as_many_aside_as_any(tmp_path: Path) -> None:
    """Training questions are those that its hash left: by the same hash none of them would be set aside."""
    kept = [i for i in range(60) if not is_held_out(str(i), share=0.15, seed=SETTINGS.seed)][:24]
    rows = [row for i in kept for row in _judgements(i, 1)]

    assert _train(tmp_path, rows, calibration_share=0.15, epochs=1).metrics["n_set_aside"] > 0


def test_a_sample_of_pairs_has_both_sides() -> None:
    """Every second one would be the first of each pair."""
    rows = [
        PromptCompletion(prompt="p", completion=side, question_id=str(i), origin="derived")
        for i in range(500)
        for side in ("first", "second")
    ]
    chosen = [row.completion for row in reward_training._some(rows, 500)]

    assert len(chosen) == 500
    assert 200 < chosen.count("first") < 300


def test_length_can_be_taken_out_of_what_is_learned(tmp_path: Path) -> None:
    """People who prefer the longer of two answers teach a score of length, or nothing at all."""
    judgements = [
        RankedCompletions(
            prompt=f"Question {i}: how?",
            completions=("word " * (i + 1), "word " * (i + 12)),
            ranking=((1,), (0,)),
            question_id=str(i),
            labeler_id="ana",
        )
        for i in range(40)
    ]
    texts = ["word " * n for n in range(1, 52)]

    def scores(length: str) -> list[float]:
        folder = tmp_path / length
        result = _train(folder, judgements, length=length, language_model_min_judgements=1000)
        model = RewardModel.load(result.path)
        return [score * model.std for score in model.score_texts(["how?"] * len(texts), texts)]

    learned, removed = scores("learned"), scores("removed")

    assert learned[-1] - learned[0] > 1
    assert max(removed) - min(removed) < 0.2 * (learned[-1] - learned[0])


def test_it_says_how_likely_people_are_to_prefer_one(trained: tuple[Path, dict[str, float]]) -> None:
    """Three probabilities; equal scores leave the sides equal, and a larger difference leaves less doubt."""
    model = RewardModel.load(trained[0])
    likely = model.outcome_log_probs(torch.tensor([0.0, 0.5, 2.0]), torch.zeros(3)).exp()

    assert likely.sum(dim=1).tolist() == pytest.approx([1.0] * 3)
    assert float(likely[0, 0]) == pytest.approx(float(likely[0, 1]))
    assert likely[0, 0] < likely[1, 0] < likely[2, 0]
