"""The language model's part of a reward model: a policy's trunk with new heads, trained on judgements by TRL's trainer.

Knows nothing of files written, scales or metrics (`reward_training.py`). Different from TRL's `RewardTrainer` in what `reward_trainer.py` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from alignment.errors import TrainingError
from alignment.precision import device_name
from alignment.records import ProgressFn
from alignment.reward_calibration import Calibration, judged_scores, log_likelihood
from alignment.reward_dataset import EncodedJudgements, Encoder, JudgementCollator
from alignment.reward_scoring import takes_shared_prompts
from alignment.reward_settings import RewardSettings
from alignment.reward_trainer import JudgementTrainer, TieLikelihood
from alignment.tie_likelihood import log_nu_at_tie_rate, threshold_at_up_rate
from alignment.trl_trainers import ProgressCallback, common_arguments


def load_classifier(init_dir: Path, seed: int, members: int = 1) -> tuple[Any, Any]:
    """A policy's trunk with new heads, and its tokenizer.

    Args:
        init_dir: The policy's.
        seed: Of the heads.
        members: M heads.

    Raises:
        TrainingError: there is no policy that can be read.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What training says of itself."""

    loss: float
    """Mean negative log-likelihood of a judgement, in nats."""
    n_steps: int
    """Of the optimiser; 0 where only the traits learned."""
    calibration: Calibration
    """What was learned of ties and thumbs."""


def fit_language_model(
    settings: RewardSettings,
    model: Any,
    encoder: Encoder,
    encoded: EncodedJudgements,
    share_of: Mapping[str, Sequence[float]],
    out_dir: Path,
    progress: ProgressFn,
) -> Fitted:
    """Train a classifier in place, beside the traits.

    Args:
        settings: Of the training.
        model: See `load_classifier`.
        encoder: Its tokens and traits.
        encoded: What to learn.
        share_of: Each member's (M,) weight of a question.
        out_dir: Where the trainer may leave checkpoints.
        progress: See `ProgressFn`.
    """
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    shares_prompts = takes_shared_prompts(model.to(device_name()))
    traits, tokenizer = encoder.traits, encoder.tokenizer
    model.likelihood = TieLikelihood(
        fmean(t.log_nu for t in traits) if traits else log_nu_at_tie_rate(encoded.tie_rate),
        fmean(t.threshold for t in traits) if traits else threshold_at_up_rate(encoded.up_rate),
        fmean(t.slope for t in traits) if traits else 1.0,
    )
    rows = [
        {
            "prompt": element.prompt,
            "completions": element.completions,
            "offsets": [list(offset) for offset in element.offsets],
            "member_weights": list(share_of[element.question_id]),
            "pairs": [list(map(float, pair)) for pair in element.pairs],
            "ratings": [list(map(float, rating)) for rating in element.ratings],
            "length": element.n_tokens,
        }
        for element in encoded.elements
        if element.pairs or element.ratings
    ]
    n_judgements = sum(element.n_judgements for element in encoded.elements)
    trainer = JudgementTrainer(
        model=model,
        args=_trainer_settings(settings, out_dir, len(rows)),
        data_collator=JudgementCollator(tokenizer.pad_token_id),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[ProgressCallback("reward", progress)],
        shares_prompts=shares_prompts,
        judgements_per_element=n_judgements / len(rows),
    )
    trainer.remove_callback(
        PrinterCallback
    )  # it prints metrics to stdout, which belongs to the command line's answer
    outcome = trainer.train()
    likelihood = model.likelihood
    del model.likelihood
    learned = Calibration(
        log_nu=float(likelihood.log_nu.detach()),
        threshold=float(likelihood.threshold.detach()),
        slope=float(likelihood.log_slope.detach().exp()),
    )
    return Fitted(
        loss=float(outcome.training_loss), n_steps=int(trainer.state.global_step), calibration=learned
    )


def leave_to_traits(model: Any, encoder: Encoder, encoded: EncodedJudgements) -> Fitted:
    """What the traits have learned, with heads of zero; arguments as of `fit_language_model`."""
    torch.nn.init.zeros_(model.score.weight)
    calibration = Calibration(
        log_nu=fmean(t.log_nu for t in encoder.traits),
        threshold=fmean(t.threshold for t in encoder.traits),
        slope=fmean(t.slope for t in encoder.traits),
    )
    scores = [[fmean(offset) for offset in element.offsets] for element in encoded.elements]
    said = log_likelihood(judged_scores(encoded.elements, scores), calibration)
    n_judgements = sum(element.n_judgements for element in encoded.elements)
    return Fitted(loss=-said / n_judgements, n_steps=0, calibration=calibration)


def _trainer_settings(settings: RewardSettings, out_dir: Path, n_rows: int) -> Any:
    from trl import RewardConfig

    return RewardConfig(
        **common_arguments(settings, out_dir, n_rows),
        center_rewards_coefficient=settings.center_coefficient or None,
        max_length=None,
        remove_unused_columns=False,
        length_column_name="length",
        activation_checkpointing=False,  # TRL turns it on
        save_strategy="no",
        logging_steps=5,
    )
