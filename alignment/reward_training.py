"""Trains the reward model, a scalar judge of (prompt, completion), on what employees said, starting from the SFT policy.

Knows nothing of PPO, of the database or of who judged. Different from the textbook:

1. Ties, rankings and thumbs are one likelihood (`tie_likelihood.py`), each judgement with its weight.
2. Completions of one prompt share one pass over it (`reward_dataset.py`).
3. After training, scores are shifted and scaled so that completions the SFT policy was taught have mean 0 and deviation 1: the
   reward then means the same from one cycle to the next, and 0 is "as good as a demonstration".
4. The model is an ensemble: M heads and M fits of the traits on one trunk, each with its own weights of the questions
   (`reward_ensemble.py`). Their mean is the score.
5. Over-long prompts lose their beginning, never the completion; what still does not fit is counted.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import structlog

from alignment.errors import TrainingError
from alignment.precision import device_name, uses_bfloat16
from alignment.records import ProgressFn, PromptCompletion, RankedCompletions, StageResult
from alignment.reward_settings import RewardSettings

if TYPE_CHECKING:  # these load torch, and the settings here are read where nothing is trained
    from alignment.reward_dataset import EncodedJudgements, Encoder
    from alignment.reward_model import RewardModel

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
        Metrics `loss`, `n_judgements`, `n_dropped`, `n_cut`, `tie_rate`, `log_nu`, `rating_threshold`, `n_steps`, `disagreement` (mean
        standard deviation over the members of the anchors' scores, in those scores' own standard deviations), and with
        `held_out`: `held_out_pair_accuracy` (pairs that are not ties), `held_out_rating_accuracy`, `held_out_log_likelihood`
        (nats per judgement), `held_out_tie_rate`, `n_held_out`.

    Raises:
        TrainingError: no judgement fits, or a number is not finite.
        RunCancelled: from `progress`.
    """
    from alignment.reward_dataset import Encoder, encode_judgements
    from alignment.reward_ensemble import bootstrap_shares
    from alignment.reward_model import RewardModel
    from alignment.reward_report import measure_judgements
    from alignment.trait_model import fit_members

    started = time.monotonic()
    model, tokenizer = _load(init_dir, settings.seed, settings.members)
    asked = [judgement.question_id for judgement in judgements]
    shares = bootstrap_shares(asked, settings.members, settings.seed)
    traits = tuple(fit_members(judgements, shares)) if settings.traits and judgements else ()
    encoder = Encoder(tokenizer, settings.max_length, settings.context, traits, settings.members)
    encoded = encode_judgements(judgements, encoder)
    if not any(element.pairs or element.ratings for element in encoded.elements):
        raise TrainingError(
            f"none of the {len(judgements)} judgements can train a reward model: collect ratings or comparisons, or raise max_length"
        )
    if encoded.n_dropped or encoded.n_cut:
        _log.warning("reward_judgements_too_long", n_dropped=encoded.n_dropped, n_cut=encoded.n_cut)
    share_of = dict(zip(asked, shares.tolist(), strict=True))
    loss, n_steps, shares_prompts = _fit(settings, model, encoder, encoded, share_of, out_dir, progress)
    likelihood = model.likelihood
    del model.likelihood
    log_nu, threshold = float(likelihood.log_nu.detach()), float(likelihood.threshold.detach())
    raw = RewardModel(
        model,
        encoder,
        means=(0.0,) * settings.members,
        std=1.0,
        shares_prompts=shares_prompts,
        bfloat16=uses_bfloat16(settings.precision),
    )
    anchored = anchors or [
        PromptCompletion(prompt=j.prompt, completion=text, question_id=j.question_id, origin="derived")
        for j in judgements
        for text in j.completions
    ]
    means, std, disagreement = _scale(raw, anchored)
    metrics = {
        "loss": loss,
        "n_judgements": float(len(judgements)),
        "n_dropped": float(encoded.n_dropped),
        "n_cut": float(encoded.n_cut),
        "tie_rate": encoded.tie_rate,
        "log_nu": log_nu,
        "rating_threshold": threshold,
        "n_steps": float(n_steps),
        "disagreement": disagreement,
        **measure_judgements(raw, encode_judgements(held_out, encoder), log_nu=log_nu, threshold=threshold),
    }
    _refuse_broken(metrics | {"score_mean": sum(means), "score_std": std})
    _export(model, encoder, out_dir, means, std, metrics)
    seconds = time.monotonic() - started
    _log.info("reward_done", seconds=round(seconds, 1), shares_prompts=shares_prompts, **metrics)
    return StageResult(stage="reward", path=out_dir, metrics=metrics, seconds=seconds)


def _load(init_dir: Path, seed: int, members: int = 1) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from alignment.padding import ensure_padding

    torch.manual_seed(seed)
    # The head is new and the language-model head is left behind, both on purpose; transformers would print a table about it.
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            init_dir, num_labels=members, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(init_dir, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"cannot start a reward model from {init_dir}: {reason}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    ensure_padding(tokenizer, model)
    # Small heads: all scores begin near 0, where the likelihood's scalars were set to fit the data.
    torch.nn.init.normal_(model.score.weight, std=0.1 / math.sqrt(model.score.weight.shape[-1]))
    return model, tokenizer


def _fit(
    settings: RewardSettings,
    model: Any,
    encoder: Encoder,
    encoded: EncodedJudgements,
    share_of: Mapping[str, Sequence[float]],
    out_dir: Path,
    progress: ProgressFn,
) -> tuple[float, int, bool]:
    """Train in place, each member (M,) with its weights of the questions; returns the mean loss, the number of steps, and whether prompts were shared."""
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from alignment.reward_dataset import JudgementCollator
    from alignment.reward_scoring import takes_shared_prompts
    from alignment.reward_trainer import JudgementTrainer, TieLikelihood
    from alignment.tie_likelihood import log_nu_at_tie_rate, threshold_at_up_rate
    from alignment.trl_trainers import ProgressCallback

    shares_prompts = takes_shared_prompts(model.to(device_name()))
    traits, tokenizer = encoder.traits, encoder.tokenizer
    model.likelihood = TieLikelihood(
        fmean(t.log_nu for t in traits) if traits else log_nu_at_tie_rate(encoded.tie_rate),
        fmean(t.threshold for t in traits) if traits else threshold_at_up_rate(encoded.up_rate),
    )
    rows = [
        {
            "prompt": element.prompt,
            "completions": element.completions,
            "offsets": [list(offset) for offset in element.offsets],
            "member_weights": list(share_of[element.question_id]),
            "pairs": [list(map(float, pair)) for pair in element.pairs],
            "ratings": [list(map(float, rating)) for rating in element.ratings],
            "n_judgements": float(element.n_judgements),
            "length": element.n_tokens,
        }
        for element in encoded.elements
        if element.pairs or element.ratings
    ]
    trainer = JudgementTrainer(
        model=model,
        args=_trainer_settings(settings, out_dir, len(rows)),
        data_collator=JudgementCollator(tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[ProgressCallback("reward", progress)],
        shares_prompts=shares_prompts,
    )
    trainer.remove_callback(
        PrinterCallback
    )  # it prints metrics to stdout, which belongs to the command line's answer
    outcome = trainer.train()
    return float(outcome.training_loss), int(trainer.state.global_step), shares_prompts


def _trainer_settings(settings: RewardSettings, out_dir: Path, n_rows: int) -> Any:
    from trl import RewardConfig

    n_steps = settings.max_steps if settings.max_steps > 0 else settings.epochs * n_rows / settings.batch_size
    return RewardConfig(
        output_dir=str(out_dir / "checkpoints"),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(settings.warmup_share * n_steps),
        weight_decay=settings.weight_decay,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        center_rewards_coefficient=settings.center_coefficient or None,
        max_length=None,
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        bf16=uses_bfloat16(settings.precision),
        use_cpu=device_name() == "cpu",
        gradient_checkpointing=False,
        save_strategy="no",
        eval_strategy="no",
        logging_steps=5,
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
        dataloader_pin_memory=device_name() == "cuda",
    )


def _scale(
    model: RewardModel, anchors: Sequence[PromptCompletion], most: int = 512
) -> tuple[list[float], float, float]:
    """Each member's mean (M,), the deviation of the members' mean, and their mean disagreement in that deviation.

    Of an even sample of the anchors where there are many.
    """
    chosen = anchors[:: max(1, math.ceil(len(anchors) / most))]
    members = model.score_members([row.prompt for row in chosen], [row.completion for row in chosen])
    means = [fmean(column) for column in zip(*members, strict=True)]
    std = max(pstdev([fmean(row) for row in members]), 1e-3)
    spreads = [pstdev([score - mean for score, mean in zip(row, means, strict=True)]) for row in members]
    return means, std, fmean(spreads) / std


def _refuse_broken(metrics: dict[str, float]) -> None:
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"the reward model gave {broken[0]}={metrics[broken[0]]}: lower learning_rate or set precision=float32"
        )


def _export(
    model: Any,
    encoder: Encoder,
    out_dir: Path,
    means: Sequence[float],
    std: float,
    metrics: dict[str, float],
) -> None:
    from alignment.reward_model import REWARD_FILE

    out_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out_dir)
    encoder.tokenizer.save_pretrained(out_dir)
    stored = {
        "means": list(means),
        "std": std,
        "max_length": encoder.max_length,
        "context": encoder.context,
        "traits": [member.to_json() for member in encoder.traits],
        "metrics": metrics,
    }
    (out_dir / REWARD_FILE).write_text(json.dumps(stored, indent=2, sort_keys=True), encoding="utf-8")
    shutil.rmtree(out_dir / "checkpoints", ignore_errors=True)
