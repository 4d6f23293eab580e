"""Supervised fine-tuning of a policy on demonstrations and derived pairs, with TRL's `SFTTrainer`.

Knows nothing of where rows come from: prompts arrive rendered by the policy's own template, so no second chat template is applied.
Different from the usual recipe:

1. The loss is on the completion and its end token only; prompt and completion are encoded apart, as serving does.
2. The padding token is never the end token (see `padding.py`).
3. A row that does not fit is counted and reported; TRL would cut the completion off or drop the row without a word.
4. bfloat16 products only where the hardware has them; weights stay float32.
5. Pairs derived from documents are left out where the base model can do already what they teach (see `sft_rows.py`).
6. A LoRA adapter is merged on export: what this stage leaves behind is always a whole model that anything can load.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from alignment.errors import TrainingError
from alignment.precision import Precision
from alignment.records import ProgressFn, PromptCompletion, StageResult
from alignment.sft_rows import derived_loss, encode_rows, only_demonstrations, weigh_rows

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class SftSettings:
    """How the policy imitates demonstrations and derived pairs."""

    epochs: float = 1.0
    """Passes over the rows."""
    learning_rate: float = 1e-4
    """Peak of AdamW's learning rate; take a tenth of it for a model of a billion parameters or more."""
    warmup_share: float = 0.05
    """Share of the steps in which the learning rate rises; afterwards it falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    batch_size: int = 16
    """Rows per optimiser step."""
    micro_batch_size: int = 8
    """Rows per forward pass; must divide `batch_size`. Lower it when memory runs out."""
    max_length: int = 1024
    """Longest prompt and completion together, in tokens; longer rows are left out and counted."""
    derived_above: float = 0.3
    """Loss of the base model on derived pairs, nats per token, above which SFT imitates them besides demonstrations; 0 for always. A model
    that finds them likely already answers from evidence, and by targets cut to three sentences learns to say less (lab log, 27 November)."""
    demonstration_repeats: int = 4
    """How often a demonstration is seen per epoch: one by a person is worth several derived from headings. Less often where its author, or
    their team, would have more than their share of all demonstrations (`raters.person_share`, `team_share`)."""
    lora_rank: int = 0
    """Rank of a LoRA adapter on all linear layers; 0 trains all weights."""
    max_steps: int = -1
    """Stop after this many optimiser steps; -1 for the whole of `epochs`."""
    save_steps: int = 100
    """Optimiser steps between checkpoints that a killed run resumes from."""
    precision: Precision = "auto"
    """Of the matrix products: `auto`, `float32` or `bfloat16`."""
    gradient_checkpointing: bool = False
    """Save memory by computing activations twice; about 20% slower."""
    seed: int = 7
    """Decides the order of rows and the adapter's first weights."""

    def __post_init__(self) -> None:
        """Reject values that would fail in the middle of a run."""
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("batch_size", "micro_batch_size", "save_steps", "demonstration_repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.derived_above < 0:
            raise ValueError(f"derived_above={self.derived_above} must be 0 (always) or more")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size={self.micro_batch_size} must divide batch_size={self.batch_size}"
            )
        if self.max_length < 16:
            raise ValueError(f"max_length={self.max_length} must be at least 16 tokens")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank={self.lora_rank} must be 0 (all weights) or a rank")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share={self.warmup_share} must be in [0, 1)")
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"max_steps={self.max_steps} must be -1 or at least 1")


def train_sft(
    settings: SftSettings,
    *,
    base_dir: Path,
    rows: Sequence[PromptCompletion],
    out_dir: Path,
    progress: ProgressFn,
    held_out: Sequence[PromptCompletion] = (),
    authors: Mapping[str, float] | None = None,
    resume: bool = False,
) -> StageResult:
    """Fine-tune the model of `base_dir` and write the result to `out_dir`.

    Args:
        settings: See `SftSettings`.
        base_dir: Directory with weights and tokenizer.
        rows: Training rows, prompts rendered.
        out_dir: Gets weights (safetensors, float32), config and tokenizer; checkpoints live in `out_dir/checkpoints` until the
            stage is done.
        progress: See `ProgressFn`.
        held_out: Rows of other questions, for the held-out loss; none leaves the metric out.
        authors: What a demonstration weighs, by who wrote it, with a mean of 1 over the demonstrations; those who are not in it have 1.
        resume: Go on from the newest checkpoint in `out_dir`, if there is one.

    Returns:
        Metrics `loss`, `held_out_loss` (nats per completion token), `mean_token_accuracy`, `n_rows`, `n_demonstrations`,
        `n_held_out`, `n_too_long`, `n_steps`, and `derived_loss`, the base model's on derived pairs, where it was measured. Where that leaves
        nothing to learn the result is the base model, with `n_steps` 0 and no `loss`.

    Raises:
        TrainingError: no row fits, or the loss is not finite.
        RunCancelled: from `progress`.
    """
    from alignment.trl_trainers import newest_whole_checkpoint

    started = time.monotonic()
    model, tokenizer = _load(base_dir)
    rows, known = _leave_known_out(rows, settings, model, tokenizer)
    weighed = weigh_rows(
        rows, repeats=settings.demonstration_repeats, authors=authors or {}, seed=settings.seed
    )
    train, n_too_long = encode_rows(weighed, tokenizer, settings.max_length)
    if not train and known and not n_too_long:
        return _keep_base(model, tokenizer, out_dir, known, started)
    if not train:
        raise TrainingError(
            f"none of the {len(rows)} rows fits {settings.max_length} tokens: ingest documents, collect demonstrations, "
            "or raise max_length"
        )
    held, _ = encode_rows(held_out, tokenizer, settings.max_length)
    if n_too_long:
        _log.warning("sft_rows_too_long", n_too_long=n_too_long, max_length=settings.max_length)
    trainer = _make_trainer(settings, model, tokenizer, train, held, out_dir, progress)
    checkpoint = newest_whole_checkpoint(out_dir / "checkpoints") if resume else None
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    metrics = _measure(trainer, outcome, held)
    _export(trainer.model, tokenizer, out_dir)
    metrics |= known | {
        "n_rows": float(len(rows)),
        "n_demonstrations": float(len(only_demonstrations(rows))),
        "n_held_out": float(len(held)),
        "n_too_long": float(n_too_long),
        "n_steps": float(trainer.state.global_step),
    }
    seconds = time.monotonic() - started
    _log.info("sft_done", seconds=round(seconds, 1), **metrics)
    return StageResult(stage="sft", path=out_dir, metrics=metrics, seconds=seconds)


def _leave_known_out(
    rows: Sequence[PromptCompletion], settings: SftSettings, model: Any, tokenizer: Any
) -> tuple[Sequence[PromptCompletion], dict[str, float]]:
    """The rows that the model learns something good from, and the metric that decided."""
    if settings.derived_above == 0:
        return rows, {}
    loss = derived_loss(
        model,
        tokenizer,
        rows,
        max_length=settings.max_length,
        batch_size=settings.micro_batch_size,
        precision=settings.precision,
        seed=settings.seed,
    )
    if loss is None:
        return rows, {}
    if loss <= settings.derived_above:
        kept = only_demonstrations(rows)
        _log.info("sft_derived_left_out", loss=loss, limit=settings.derived_above, n_kept=len(kept))
        return kept, {"derived_loss": loss}
    return rows, {"derived_loss": loss}


def _keep_base(
    model: Any, tokenizer: Any, out_dir: Path, known: Mapping[str, float], started: float
) -> StageResult:
    """Nobody has written an answer, and what documents teach the model can do: the policy starts from the base model."""
    _export(model, tokenizer, out_dir)
    counts = dict.fromkeys(("n_rows", "n_demonstrations", "n_held_out", "n_too_long", "n_steps"), 0.0)
    _log.info("sft_base_kept", **known)
    return StageResult(
        stage="sft", path=out_dir, metrics={**known, **counts}, seconds=time.monotonic() - started
    )


def _load(base_dir: Path) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from alignment.model_directory import why
    from alignment.padding import ensure_padding

    try:
        model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise TrainingError(f"cannot load a model from {base_dir}: {why(error, base_dir)}") from error
    ensure_padding(tokenizer, model)
    return model, tokenizer


def _make_trainer(
    settings: SftSettings,
    model: Any,
    tokenizer: Any,
    train: Sequence[dict[str, list[int]]],
    held_out: Sequence[dict[str, list[int]]],
    out_dir: Path,
    progress: ProgressFn,
) -> Any:
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from alignment.trl_trainers import ProgressCallback, QuietSFTTrainer, WholeCheckpoints

    trainer = QuietSFTTrainer(
        model=model,
        args=_trainer_settings(settings, out_dir, len(train)),
        train_dataset=Dataset.from_list(list(train)),
        eval_dataset=Dataset.from_list(list(held_out)) if held_out else None,
        processing_class=tokenizer,
        callbacks=[ProgressCallback("sft", progress), WholeCheckpoints()],
        peft_config=_lora(settings.lora_rank),
    )
    trainer.remove_callback(
        PrinterCallback
    )  # it prints metrics to stdout, which belongs to the command line's answer
    return trainer


def _trainer_settings(settings: SftSettings, out_dir: Path, n_rows: int) -> Any:
    from trl import SFTConfig

    from alignment.trl_trainers import common_arguments

    return SFTConfig(
        **common_arguments(settings, out_dir, n_rows),
        per_device_eval_batch_size=settings.micro_batch_size,
        max_length=settings.max_length,
        completion_only_loss=True,
        activation_checkpointing=settings.gradient_checkpointing,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=10,
    )


def _lora(rank: int) -> Any:
    if rank == 0:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _measure(trainer: Any, outcome: Any, held_out: Sequence[Any]) -> dict[str, float]:
    metrics = {"loss": float(outcome.training_loss)}
    accuracies = [
        entry["mean_token_accuracy"] for entry in trainer.state.log_history if "mean_token_accuracy" in entry
    ]
    if accuracies:
        metrics["mean_token_accuracy"] = float(accuracies[-1])
    if held_out:
        metrics["held_out_loss"] = float(trainer.evaluate()["eval_loss"])
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"SFT gave {broken[0]}={metrics[broken[0]]}: start a new run with a lower sft.learning_rate, or with "
            "sft.precision=float32"
        )
    return metrics


def _export(model: Any, tokenizer: Any, out_dir: Path) -> None:
    """Write the whole model and its tokenizer; the checkpoints are of no use after that."""
    from alignment.trl_trainers import discard_checkpoints

    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    out_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    discard_checkpoints(out_dir / "checkpoints")
