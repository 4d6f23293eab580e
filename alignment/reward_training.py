"""Trains the reward model, a scalar judge of (prompt, completion), on what employees said, starting from the SFT policy.

Knows nothing of PPO, of the database or of who judged. Different from the textbook:

1. Ties, rankings and thumbs are one likelihood (`tie_likelihood.py`), each judgement with its weight.
2. Completions of one prompt share one pass over it (`reward_dataset.py`).
3. After training, scores are shifted and scaled so that completions the SFT policy was taught have mean 0 and deviation 1: the
   reward then means the same from one cycle to the next, and 0 is "as good as a demonstration".
4. The model is an ensemble: M heads and M fits of the traits on one trunk, each with its own weights of the questions
   (`reward_ensemble.py`). Their mean is the score.
5. With few judgements only the traits learn; with many the language model does too, and a part of the questions is left to say how sure the scores are
   (`reward_calibration.py`): of what it was trained on, a reward model is surer than people agree.
6. What answers gain by mere length can be taken out of the scores (`length_effect.py`).
7. Over-long prompts lose their beginning, never the completion; what still does not fit is counted.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev

import structlog

from alignment.datasets import is_held_out
from alignment.errors import TrainingError
from alignment.length_effect import fit_length_effect
from alignment.precision import uses_bfloat16
from alignment.records import (
    ProgressFn,
    PromptCompletion,
    RankedCompletions,
    StageProgress,
    StageResult,
)
from alignment.reward_calibration import Calibration, fit_calibration, judged_scores, together
from alignment.reward_dataset import Encoder, encode_judgements, mean_weight
from alignment.reward_ensemble import bootstrap_shares
from alignment.reward_fitting import fit_language_model, leave_to_traits, load_classifier
from alignment.reward_model import REWARD_FILE, RewardModel
from alignment.reward_report import mean_scores, measure_judgements
from alignment.reward_scoring import takes_shared_prompts
from alignment.reward_settings import RewardSettings
from alignment.trait_data import fold_of
from alignment.trait_model import fit_members

CALIBRATION_FOLDS = 20
_log = structlog.get_logger(__name__)


def train_reward(
    settings: RewardSettings,
    *,
    init_dir: Path,
    judgements: Sequence[RankedCompletions],
    out_dir: Path,
    progress: ProgressFn,
    held_out: Sequence[RankedCompletions] = (),
    anchors: Sequence[PromptCompletion] = (),
) -> StageResult:
    """Train a reward model and write it to `out_dir`.

    The stage takes minutes and keeps no checkpoints: a killed one starts again.

    Args:
        settings: See `RewardSettings`.
        init_dir: The SFT policy's directory.
        judgements: What to learn.
        out_dir: Gets weights (safetensors, float32), config, tokenizer and `reward.json`.
        progress: See `ProgressFn`.
        held_out: Judgements of other questions, for the metrics; none leaves those out.
        anchors: Completions whose scores get mean 0 and deviation 1, normally the SFT rows; none takes the judged completions.

    Returns:
        Metrics `loss`, `n_judgements`, `n_set_aside`, `n_dropped`, `n_cut`, `tie_rate`, `log_nu`, `rating_threshold`, `rating_slope`, `scale` (nats a unit of score), `clicks` (share of judgements that have nothing to do with the answers), `n_steps` (0 where only
        the traits learned), `informed` (0 where every answer gets the same score, since nothing tells which are better), `disagreement` (mean standard deviation over the members of the anchors' scores, in those scores' own standard deviations), and with
        `held_out`: `held_out_pair_accuracy` (pairs that are not ties), `held_out_rating_accuracy`, `held_out_log_likelihood`
        (nats per judgement), `held_out_tie_rate`, `n_held_out`.

    Raises:
        TrainingError: no judgement fits, or a number is not finite.
        RunCancelled: from `progress`.
    """
    started = time.monotonic()
    model, tokenizer = load_classifier(init_dir, settings.seed, settings.members)
    reads_text = not settings.traits or len(judgements) >= settings.language_model_min_judgements
    learned, aside = _set_aside(judgements, settings.calibration_share if reads_text else 0.0, settings.seed)
    shares = bootstrap_shares([j.question_id for j in learned], settings.members, settings.seed)
    traits = tuple(fit_members(learned, shares)) if settings.traits and learned else ()
    encoder = Encoder(tokenizer, settings.max_length, settings.context, traits, settings.members)
    encoded = encode_judgements(learned, encoder)
    if not any(element.pairs or element.ratings for element in encoded.elements):
        raise TrainingError(
            f"none of the {len(judgements)} judgements can train a reward model: collect ratings or comparisons, or raise max_length"
        )
    if encoded.n_dropped or encoded.n_cut:
        _log.warning("reward_judgements_too_long", n_dropped=encoded.n_dropped, n_cut=encoded.n_cut)
    share_of = {j.question_id: share for j, share in zip(learned, shares.tolist(), strict=True)}
    if reads_text:
        fitted = fit_language_model(settings, model, encoder, encoded, share_of, out_dir, progress)
    else:
        fitted = leave_to_traits(model, encoder, encoded)
        progress(StageProgress(stage="reward", done=1, total=1))
    raw = RewardModel(
        model,
        encoder,
        means=(0.0,) * settings.members,
        std=1.0,
        shares_prompts=takes_shared_prompts(model),
        bfloat16=uses_bfloat16(settings.precision),
        calibration=fitted.calibration,
        reads_text=reads_text,
    )
    raw.encoder = _without_length(raw, learned, settings)
    raw.calibration = _calibrate(raw, aside) if reads_text else _cross_calibrate(raw, learned, settings)
    means, std, disagreement = _scale(raw, anchors or _answers(learned))
    metrics = {
        "loss": fitted.loss,
        "n_judgements": float(len(learned)),
        "n_set_aside": float(len(aside)),
        "n_dropped": float(encoded.n_dropped),
        "n_cut": float(encoded.n_cut),
        "tie_rate": encoded.tie_rate,
        "log_nu": raw.calibration.log_nu,
        "rating_threshold": raw.calibration.threshold,
        "rating_slope": raw.calibration.slope,
        "scale": raw.calibration.scale,
        "clicks": raw.calibration.clicks,
        "n_steps": float(fitted.n_steps),
        "informed": float(_is_informed(raw)),
        "disagreement": disagreement,
        **measure_judgements(raw, encode_judgements(held_out, raw.encoder), raw.calibration),
    }
    _refuse_broken(metrics | {"score_mean": sum(means), "score_std": std})
    _export(raw, out_dir, means, std, metrics)
    seconds = time.monotonic() - started
    _log.info("reward_done", seconds=round(seconds, 1), reads_text=reads_text, **metrics)
    return StageResult(stage="reward", path=out_dir, metrics=metrics, seconds=seconds)


def _set_aside(
    judgements: Sequence[RankedCompletions], share: float, seed: int
) -> tuple[list[RankedCompletions], list[RankedCompletions]]:
    """What is learned from, and what says how sure the scores are; by question."""
    learned: list[RankedCompletions] = []
    aside: list[RankedCompletions] = []
    for judgement in judgements:
        # Not the id alone: with the seed of the snapshot every training question would fall on the same side again.
        key = f"calibration:{judgement.question_id}"
        chosen = aside if is_held_out(key, share=share, seed=seed) else learned
        chosen.append(judgement)
    return (learned, aside) if learned else (aside, [])


def _without_length(
    model: RewardModel, judgements: Sequence[RankedCompletions], settings: RewardSettings
) -> Encoder:
    """The model's encoder, taking out what it makes of these judgements' lengths where the settings say so."""
    if settings.length == "learned":
        return model.encoder
    answers = _some(_answers(judgements), 2048)
    texts = [answer.completion for answer in answers]
    scores = model.score_members([answer.prompt for answer in answers], texts)
    return dataclasses.replace(model.encoder, length=fit_length_effect(texts, scores))


def _calibrate(model: RewardModel, aside: Sequence[RankedCompletions]) -> Calibration:
    """On what was set aside; nothing leaves the calibration that training ended with."""
    elements = encode_judgements(aside, model.encoder).elements
    return fit_calibration(judged_scores(elements, mean_scores(model, elements)), model.calibration)


def _cross_calibrate(
    model: RewardModel, judgements: Sequence[RankedCompletions], settings: RewardSettings
) -> Calibration:
    """Of traits alone: on each twentieth of the questions, by fits to the others. Traits are learned in a second, so nothing has to be set aside."""
    parts = []
    unit = mean_weight(judgements)
    penalty = model.encoder.traits[0].penalty
    places = [fold_of(judgement.question_id, CALIBRATION_FOLDS) for judgement in judgements]
    for fold in range(CALIBRATION_FOLDS):
        others = [j for j, at in zip(judgements, places, strict=True) if at != fold]
        inside = [j for j, at in zip(judgements, places, strict=True) if at == fold]
        if not others or not inside:
            continue
        shares = bootstrap_shares([j.question_id for j in others], settings.members, settings.seed)
        encoder = dataclasses.replace(
            model.encoder, traits=tuple(fit_members(others, shares, penalty)), length=None
        )
        partial = copy.copy(model)
        partial.encoder = encoder
        partial.encoder = _without_length(partial, others, settings)
        elements = encode_judgements(inside, partial.encoder, unit).elements
        parts.append(judged_scores(elements, mean_scores(partial, elements)))
    return fit_calibration(together(parts), model.calibration) if parts else model.calibration


def _is_informed(model: RewardModel) -> bool:
    return model.reads_text or any(
        weight != 0 for traits in model.encoder.traits for weight in traits.weights
    )


def _answers(judgements: Sequence[RankedCompletions]) -> list[PromptCompletion]:
    return [
        PromptCompletion(prompt=j.prompt, completion=text, question_id=j.question_id, origin="derived")
        for j in judgements
        for text in j.completions
    ]


def _some(rows: Sequence[PromptCompletion], most: int) -> Sequence[PromptCompletion]:
    """A sample where there are many, the same for the same rows. Not every second one: rows that come in pairs would be sampled on one side."""
    if len(rows) <= most:
        return rows
    chosen = random.Random(len(rows)).sample(range(len(rows)), most)  # noqa: S311 -- a choice, not a secret
    return [rows[at] for at in sorted(chosen)]


def _scale(
    model: RewardModel, anchors: Sequence[PromptCompletion], most: int = 512
) -> tuple[list[float], float, float]:
    """Each member's mean (M,), the deviation of the members' mean, and their mean disagreement in that deviation.

    Of a sample of the anchors where there are many.
    """
    chosen = _some(anchors, most)
    members = model.score_members([row.prompt for row in chosen], [row.completion for row in chosen])
    means = [fmean(column) for column in zip(*members, strict=True)]
    std = max(pstdev([fmean(row) for row in members]), 1e-3)
    spreads = [pstdev([score - mean for score, mean in zip(row, means, strict=True)]) for row in members]
    return means, std, fmean(spreads) / std


def _refuse_broken(metrics: dict[str, float]) -> None:
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"the reward model gave {broken[0]}={metrics[broken[0]]}: start a new run with a lower reward.learning_rate, or with "
            "reward.precision=float32"
        )


def _export(
    model: RewardModel, out_dir: Path, means: Sequence[float], std: float, metrics: dict[str, float]
) -> None:
    encoder = model.encoder
    out_dir.mkdir(parents=True, exist_ok=True)
    assert model.model is not None  # it was just trained, or left to the traits
    model.model.save_pretrained(out_dir)
    encoder.tokenizer.save_pretrained(out_dir)
    stored = {
        "means": list(means),
        "std": std,
        "max_length": encoder.max_length,
        "context": encoder.context,
        "traits": [member.to_json() for member in encoder.traits],
        "length": encoder.length.to_json() if encoder.length else None,
        "calibration": dataclasses.asdict(model.calibration),
        "reads_text": model.reads_text,
        "metrics": metrics,
    }
    (out_dir / REWARD_FILE).write_text(json.dumps(stored, indent=2, sort_keys=True), encoding="utf-8")
    shutil.rmtree(out_dir / "checkpoints", ignore_errors=True)
