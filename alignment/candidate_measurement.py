"""Measures a candidate against the policy it would replace, on held-out questions, as a reader would see the answers.

Knows nothing of bars: `gates` judges the figures. Different from an offline benchmark: both policies answer the very same prepared turns,
greedily, through the same grounding as in serving, and questions whose evidence is too weak are left out, since no policy is asked them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.errors import TrainingError
from alignment.evaluation import PolicyMetrics, judge_answer, policy_metrics, question_of
from alignment.gates import BaseComparison
from alignment.ppo_inputs import asked
from alignment.records import ProgressFn, RolloutPrompt, StageProgress
from alignment.win_rate import RewardJudge, WinRate, win_rate
from chatbot.records import Answer, PolicyVersion, Sampling
from chatbot.turn_preparation import for_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateMeasurement:
    """What the gates are run on."""

    candidate: PolicyMetrics
    parent: PolicyMetrics
    win: WinRate
    """Candidate against parent."""
    base: BaseComparison | None
    """None where the base model is the parent."""


def measure_candidate(
    world: CycleWorld,
    candidate: PolicyVersion,
    held_out: Sequence[RolloutPrompt],
    *,
    judge_dir: Path,
    settings: TrainingSettings,
    progress: ProgressFn,
) -> CandidateMeasurement:
    """Let the candidate, the serving policy and the base model answer, and judge their answers.

    Args:
        world: The rest of the product.
        candidate: Its `path` holds weights; need not be registered.
        held_out: Prompts that nothing was learned from.
        judge_dir: A reward model's directory.
        settings: How many questions, how many at once, how long answers may be.
        progress: See `ProgressFn`; stage `gates`.

    Raises:
        TrainingError: there is no question to measure on.
    """
    from alignment.reward_model import RewardModel

    questions = asked(held_out)[: settings.cycle.gate_questions]
    if not questions:
        raise TrainingError(
            "no held-out question to measure a candidate on: ingest more documents or collect more judgements"
        )
    parent, base = world.serving(), world.base()
    policies = [candidate, parent] if parent.id == base.id else [candidate, parent, base]
    answers = [
        _answer(
            world,
            policy,
            questions,
            settings,
            progress,
            done=at * len(questions),
            total=len(policies) * len(questions),
        )
        for at, policy in enumerate(policies)
    ]
    judge = RewardJudge(RewardModel.load(judge_dir), world.render)
    wins = [win_rate(answers[0], others, judge, seed=settings.cycle.seed) for others in answers[1:]]
    return CandidateMeasurement(
        candidate=_metrics(questions, answers[0]),
        parent=_metrics(questions, answers[1]),
        win=wins[0],
        base=BaseComparison(metrics=_metrics(questions, answers[2]), win=wins[1]) if len(wins) > 1 else None,
    )


def _metrics(prompts: Sequence[RolloutPrompt], answers: Sequence[Answer]) -> PolicyMetrics:
    return policy_metrics([judge_answer(question_of(p), a) for p, a in zip(prompts, answers, strict=True)])


def _answer(
    world: CycleWorld,
    policy: PolicyVersion,
    prompts: Sequence[RolloutPrompt],
    settings: TrainingSettings,
    progress: ProgressFn,
    *,
    done: int,
    total: int,
) -> list[Answer]:
    generator = world.load(policy)
    sampling = Sampling(temperature=0.0, max_new_tokens=settings.ppo.max_new_tokens)
    answers: list[Answer] = []
    for start in range(0, len(prompts), settings.cycle.gate_batch):
        batch = prompts[start : start + settings.cycle.gate_batch]
        turns = [for_policy(p.prepared, generator, sampling.max_new_tokens) for p in batch]
        completions = generator.generate([turn.messages for turn in turns], sampling)
        answers += [
            world.finish(turn, c, generator, sampling) for turn, c in zip(turns, completions, strict=True)
        ]
        progress(
            StageProgress(
                stage="gates",
                done=done + len(answers),
                total=total,
                note=f"answers of {policy.id}",
            )
        )
    return answers
