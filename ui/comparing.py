"""Two policies answer the same questions, a judge says which answers are better. What `tacit policies compare` does.

Knows nothing of how either was trained. Retrieval is done once for each question and shared, so that only the policies differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbot.records import Answer, Sampling
from knowledge_base.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from alignment.win_rate import AnswerJudge
    from ui.wiring import Services

JUDGE_FOLDER = "judge"
"""Of a cycle's run directory: the reward model trained on held-out judgements only."""


def compare_policies(
    services: Services,
    *,
    new: str,
    old: str,
    questions: Path | None,
    preferences: str | None,
    collections: Sequence[str] | None,
    samples: int,
    temperature: float,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Win rate of `new` against `old`.

    Returns:
        `{"win_rate", "interval", "n", "judge", "ties", "key_fact_recall", "mean_words", "abstained"}`; the last three hold a figure
        for each policy.

    Raises:
        NotFoundError: no such policy, or no questions or judge left by a cycle.
        UsageError: several samples at temperature 0.
    """
    from alignment.evaluation import judge_answer, policy_metrics
    from alignment.win_rate import win_rate
    from knowledge_base.questions import load_questions

    if samples > 1 and temperature == 0:
        raise UsageError(
            "several samples at temperature 0 are all the same: give --temperature 0.7, or --samples 1"
        )
    judge = _judge(services, new, preferences, seed)
    asked = load_questions(questions) if questions else _held_out_questions(services, new)
    ours, theirs = _answer_all(
        services,
        (new, old),
        [q.question for q in asked],
        collections=collections,
        samples=samples,
        sampling=Sampling(
            temperature=temperature, seed=seed, max_new_tokens=services.settings.assistant.max_new_tokens
        ),
        progress=progress,
    )
    result = win_rate(ours, theirs, judge, seed=seed)
    repeated = [q for q in asked for _ in range(samples)]
    metrics = {
        name: policy_metrics([judge_answer(q, a) for q, a in zip(repeated, answers, strict=True)])
        for name, answers in ((new, ours), (old, theirs))
    }
    return {
        "win_rate": result.win_rate,
        "interval": list(result.interval),
        "n": result.n,
        "judge": result.judge,
        "ties": result.ties,
        "key_fact_recall": {name: m.key_fact_recall for name, m in metrics.items()},
        "groundedness": {name: m.groundedness for name, m in metrics.items()},
        "mean_words": {name: m.mean_words for name, m in metrics.items()},
        "abstained": {name: m.abstained_share for name, m in metrics.items()},
        "kl": services.registry.get(new).metrics.get("objective/kl"),
    }


def _judge(services: Services, new: str, preferences: str | None, seed: int) -> AnswerJudge:
    from alignment.preferences import load_preferences
    from alignment.reward_model import RewardModel
    from alignment.win_rate import PreferenceJudge, RewardJudge

    if preferences:
        return PreferenceJudge(load_preferences(preferences), name=preferences, seed=seed)
    directory = _run_directory(services, new) / JUDGE_FOLDER
    if not directory.is_dir():
        raise NotFoundError(f"the cycle of {new} left no judge behind: give --preferences FILE.py:FUNCTION")
    return RewardJudge(RewardModel.load(directory), services.serving.generator(new).render)


def _run_directory(services: Services, policy_id: str) -> Path:
    run_id = services.registry.get(policy_id).manifest.get("run")
    if not run_id:
        raise NotFoundError(
            f"policy {policy_id} comes from no cycle: give --questions FILE and --preferences FILE.py:FUNCTION"
        )
    return services.runs.get(str(run_id)).directory


def _held_out_questions(services: Services, new: str) -> Sequence[Any]:
    from alignment.evaluation import question_of
    from alignment.snapshot import load_snapshot

    path = services.registry.get(new).manifest.get("snapshot")
    if not path:
        raise NotFoundError(f"policy {new} comes from no cycle: give --questions FILE")
    held_out = load_snapshot(Path(str(path))).held_out.rollouts
    return [question_of(prompt) for prompt in held_out]


def _answer_all(
    services: Services,
    policies: tuple[str, str],
    questions: Sequence[str],
    *,
    collections: Sequence[str] | None,
    samples: int,
    sampling: Sampling,
    progress: Callable[[int, int], None],
) -> tuple[list[Answer], list[Answer]]:
    reader = services.reader(None)
    answers: tuple[list[Answer], list[Answer]] = ([], [])
    for done, question in enumerate(questions, start=1):
        for policy, collected in zip(policies, answers, strict=True):
            prepared = services.assistant.prepare(question, reader, collections=collections, policy_id=policy)
            drawn = replace(sampling, seed=(sampling.seed or 0) * 1_000_003 + done)
            collected.extend(services.assistant.sample(prepared, samples, drawn, policy))
        progress(done, len(questions))
    return answers
