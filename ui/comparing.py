"""Two policies answer the same questions, a judge says which answers are better. What `tacit policies compare` does.

Knows nothing of how either was trained. Retrieval is done once for each question and shared, so that only the policies differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    best_of: int = 1,
) -> dict[str, Any]:
    """Win rate of `new` against `old`.

    With `best_of` above 1 the new policy writes so many samples at `temperature` and the reward of its cycle, the one PPO maximises, chooses among them; the
    old policy answers as served.

    Returns:
        `{"win_rate", "interval", "n", "judge", "ties", "n_asked", "key_fact_recall", "groundedness", "mean_words", "abstained", "kl"}`. Of the `n` questions a
        policy was asked `n_asked`; the others are refused for want of evidence. The four before the last hold a figure for each policy.

    Raises:
        NotFoundError: no such policy, or no questions or judge left by a cycle.
        UsageError: several samples at temperature 0, or of one that is the best of several.
    """
    from alignment.best_of_n import best_of_n_kl
    from alignment.evaluation import judge_answer
    from alignment.policy_kl import kl_of
    from alignment.policy_metrics import policy_metrics
    from alignment.win_rate import win_rate
    from knowledge_base.questions import load_questions

    if samples > 1 and temperature == 0:
        raise UsageError(
            "several samples at temperature 0 are all the same: give --temperature 0.7, or --samples 1"
        )
    if best_of > 1 and (samples > 1 or temperature == 0):
        raise UsageError(
            "the best of several is one answer, from samples: give --temperature 0.8, and --samples 1"
        )
    judge = _judge(services, new, preferences, seed)
    asked = load_questions(questions) if questions else _held_out_questions(services, new)
    sampling = replace(services.settings.assistant.varied_sampling(), temperature=temperature, seed=seed)
    writers = (
        _Writer(services, new, sampling, max(samples, best_of)),
        _Writer(services, old, replace(sampling, temperature=0.0) if best_of > 1 else sampling, samples),
    )
    ours, theirs = _answer_all(writers, [q.question for q in asked], collections, progress)
    if best_of > 1:
        ours = [[answer] for answer in _best(services, new, ours)]
    flat = [[answer for answers in of_policy for answer in answers] for of_policy in (ours, theirs)]
    result = win_rate(flat[0], flat[1], judge, seed=seed)
    repeated = [q for q in asked for _ in range(samples)]
    names = (new if best_of == 1 else f"{new}, best of {best_of}", old)
    metrics = {
        name: policy_metrics([judge_answer(q, a) for q, a in zip(repeated, answers, strict=True)])
        for name, answers in zip(names, flat, strict=True)
    }
    return {
        "win_rate": result.win_rate,
        "interval": list(result.interval),
        "n": result.n,
        "judge": result.judge,
        "ties": result.ties,
        "n_asked": len({a.question for a in flat[0] if a.prepared.answerable}),
        "key_fact_recall": {name: m.key_fact_recall for name, m in metrics.items()},
        "groundedness": {name: m.groundedness for name, m in metrics.items()},
        "mean_words": {name: m.mean_words for name, m in metrics.items()},
        "abstained": {name: m.abstained_share for name, m in metrics.items()},
        "kl": best_of_n_kl(best_of) if best_of > 1 else kl_of(services.registry.get(new).metrics),
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

    path = _snapshot_of(services, new)
    if path is None:
        raise NotFoundError(f"policy {new} comes from no cycle: give --questions FILE")
    held_out = load_snapshot(path).held_out.rollouts
    return [question_of(prompt) for prompt in held_out]


def _snapshot_of(services: Services, policy_id: str) -> Path | None:
    """Where the data of a policy's cycle lies now: the home may have been moved since the manifest was written."""
    manifest = services.registry.get(policy_id).manifest
    if not manifest.get("snapshot"):
        return None
    return _run_directory(services, policy_id) / "snapshot" / Path(str(manifest["snapshot"])).name


@dataclass(frozen=True, slots=True)
class _Writer:
    """A policy that writes `n` answers to each question."""

    services: Services
    policy_id: str
    sampling: Sampling
    n: int

    def write(self, question: str, number: int, collections: Sequence[str] | None) -> list[Answer]:
        """Answer one question; `number` tells its draws from those of the others."""
        assistant = self.services.assistant
        prepared = assistant.prepare(
            question, self.services.reader(None), collections=collections, policy_id=self.policy_id
        )
        drawn = replace(self.sampling, seed=(self.sampling.seed or 0) * 1_000_003 + number)
        # One round: samples are not made to differ, or the best of n would be that of more than n.
        return assistant.sample_many([prepared], self.n, drawn, self.policy_id, rounds=1)[0]


def _answer_all(
    writers: Sequence[_Writer],
    questions: Sequence[str],
    collections: Sequence[str] | None,
    progress: Callable[[int, int], None],
) -> list[list[list[Answer]]]:
    """Answers of each writer to each question."""
    answers: list[list[list[Answer]]] = [[] for _ in writers]
    for done, question in enumerate(questions, start=1):
        for writer, collected in zip(writers, answers, strict=True):
            collected.append(writer.write(question, done, collections))
        progress(done, len(questions))
    return answers


def _best(services: Services, policy_id: str, samples: Sequence[Sequence[Answer]]) -> list[Answer]:
    from alignment.best_of_n import choose_best
    from alignment.reward_mix import RewardMix
    from alignment.snapshot import load_snapshot
    from ui.run_settings import load_training_settings

    directory = _run_directory(services, policy_id) / "reward"
    snapshot = _snapshot_of(services, policy_id)
    if snapshot is None or not directory.is_dir():
        raise NotFoundError(f"the cycle of {policy_id} left no reward model behind: leave --best-of out")
    mix = RewardMix.of(load_snapshot(snapshot), load_training_settings(services).cycle)
    return choose_best(samples, mix.build(directory), services.serving.generator(policy_id).render)
