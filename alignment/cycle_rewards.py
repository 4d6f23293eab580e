"""The reward model of a cycle, its judge, and the order of evidence that it likes: who learns from which part of a snapshot.

Knows nothing of how a reward model is trained. The reward model learns from the judgements and demonstrations of the training questions; the judge, which decides
at the gates, from those of the held-out questions alone, so that it has not seen what PPO maximised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.cycle_settings import TrainingSettings
from alignment.ppo_inputs import asked
from alignment.rater_weights import share_out
from alignment.records import ProgressFn, StageProgress, StageResult
from alignment.snapshot import LoadedSnapshot


def train_cycle_reward(
    settings: TrainingSettings,
    data: LoadedSnapshot,
    *,
    base_dir: Path,
    sft_dir: Path,
    out_dir: Path,
    teams: Mapping[str, Sequence[str]],
    progress: ProgressFn,
) -> StageResult:
    """Train the reward model that PPO maximises; see `train_reward`.

    Args:
        settings: Of the cycle.
        data: Its snapshot.
        base_dir: The base model, whose answers demonstrations are compared with.
        sft_dir: The policy that the reward model starts from.
        out_dir: Gets the reward model.
        teams: Groups of each person, none of which decides alone.
        progress: See `ProgressFn`.
    """
    from alignment.demonstration_rankings import rank_demonstrations
    from alignment.reward_training import train_reward

    demonstrated = rank_demonstrations(
        data.train.pairs,
        policy_dir=base_dir,
        samples=settings.reward.demonstration_samples,
        weight=settings.reward.demonstration_weight,
        sampling=settings.ppo,
    )
    return train_reward(
        settings.reward,
        init_dir=sft_dir,
        judgements=share_out([*data.train.judgements, *demonstrated], settings.raters, teams),
        held_out=data.held_out.judgements,
        anchors=data.train.pairs,
        out_dir=out_dir,
        progress=progress,
    )


def train_cycle_judge(
    settings: TrainingSettings,
    data: LoadedSnapshot,
    *,
    sft_dir: Path,
    out_dir: Path,
    progress: ProgressFn,
) -> StageResult:
    """Train the judge, on held-out judgements only and from another seed; arguments as of `train_cycle_reward`."""
    from alignment.reward_training import train_reward

    return train_reward(
        dataclasses.replace(settings.reward, seed=settings.reward.seed + 1),
        init_dir=sft_dir,
        judgements=data.held_out.judgements,
        anchors=data.held_out.pairs,
        out_dir=out_dir,
        progress=progress,
    )


def learn_cycle_order(
    settings: TrainingSettings,
    data: LoadedSnapshot,
    *,
    reward_dir: Path,
    passage_weight: float,
    progress: ProgressFn,
) -> dict[str, Any]:
    """`{"weights", "worth", "metrics"}` of the order in which evidence is read; no weights where none is better than that of similarity.

    Args:
        settings: Of the cycle.
        data: Its snapshot.
        reward_dir: The reward model.
        passage_weight: What a passage's similarity adds to its sentences'.
        progress: See `ProgressFn`; stage `reward`.
    """
    from alignment.evidence_taste import learn_order
    from alignment.reward_model import RewardModel

    progress(StageProgress(stage="reward", done=0, total=1, note="order of the evidence"))
    learned = learn_order(
        RewardModel.load(reward_dir),
        asked(data.train.rollouts),
        asked(data.held_out.rollouts),
        settings.taste,
        passage_weight=passage_weight,
    )
    return {
        "weights": dict(learned.order.weights) if learned.order else None,
        "worth": learned.worth,
        "metrics": learned.metrics,
    }
