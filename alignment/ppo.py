"""Proximal policy optimisation of a causal language model: the loop. Read this first.

Each step samples completions of some prompts, scores their texts, and updates policy and value model on them:
`ppo_prompts` chooses, `rollouts` samples, `experience` computes rewards and advantages (its formulas are in `advantages`),
`ppo_limits` says when it is enough, `ppo_update` optimises, `ppo_state` saves. The loop knows nothing of judgements, gates or serving: prompts and a text-level reward function come in, a
bundle that serving can load goes out.

Different from the textbook (Ouyang et al. 2022, arXiv 2203.02155; Schulman et al. 2017, arXiv 1707.06347):

1. Scores are given to text, by any `RewardFunction`, not by a network that shares the policy's tokens.
2. There is no value model unless `advantage="gae"` asks for one: each completion is compared with its siblings, token by token clipped.
   Policy and value model share nothing: two models, two optimisers, two gradient norms. The first `value_warmup_steps` train
   the value model alone. What it has to learn is made small: a score counts relative to its siblings' (`relative_scores`), and with lambda 1
   every token gets the whole of it.
3. The score stands on the completion's last token, its end-of-text token when it has one. Ending is part of the policy.
4. Logits are divided by the sampling temperature in training too, and only the tokens that could be drawn (`min_p`) have a probability: the
   distribution that is sampled is the one that is trained. The KL is that of the whole vocabulary, or a policy sure of itself would be at 0 nats from any
   reference. Old log-probabilities come from training's forward pass, so the first ratio of a step is 1 but for the rounding of other padding.
5. The KL is penalised twice: in the reward, by the tokens drawn, and in the loss, by its derivative over the whole vocabulary (`kl_loss_coef`; GRPO,
   Shao et al. 2024, arXiv 2402.03300, equation 3, which takes k3 there). The second has no variance of draws.
6. Gradients do not depend on micro-batches, and a minibatch is always one optimiser step.
7. A KL budget instead of a best checkpoint: scores of a reward model rise for as long as one lets them. The KL of a step is that
   of the weights before its update; when it leaves the budget, the last weights measured within it are exported. After the
   last step the final weights are measured too, by a round of sampling without update.
8. Every random draw is seeded by (seed, step), and the whole state is saved: a killed run resumes to the same bits on a CPU.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog
import torch

from alignment.advantages import RunningMoments, adapt_kl_coef
from alignment.completion_forward import TokenBatch
from alignment.errors import TrainingError
from alignment.experience import (
    Experience,
    estimate_advantages,
    measure,
    penalised_kl,
    relative_scores,
    score_rollouts,
    shape_scores,
)
from alignment.models import autocast, end_of_text_ids, export_policy, restore_parameters, snapshot_parameters
from alignment.policy_kl import AVERAGE_KL, sampled_kl_of
from alignment.ppo_limits import PpoLimits
from alignment.ppo_models import PpoModels
from alignment.ppo_progress import StepReporter
from alignment.ppo_prompts import TrainingPrompts
from alignment.ppo_settings import PpoSettings
from alignment.ppo_state import METRICS_FILE, STATE_FILE, MetricsFile, fingerprint, load_state, save_state
from alignment.ppo_update import PtxRows, Updater
from alignment.records import ProgressFn, RewardFunction, RolloutPrompt, StageName, StageResult
from alignment.rollouts import SamplingRule, sample_rollouts

log = structlog.get_logger(__name__)


def train_ppo(
    settings: PpoSettings,
    *,
    policy_dir: Path,
    reference_dir: Path,
    value_init_dir: Path | None,
    prompts: Sequence[RolloutPrompt],
    reward: RewardFunction,
    out_dir: Path,
    work_dir: Path,
    progress: ProgressFn,
    resume: bool = True,
    ptx_rows: PtxRows | None = None,
    reward_hash: str = "",
) -> StageResult:
    """Train a policy by PPO, or by RLOO when the settings say so, and export it.

    Args:
        settings: See `PpoSettings`.
        policy_dir: Where the policy starts: weights, config and tokenizer.
        reference_dir: The model that KL is measured against, normally the same SFT result; same tokenizer.
        value_init_dir: A reward model's directory, whose trunk the value model starts from; not read by RLOO.
        prompts: Rendered prompts; those longer than `max_prompt_tokens` are left out. Order is drawn anew for each pass.
        reward: Judges completions.
        out_dir: Gets the trained bundle; replaced when it exists.
        work_dir: Gets `state.pt` and `metrics.jsonl` of the run.
        progress: Told at least once a phase; what it raises ends the run, which may be resumed.
        resume: Continue from `work_dir` where there is a state; False starts again.
        ptx_rows: Rows of token ids for the language-model loss, needed when `ptx_coef` is above 0.
        reward_hash: Of what the reward was made of, besides its name: a saved state is not gone on with under another reward.

    Returns:
        Metrics of the exported policy as last measured (`objective/*`; with `ema_decay` those of the weights that sampled, but for
        `objective/kl_average`, see `policy_kl`), `steps` done, `stopped_early` (1 or 0),
        `prompts_left_out`, and `objective/scores_first` of the first step.

    Raises:
        TrainingError: If there is nothing to train on or with, a number is not finite, memory runs out, or the saved state
            belongs to another run.
    """
    started = time.monotonic()
    if settings.ptx_coef and ptx_rows is None:
        raise TrainingError("ptx_coef is above 0 but no ptx_rows were given: give rows, or set ptx_coef=0.")
    if settings.advantage == "gae" and value_init_dir is None:
        raise TrainingError(
            "advantage='gae' needs a reward model to start the value model from: train one, or set advantage=rloo."
        )
    with _memory_errors_explained():
        scored_by = f"{reward.name} {reward_hash}"
        run = _Run(settings, policy_dir, reference_dir, value_init_dir, prompts, scored_by, ptx_rows)
        run.open(work_dir, resume=resume)
        run.train(reward, work_dir, progress)
        metrics = run.export(out_dir)
    seconds = time.monotonic() - started
    stage = run.stage
    log.info("policy trained", stage=stage, seconds=round(seconds, 1), path=str(out_dir), **metrics)
    return StageResult(stage=stage, path=out_dir, metrics=metrics, seconds=seconds)


@contextmanager
def _memory_errors_explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # A CPU allocation that fails is a plain RuntimeError with this text.
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "can't allocate memory" in str(
            error
        ):
            raise TrainingError(
                "Out of memory: free some and resume, or start a new run with a lower ppo.micro_batch_prompts or "
                "ppo.prompts_per_step, or with ppo.lora_rank set; a run keeps the settings that it began with"
            ) from error
        raise


class _Run:
    """Models, optimisers and counters of one run."""

    def __init__(
        self,
        settings: PpoSettings,
        policy_dir: Path,
        reference_dir: Path,
        value_init_dir: Path | None,
        prompts: Sequence[RolloutPrompt],
        scored_by: str,
        ptx_rows: PtxRows | None,
    ) -> None:
        self.settings = settings
        self.stage: StageName = "rloo" if settings.advantage == "rloo" else "ppo"
        self.models = models = PpoModels(settings, policy_dir, reference_dir, value_init_dir)
        self.rule = SamplingRule(
            samples_per_prompt=settings.samples_per_prompt,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            min_p=settings.min_p,
            end_ids=end_of_text_ids(models.policy, models.tokenizer),
        )
        self.prompts = TrainingPrompts(settings, prompts, policy=models.policy, tokenizer=models.tokenizer)
        self.fingerprint = fingerprint(settings, self.prompts.fitting, scored_by)
        self.updater = Updater(
            settings,
            models.policy,
            models.forward,
            models.value,
            dtype=models.dtype,
            ptx_rows=ptx_rows,
            reference=models.reference_logits,
        )
        self.step = 0
        self.kl_coef = settings.kl_coef
        self.moments = RunningMoments()
        self.limits = PpoLimits(settings)
        self.finished = False
        self.stopped_early = False

    # The loop

    def train(self, reward: RewardFunction, work_dir: Path, progress: ProgressFn) -> None:
        """Go on until the last step is done and measured, or a limit is crossed."""
        metrics_file = MetricsFile(work_dir, first_step=self.step + int(self.finished))
        report = StepReporter(self.stage, self.settings.steps, self.step, progress)
        while not self.finished:
            experience = self._collect(reward, report)
            metrics = {"step": float(self.step), **experience.metrics}
            if self.limits.crossed(experience.metrics, self.step):
                self.finished = self.stopped_early = True
            elif self.step == self.settings.steps:
                self.limits.mark_safe(experience.metrics, self.models.policy, self.updater.average)
                self.finished = True
            else:
                self.limits.mark_safe(experience.metrics, self.models.policy, self.updater.average)
                report(self.step, "updating")
                metrics |= self.updater.update(experience, self.step)
                self._adapt(experience.metrics)
                self.step += 1
                metrics["episode"] = float(self.step * self._n_rollouts)
            metrics_file.append(metrics)
            if self.finished or self.step % self.settings.save_every == 0:
                self._save(work_dir)
            log.info("training step", stage=self.stage, **metrics)
            report(self.step, "measured", metrics)

    @property
    def _n_rollouts(self) -> int:
        return self.settings.prompts_per_step * self.settings.samples_per_prompt

    def _collect(self, reward: RewardFunction, report: StepReporter) -> Experience:
        settings, models = self.settings, self.models
        report(self.step, "sampling")
        generator = torch.Generator(models.device).manual_seed(settings.seed * 1_000_003 + self.step)
        with autocast(models.device, models.dtype):
            rollouts = sample_rollouts(
                models.forward,
                models.tokenizer,
                self.prompts.of_step(self.step),
                self.rule,
                batch_prompts=settings.sampling_batch_prompts,
                generator=generator,
            )
        report(self.step, "scoring")
        scores = score_rollouts(reward, rollouts)
        self.moments = self.moments.updated(scores)
        shaped = shape_scores(scores, rollouts.ended, self.moments, settings)
        tokens = rollouts.tokens
        mask = tokens.completion_mask
        report(self.step, "measuring")
        figures = models.figures(tokens)
        kl, k1 = penalised_kl(figures.whole, figures.reference, mask, settings)
        metrics = measure(rollouts, scores, shaped, k1, figures, self.kl_coef)
        if self.updater.average is not None:
            metrics[AVERAGE_KL] = self._kl_of_average(tokens)
        # Leave-one-out advantages take the siblings' mean away themselves; twice would count scores more than what KL costs.
        relative = models.value is not None and settings.relative_scores and settings.samples_per_prompt > 1
        if models.value is not None and self.step == 0:
            models.value.start_at(0.0 if relative else metrics["objective/rlhf_reward"])
        values = models.values(tokens)
        advantages, returns = estimate_advantages(
            settings,
            shaped=relative_scores(shaped, settings.samples_per_prompt) if relative else shaped,
            kl=kl,
            mask=mask,
            values=values,
            kl_coef=self.kl_coef,
            samples=settings.samples_per_prompt,
        )
        return Experience(
            tokens=tokens,
            logprobs=figures.logprobs,
            advantages=advantages,
            returns=returns,
            values=values,
            metrics=metrics,
        )

    def _kl_of_average(self, tokens: TokenBatch) -> float:
        """Of the weights that are exported, which sample nothing themselves."""
        assert self.updater.average is not None
        raw = snapshot_parameters(self.models.policy)
        restore_parameters(self.models.policy, self.updater.average)
        try:
            found = self.models.figures(tokens)
            by_draw, full = (kl.sum(dim=1).mean() for kl in (found.whole - found.reference, found.full_kl))
            return float(torch.maximum(by_draw, full))
        finally:
            restore_parameters(self.models.policy, raw)

    def _adapt(self, metrics: dict[str, float]) -> None:
        settings, kl = self.settings, sampled_kl_of(metrics)
        assert kl is not None
        # While only the value model learns the policy cannot follow.
        warming_up = self.models.value is not None and self.step < settings.value_warmup_steps
        if settings.kl_target is not None and not warming_up:
            self.kl_coef = adapt_kl_coef(
                self.kl_coef,
                kl,
                target=settings.kl_target,
                horizon=settings.kl_horizon,
                n_rollouts=self._n_rollouts,
            )

    # State and export

    def open(self, work_dir: Path, *, resume: bool) -> None:
        """Take up the saved state, or clear the directory's old one."""
        work_dir.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (STATE_FILE, METRICS_FILE):
                (work_dir / name).unlink(missing_ok=True)
            return
        state = load_state(work_dir, self.fingerprint)
        if state is None:
            return
        restore_parameters(self.models.policy, state["policy"])
        self.updater.policy_optimizer.load_state_dict(state["policy_optimizer"])
        if self.models.value is not None and self.updater.value_optimizer is not None:
            restore_parameters(self.models.value, state["value"])
            self.updater.value_optimizer.load_state_dict(state["value_optimizer"])
        if self.updater.average is not None:
            self.updater.average = {
                name: tensor.to(self.models.device) for name, tensor in state["average"].items()
            }
        self.updater.n_updates = state["n_updates"]
        self.step, self.kl_coef = state["step"], state["kl_coef"]
        self.moments = RunningMoments(**state["moments"])
        self.limits.take_up(state)
        self.finished, self.stopped_early = state["finished"], state["stopped_early"]
        log.info("training resumed", stage=self.stage, step=self.step)

    def _save(self, work_dir: Path) -> None:
        value_optimizer = self.updater.value_optimizer
        state = {
            "fingerprint": self.fingerprint,
            "policy": snapshot_parameters(self.models.policy),
            "policy_optimizer": self.updater.policy_optimizer.state_dict(),
            "value": None if self.models.value is None else snapshot_parameters(self.models.value),
            "value_optimizer": None if value_optimizer is None else value_optimizer.state_dict(),
            "average": self.updater.average,
            "n_updates": self.updater.n_updates,
            "step": self.step,
            "kl_coef": self.kl_coef,
            "moments": dataclasses.asdict(self.moments),
            **self.limits.state(),
            "finished": self.finished,
            "stopped_early": self.stopped_early,
        }
        save_state(work_dir, state)

    def export(self, out_dir: Path) -> dict[str, float]:
        """Write the last safe policy and return its metrics."""
        limits = self.limits
        assert limits.safe is not None
        restore_parameters(self.models.policy, limits.safe)
        dtype = torch.bfloat16 if self.settings.export_precision == "bfloat16" else torch.float32
        metrics = limits.safe_metrics | {
            "objective/scores_first": limits.first["objective/scores"],
            "steps": float(self.step),
            "stopped_early": float(self.stopped_early),
            "prompts_left_out": float(self.prompts.n_left_out),
        }
        record = {"stage": self.stage, "settings": dataclasses.asdict(self.settings), "metrics": metrics}
        export_policy(
            self.models.policy,
            self.models.tokenizer,
            out_dir,
            dtype=dtype,
            extra={"ppo.json": json.dumps(record, indent=1)},
        )
        return metrics
