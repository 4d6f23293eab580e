"""The optimisers of a cycle behind one interface: what is learned from goes in, a policy that may serve comes out.

Knows nothing of gates or of which policy serves. Different from choosing a trainer: one of them trains nothing and asks the reward while it serves, and it
may follow another.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alignment.best_of_n import best_of_n_kl
from alignment.cycle_settings import TrainingSettings
from alignment.policy_kl import kl_of, with_kl
from alignment.ppo_inputs import asked, in_learned_order, make_ptx_rows
from alignment.records import ProgressFn, StageName, StageProgress, StageResult
from alignment.reward_mix import RewardMix
from alignment.reward_model import copy_for_scoring
from alignment.snapshot import LoadedSnapshot
from chatbot.best_of_n import REWARD_FOLDER
from chatbot.evidence_order import EvidenceOrder
from chatbot.prompt import Message

BEST_OF_N: Literal["best_of_n"] = "best_of_n"
"""The stage, its folder, and its key among a run's metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the stages before have left."""

    data: LoadedSnapshot
    sft_dir: Path
    reward_dir: Path
    order: EvidenceOrder | None
    """Of the evidence, as the policy shall read it."""
    render: Callable[[Sequence[Message]], str]
    """Messages to the prompt in the policy's template."""


def train_policy(
    settings: TrainingSettings, learned: Learned, *, directory: Path, progress: ProgressFn
) -> StageResult:
    """Train by the optimiser that the settings name, unless that is the one that trains nothing.

    Args:
        settings: Of all stages.
        learned: What to start from and to maximise.
        directory: Of the run; gets `ppo` and `ppo_work`.
        progress: See `ProgressFn`.

    Returns:
        The policy, with the learned order of evidence beside it; its metrics hold `objective/kl`, nats an answer from the SFT policy.

    Raises:
        TrainingError: the optimiser cannot go on; what it saved stays.
    """
    from alignment.ppo import train_ppo

    prompts = in_learned_order(asked(learned.data.train.rollouts), learned.order, learned.render)
    mix = RewardMix.of(learned.data, settings.cycle)
    reward = mix.build(learned.reward_dir)
    if settings.cycle.optimiser == "trl_rloo":
        from alignment.trl_rloo import train_trl_rloo

        result = train_trl_rloo(
            settings.ppo,
            policy_dir=learned.sft_dir,
            prompts=prompts,
            reward=reward,
            out_dir=directory / "ppo",
            work_dir=directory / "ppo_work",
            progress=progress,
        )
    else:
        result = train_ppo(
            settings.ppo,
            policy_dir=learned.sft_dir,
            reference_dir=learned.sft_dir,
            value_init_dir=learned.reward_dir,
            prompts=prompts,
            reward=reward,
            out_dir=directory / "ppo",
            work_dir=directory / "ppo_work",
            progress=progress,
            ptx_rows=make_ptx_rows(learned.data.train.pairs, learned.sft_dir, settings.ppo),
            reward_hash=mix.fingerprint(learned.reward_dir),
        )
    if learned.order is not None:
        learned.order.save(result.path)
    return result


def serve_best_of_n(
    settings: TrainingSettings,
    learned: Learned,
    *,
    trained: StageResult | None,
    directory: Path,
    progress: ProgressFn,
) -> StageResult:
    """A policy that writes with the weights of another and gives the best of several completions by the cycle's reward.

    Args:
        settings: Of all stages.
        learned: The reward, and the SFT policy.
        trained: Whose weights; None for the SFT policy's.
        directory: Of the run; gets `best_of_n`.
        progress: See `ProgressFn`.

    Returns:
        The policy; its `objective/kl` is the weights' own and ln n - (n - 1)/n for choosing among n: how far choosing can move it from
        taking any of them.
    """
    progress(StageProgress(stage=BEST_OF_N, done=0, total=1))
    out_dir = directory / BEST_OF_N
    shutil.rmtree(out_dir, ignore_errors=True)  # what a killed run had begun
    source = trained.path if trained else learned.sft_dir
    shutil.copytree(source, out_dir, ignore=shutil.ignore_patterns("done.json", "checkpoints", "adapter"))
    if learned.order is not None:
        learned.order.save(out_dir)
    choice = settings.best_of_n.choice()
    choice.save(out_dir)
    copy_for_scoring(learned.reward_dir, out_dir / REWARD_FOLDER)
    RewardMix.of(learned.data, settings.cycle).save(out_dir / REWARD_FOLDER)
    of_weights = trained.metrics if trained else {}
    metrics = with_kl(of_weights, (kl_of(of_weights) or 0.0) + best_of_n_kl(choice.most))
    metrics["best_of_n"] = float(choice.most)
    progress(StageProgress(stage=BEST_OF_N, done=1, total=1))
    stage: StageName = trained.stage if trained else BEST_OF_N
    return StageResult(stage=stage, path=out_dir, metrics=metrics, seconds=0.0)
