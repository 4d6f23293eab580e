"""The settings of PPO. Defaults suit a policy of about 20M parameters on two cores; larger models want smaller learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PpoSettings:
    """How `train_ppo` samples, rewards and updates. Rejects impossible values when made."""

    # Objective
    advantage: Literal["gae", "rloo"] = "rloo"
    """`rloo` compares each completion with its siblings and loads no value model; `gae` trains a value model beside the policy, which costs as
    much as the policy and says little after a few hundred episodes (docs/lab-log.md, 27 November): for long runs and single samples."""
    kl_coef: float = 0.05
    """beta: reward lost per nat of KL to the reference model, by the tokens drawn; the first value when `kl_target` is set."""
    kl_target: float | None = None
    """KL of a whole completion, in nats, that beta is steered to; None keeps beta fixed."""
    kl_horizon: int = 10_000
    """Rollouts over which beta may move by about a factor of e^0.2, when `kl_target` is set."""
    kl_loss_coef: float = 0.2
    """Factor of the KL to the reference model over the whole vocabulary, a token, in the policy's loss, where advantages have a mean square of 1; 0 for none. What stands in the reward is
    felt through samples alone, and does not hold where answers are long: such a run left its budget half-way, at its full rate (docs/lab-log.md, 28 November, later)."""
    kl_estimator: Literal["k1", "k3"] = "k1"
    """Estimator of the per-token KL in the reward. Metrics and the budget always use the unbiased k1."""
    gamma: float = 1.0
    """Discount per token."""
    lam: float = 1.0
    """lambda of generalised advantages. Below 1 the value model must carry the score back to the token that chose the sentence: at 0.95 and 40
    tokens 13% of it arrives by itself, and a value model of a few hundred episodes carries little. 0.95 for long runs."""
    whiten_advantages: bool = True
    """Mean 0 and standard deviation 1 over all tokens of a step; with `rloo` a mean square of 1, so that what is 0 stays 0."""
    whiten_rewards: bool = False
    """Standard deviation 1 over all tokens of a step, mean kept."""
    relative_scores: bool = True
    """Subtract the mean score of a prompt's other samples: which prompts are easy then need not be learned from a few hundred episodes."""
    normalize_scores: bool = False
    """Subtract the running mean of all scores and divide by their running standard deviation."""
    score_clip: float | None = 10.0
    """Largest absolute score, after normalisation; None for no limit."""
    missing_eos_penalty: float | None = 1.0
    """Subtracted from the score of a completion that did not end by itself; None for no penalty."""

    # Rollouts
    steps: int = 16
    """Rounds of sampling and updating."""
    prompts_per_step: int = 8
    """Different prompts in a round."""
    asked_share: float = 0.5
    """Least share of them that people have asked, where both kinds are there; the others are made of documents. What is asked is what will be served, and a few
    dozen asked questions would hardly be seen among hundreds of others."""
    samples_per_prompt: int = 6
    """Completions of each prompt; the prompt is processed once for all of them."""
    max_new_tokens: int = 96
    """Longest completion, in tokens."""
    max_prompt_tokens: int = 1024
    """Longer prompts are left out and counted: a cut prompt would teach answers without their evidence."""
    temperature: float = 1.5
    """Of sampling, and of the distribution that is trained: logits are divided by it in both."""
    top_p: float = 1.0
    """Below 1 tokens are drawn from the smallest set with that probability; the distribution over that set is what is trained."""
    min_p: float = 0.02
    """Above 0 tokens are drawn among those at least so likely, for the share of the likeliest, before the temperature; the distribution over
    them is what is trained. Then a high temperature makes a copying policy choose otherwise where it has a choice, and not misspell."""
    choices_coef: float = 0.05
    """With `min_p` or `top_p`: factor of minus the log-probability of everything that could be drawn, a token. Without it nothing holds down what is never
    drawn, and a policy that is pushed away from all it could say says something else. Prompts whose samples are all as good take no part in an update, in this neither."""
    sampling_batch_prompts: int = 32
    """Prompts sampled at once; the draws depend on it."""
    share_prompts: bool = True
    """Process each prompt once for its samples in updates too; same result, less work. Recurrent models never share."""

    # Updates
    epochs: int = 2
    """Passes over the rollouts of a step."""
    minibatches: int = 2
    """Optimiser steps a pass; each sees `prompts_per_step / minibatches` prompts with all their samples."""
    micro_batch_prompts: int = 2
    """Prompts in memory at once; changes speed and memory, never the result."""
    learning_rate: float = 2e-4
    """Of the policy."""
    value_learning_rate: float = 5e-5
    """Of the value model's trunk."""
    value_head_learning_rate: float = 1e-3
    """Of the value model's new head."""
    lr_decay: Literal["linear", "none"] = "linear"
    """`linear` falls to zero over `steps`."""
    lr_warmup_steps: int = 3
    """Steps in which the policy's rate rises: Adam's first steps are as long as the rate allows, whatever they have seen."""
    value_warmup_steps: int = 3
    """First steps that train only the value model; ignored by `rloo`."""
    clip_range: float = 0.2
    """How far an update may move the probability ratio from 1 before its gradient stops."""
    value_clip_range: float = 0.2
    """In units of reward."""
    value_coef: float = 0.1
    """Factor of the value loss. The value model has its own optimiser, so this acts only through gradient clipping."""
    max_grad_norm: float = 1.0
    """Of the policy and of the value model, each for itself."""
    adam_eps: float = 1e-5
    """AdamW's epsilon."""
    ptx_coef: float = 0.0
    """Factor of the language-model loss on demonstrations and derived pairs (PPO-ptx), added to every optimiser step; 0 for none."""
    ptx_rows: int = 2
    """Rows of it for each optimiser step."""
    ema_decay: float = 0.0
    """Per optimiser step; above 0 the exported policy is the moving average of the weights."""
    lora_rank: int = 0
    """Rank of adapters on policy and value model; 0 trains full weights."""
    lora_alpha: float = 32.0
    """Scale of the adapters, divided by their rank."""

    # Stops
    kl_budget: float | None = 10.0
    """Mean KL of a completion, in nats; above it training ends and the last policy within it is exported. None for no limit."""
    approxkl_limit: float | None = 0.1
    """Mean KL per token to the sampling policy, in nats, above which the rest of a step's updates is skipped."""
    ratio_limit: float | None = 0.1
    """Largest distance of a minibatch's mean probability ratio from 1; above it the rest of a step's updates is skipped."""
    entropy_floor: float | None = 0.1
    """Share of the first step's entropy below which training ends and the last policy above it is exported. None for no limit."""

    refusal_rise_limit: float | None = 0.3
    """How far the share of completions that say "I don't know" may rise above the first step's, on prompts not known to have no answer;
    above it training ends and the last policy within it is exported. Refusing is the easiest way to offend nobody. None for no limit."""

    # Machine
    seed: int = 0
    """Decides prompts, samples and minibatches."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; weights and optimisers stay in float32. `auto` takes bfloat16 where the processor multiplies it natively."""
    export_precision: Literal["float32", "bfloat16"] = "float32"
    """Of the exported weights."""
    save_every: int = 10
    """Steps between complete saved states."""

    def __post_init__(self) -> None:
        """Raise ValueError naming the field."""
        self._check_counts()
        self._check_ranges()
        if self.advantage == "rloo" and self.samples_per_prompt < 2:
            raise ValueError(
                "samples_per_prompt must be at least 2 when advantage='rloo': siblings make the baseline"
            )
        if self.prompts_per_step % self.minibatches:
            raise ValueError(
                f"prompts_per_step={self.prompts_per_step} must be a multiple of minibatches={self.minibatches}"
            )
        if self.advantage == "gae" and self.value_warmup_steps >= self.steps:
            raise ValueError(
                f"value_warmup_steps={self.value_warmup_steps} must be less than steps={self.steps}"
            )

        self._check_kl_controller()

    def _check_kl_controller(self) -> None:
        if self.kl_target is None:
            return
        if self.kl_coef == 0:
            raise ValueError(
                f"kl_coef=0 stays 0 whatever kl_target={self.kl_target} asks: set kl_coef above 0"
            )
        if self.kl_budget is not None and self.kl_target >= self.kl_budget:
            raise ValueError(
                f"kl_target={self.kl_target} must be below kl_budget={self.kl_budget}, at which training ends"
            )
        n_rollouts = self.prompts_per_step * self.samples_per_prompt
        if self.kl_horizon < n_rollouts:
            raise ValueError(
                f"kl_horizon={self.kl_horizon} must be at least the {n_rollouts} rollouts of a step: below a fifth of them beta turns negative"
            )

    def _check_counts(self) -> None:
        for name in [
            "kl_horizon",
            "steps",
            "prompts_per_step",
            "samples_per_prompt",
            "max_new_tokens",
            "max_prompt_tokens",
            "epochs",
            "minibatches",
            "micro_batch_prompts",
            "sampling_batch_prompts",
            "save_every",
            "ptx_rows",
        ]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("value_warmup_steps", "lr_warmup_steps", "lora_rank"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")

    def _check_ranges(self) -> None:
        for name in [
            "temperature",
            "learning_rate",
            "value_learning_rate",
            "value_head_learning_rate",
            "clip_range",
            "value_clip_range",
            "max_grad_norm",
            "adam_eps",
            "lora_alpha",
        ]:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in (
            "kl_coef",
            "kl_loss_coef",
            "value_coef",
            "ptx_coef",
            "choices_coef",
            "missing_eos_penalty",
        ):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}={value} must not be negative")
        for name in (
            "kl_target",
            "score_clip",
            "kl_budget",
            "approxkl_limit",
            "ratio_limit",
            "refusal_rise_limit",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be above 0, or none")
        for name in ("gamma", "lam", "asked_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be between 0 and 1")
        self._check_shares()

    def _check_shares(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must be above 0 and at most 1")
        for name in ("min_p", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if self.entropy_floor is not None and not 0 <= self.entropy_floor < 1:
            raise ValueError(f"entropy_floor={self.entropy_floor} must be at least 0 and below 1, or none")
