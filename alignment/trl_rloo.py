"""The policy optimised by TRL's `RLOOTrainer`, behind the interface of `train_ppo`: another implementation to compare ours with, under the same prompts and reward.

Knows nothing of cycles. It reads the section `ppo` where TRL has the same setting, and refuses what would change the loss and TRL cannot do. Different from ours (`ppo.py`): each prompt is processed
once for every sample; samples are drawn with transformers' `generate`; the distribution that is trained is not cut by `min_p`, so `choices_coef` has nothing to hold; the KL stands in the reward alone (`kl_coef`, not
`kl_loss_coef`); whitened advantages lose their mean too; limits but the KL budget are not watched, and that stops the training instead of taking the last policy within it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import RLOOConfig, RLOOTrainer

from alignment.errors import TrainingError
from alignment.model_directory import load_causal_model, load_tokenizer
from alignment.models import (
    add_adapters,
    end_of_text_ids,
    export_policy,
    pick_device,
)
from alignment.padding import encode_prompt, ensure_padding
from alignment.ppo_prompts import TrainingPrompts
from alignment.ppo_settings import PpoSettings
from alignment.records import ProgressFn, RewardFunction, RolloutPrompt, StageResult
from alignment.trl_trainers import (
    ProgressCallback,
    QuietTrainerMixin,
    WholeCheckpoints,
    discard_checkpoints,
    machine_arguments,
    newest_whole_checkpoint,
)

log = structlog.get_logger(__name__)


_CANNOT = {
    "normalize_scores": "TRL keeps no running mean of scores",
    "ptx_coef": "TRL mixes in no language-model loss",
    "ema_decay": "TRL averages no weights",
}
"""Settings that change what is learned, and that would be silently another algorithm if they were passed over."""


class _QuietRLOOTrainer(QuietTrainerMixin, RLOOTrainer):
    """`trl.RLOOTrainer` that stays at home and reads prompts as serving does."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        # TRL would put a begin token in front of a rendered prompt that has one.
        return [encode_prompt(self.processing_class, prompt) for prompt in prompts], None, {}


class _KlBudget(TrainerCallback):
    """Ends the training when a step's KL leaves the budget."""

    def __init__(self, budget: float | None) -> None:
        self._budget = budget

    def on_log(self, *others: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Look at the newest KL."""
        if self._budget is None or logs is None or "kl" not in logs:
            return  # the summary at the end has none
        if (kl := _kl_of(logs)) > self._budget:
            log.warning("kl budget left", kl=kl, budget=self._budget)
            others[2].should_training_stop = True  # arguments, state, control: transformers' order


def train_trl_rloo(
    settings: PpoSettings,
    *,
    policy_dir: Path,
    prompts: Sequence[RolloutPrompt],
    reward: RewardFunction,
    out_dir: Path,
    work_dir: Path,
    progress: ProgressFn,
) -> StageResult:
    """Train a policy with TRL's RLOO and export it; it continues from the newest checkpoint in `work_dir`.

    Args:
        settings: Those that TRL knows are used.
        policy_dir: Where the policy starts, and what KL is measured against.
        prompts: Rendered; those longer than `max_prompt_tokens` are left out.
        reward: Judges completions.
        out_dir: Gets the trained bundle; replaced when it exists.
        work_dir: Gets the checkpoints.
        progress: See `ProgressFn`.

    Returns:
        Metrics `objective/kl` (nats a completion, of the last step's samples, before its update), `objective/scores` and
        `objective/scores_first` (the reward less what KL costs), `steps` in rounds of sampling, `prompts_left_out`.

    Raises:
        TrainingError: a setting asks for what TRL cannot do, no prompt fits, or a number is not finite.
        RunCancelled: from `progress`.
    """
    from datasets import Dataset

    _refuse_what_trl_lacks(settings)
    started = time.monotonic()
    tokenizer = load_tokenizer(policy_dir)
    model = load_causal_model(policy_dir, pick_device(settings.device))
    ensure_padding(tokenizer, model)
    training = TrainingPrompts(settings, prompts, policy=model, tokenizer=tokenizer)
    # Those of the whole training in one pass: TRL shuffles with numbers that a resumed run draws from their beginning, so that a second pass would be the first once more.
    places = [prompt for step in range(settings.steps) for prompt, _ in training.of_step(step)]
    end_ids = end_of_text_ids(model, tokenizer)
    if settings.lora_rank:
        model = add_adapters(model, rank=settings.lora_rank, alpha=settings.lora_alpha)
    trainer = _QuietRLOOTrainer(
        model=model,
        reward_funcs=_as_trl_reward(reward, places, end_ids, settings),
        args=_arguments(settings, work_dir),
        train_dataset=Dataset.from_list(
            [{"prompt": prompt.prompt, "place": at} for at, prompt in enumerate(places)]
        ),
        processing_class=tokenizer,
        callbacks=[ProgressCallback("rloo", progress), WholeCheckpoints(), _KlBudget(settings.kl_budget)],
    )
    trainer.remove_callback(PrinterCallback)  # stdout belongs to the command line's answer
    trainer.train(resume_from_checkpoint=newest_whole_checkpoint(work_dir / "checkpoints"))
    metrics = _measure(trainer.state, settings) | {"prompts_left_out": float(training.n_left_out)}
    dtype = torch.bfloat16 if settings.export_precision == "bfloat16" else torch.float32
    export_policy(trainer.accelerator.unwrap_model(trainer.model), tokenizer, out_dir, dtype=dtype)
    discard_checkpoints(work_dir / "checkpoints")
    seconds = time.monotonic() - started
    log.info("policy trained", stage="rloo", seconds=round(seconds, 1), path=str(out_dir), **metrics)
    return StageResult(stage="rloo", path=out_dir, metrics=metrics, seconds=seconds)


def _refuse_what_trl_lacks(settings: PpoSettings) -> None:
    for name, why in _CANNOT.items():
        if getattr(settings, name):
            raise TrainingError(
                f"{why}: set ppo.{name} back to {getattr(PpoSettings(), name)}, or cycle.optimiser=ppo"
            )


def _arguments(settings: PpoSettings, work_dir: Path) -> RLOOConfig:
    rollouts = settings.prompts_per_step * settings.samples_per_prompt
    micro = settings.micro_batch_prompts * settings.samples_per_prompt
    if rollouts % (settings.minibatches * micro):
        raise TrainingError(
            f"TRL needs prompts_per_step={settings.prompts_per_step} to be a multiple of minibatches={settings.minibatches} "
            f"times micro_batch_prompts={settings.micro_batch_prompts}"
        )
    return RLOOConfig(
        output_dir=str(work_dir / "checkpoints"),
        max_steps=settings.steps * settings.epochs * settings.minibatches,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=rollouts // settings.minibatches // micro,
        generation_batch_size=rollouts,
        num_generations=settings.samples_per_prompt,
        num_iterations=settings.epochs,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        # Ours cuts before the temperature, transformers after it: a likelihood ratio r becomes r^(1/temperature).
        min_p=settings.min_p ** (1 / settings.temperature) if settings.min_p else None,
        # With 0 TRL would not measure the KL, and the gate needs it; so little changes no score.
        beta=settings.kl_coef or 1e-6,
        epsilon=settings.clip_range,
        learning_rate=settings.learning_rate,
        # "constant" would pass over the warm-up.
        lr_scheduler_type="linear" if settings.lr_decay == "linear" else "constant_with_warmup",
        normalize_advantages=settings.whiten_advantages,
        warmup_steps=settings.lr_warmup_steps * settings.epochs * settings.minibatches,
        max_grad_norm=settings.max_grad_norm,
        adam_epsilon=settings.adam_eps,
        disable_dropout=True,
        shuffle_dataset=False,  # `TrainingPrompts` has
        activation_checkpointing=False,  # TRL turns it on
        save_steps=settings.save_every * settings.epochs * settings.minibatches,
        save_total_limit=2,
        logging_steps=1,
        **machine_arguments(settings.precision, settings.seed),
    )


def _as_trl_reward(
    reward: RewardFunction,
    prompts: Sequence[RolloutPrompt],
    end_ids: frozenset[int],
    settings: PpoSettings,
) -> Callable[..., list[float]]:
    """The reward as TRL calls it: clipped, then less the penalty for not ending, as `experience.shape_scores` does."""
    limit = math.inf if settings.score_clip is None else settings.score_clip
    penalty = settings.missing_eos_penalty or 0.0

    def cycle_reward(
        *, completions: list[str], completion_ids: list[list[int]], place: list[int], **_: Any
    ) -> list[float]:
        scores = reward.score([prompts[at] for at in place], completions)
        return [
            max(-limit, min(limit, score)) - (0.0 if ids and ids[-1] in end_ids else penalty)
            for score, ids in zip(scores, completion_ids, strict=True)
        ]

    return cycle_reward


def _kl_of(logs: dict[str, Any]) -> float:
    """Nats a completion; TRL logs the mean a token."""
    return float(logs["kl"]) * float(logs["completions/mean_length"])


def _measure(state: Any, settings: PpoSettings) -> dict[str, float]:
    steps = [entry for entry in state.log_history if "reward" in entry]
    if not steps:
        raise TrainingError("TRL's RLOO ended before its first step: set ppo.steps to 1 or more")
    metrics = {
        "objective/kl": _kl_of(steps[-1]),
        "objective/scores": float(steps[-1]["reward"]),
        "objective/scores_first": float(steps[0]["reward"]),
        "steps": float(state.global_step // (settings.epochs * settings.minibatches)),
    }
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingError(
            f"TRL's RLOO gave {broken[0]}={metrics[broken[0]]}: start a new run with a lower ppo.learning_rate"
        )
    return metrics
