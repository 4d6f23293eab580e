"""Measures a candidate against the policy it would replace, on held-out questions, as a reader would see the answers.

Knows nothing of bars: `gates` judges the figures. Different from an offline benchmark: both policies answer the very same prepared turns,
greedily, through the same grounding as in serving, and questions whose evidence is too weak are left out, since no policy is asked them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alignment.cycle_settings import TrainingSettings
from alignment.cycle_world import CycleWorld
from alignment.errors import TrainingError
from alignment.evaluation import judge_answer, question_of
from alignment.gates import BaseComparison
from alignment.policy_metrics import PolicyMetrics, policy_metrics
from alignment.ppo_inputs import asked
from alignment.records import ProgressFn, RolloutPrompt, StageProgress
from alignment.suites import SuiteResult, judge_probes, make_probes
from alignment.win_rate import RewardJudge, WinRate, member_win_rates, win_rate
from chatbot.protocols import Generator
from chatbot.records import Answer, Completion, PolicyVersion, PreparedTurn, Sampling
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
    member_wins: Sequence[float] = ()
    """(M,) win rate against the parent by each member of the judge."""
    suites: Sequence[SuiteResult] = ()
    """The candidate's."""
    base_suites: Sequence[SuiteResult] = ()
    """The base model's: a bar of the parent's would rise from cycle to cycle by what each may be worse."""
    parent_id: str = ""
    """Whom `win` and `parent` are of."""

    def paired_suites(self) -> list[tuple[SuiteResult, SuiteResult]]:
        """The candidate's and the base model's results of each suite."""
        bases = {result.name: result for result in self.base_suites}
        return [(result, bases[result.name]) for result in self.suites]


class CandidateBench:
    """Measures candidates of one run, one after the other, against the same others on the same questions.

    What the serving policy and the base model answer is asked once and kept, for the second candidate too.
    """

    def __init__(
        self,
        world: CycleWorld,
        held_out: Sequence[RolloutPrompt],
        *,
        judge_dir: Path,
        settings: TrainingSettings,
        progress: ProgressFn,
    ) -> None:
        """Choose the questions; nothing is asked yet.

        Args:
            world: The rest of the product.
            held_out: Prompts that nothing was learned from.
            judge_dir: A reward model's directory.
            settings: How many questions, and how many at once.
            progress: See `ProgressFn`; stage `gates`.

        Raises:
            TrainingError: there is no question to measure on.
        """
        self._questions = choose_questions(held_out, settings.cycle.gate_questions)
        if not self._questions:
            raise TrainingError(
                "no held-out question to measure a candidate on: ingest more documents or collect more judgements"
            )
        self._probes = make_probes(
            self._questions, most=settings.cycle.suite_probes, seed=settings.cycle.seed
        )
        self._world, self._judge_dir, self._settings, self._progress = world, judge_dir, settings, progress
        self._others: tuple[PolicyVersion, list[_Written]] | None = None

    def measure(self, candidate: PolicyVersion) -> CandidateMeasurement:
        """Let the candidate, the serving policy and the base model answer, and judge their answers.

        Args:
            candidate: Its `path` holds weights; need not be registered.
        """
        from alignment.reward_model import RewardModel

        # Who serves is looked up first: the verdict is about that one, whoever comes meanwhile.
        parent, others = self._written_by_others()
        ours = self._written_by(candidate, trapped=True)
        reward = RewardModel.load(self._judge_dir)
        judge = RewardJudge(reward, self._world.render)
        groups = [prompt.id for prompt in self._questions]
        seed = self._settings.cycle.seed
        wins = [win_rate(ours.answers, theirs.answers, judge, seed=seed, groups=groups) for theirs in others]
        figures = [_metrics(self._questions, theirs.answers) for theirs in others]
        return CandidateMeasurement(
            candidate=_metrics(self._questions, ours.answers),
            parent=figures[0],
            win=wins[0],
            base=BaseComparison(metrics=figures[1], win=wins[1]) if len(wins) > 1 else None,
            member_wins=member_win_rates(ours.answers, others[0].answers, reward, self._world.render),
            suites=ours.suites,
            base_suites=others[-1].suites,
            parent_id=parent.id,
        )

    def _written_by_others(self) -> tuple[PolicyVersion, list[_Written]]:
        """Who serves, and what that one and the base model wrote, the base model's last; one where they are the same."""
        if self._others is None:
            parent, base = self._world.serving(), self._world.base()
            others = [parent] if parent.id == base.id else [parent, base]
            self._others = (
                parent,
                [self._written_by(policy, trapped=policy.id == base.id) for policy in others],
            )
        return self._others

    def _written_by(self, policy: PolicyVersion, *, trapped: bool) -> _Written:
        generator = self._world.load(policy)
        # As long as readers get them: what only long answers get wrong must be seen. And greedily, so that only the policies differ.
        sampling = replace(self._world.served_sampling(), temperature=0.0)
        at_once = self._settings.cycle.gate_batch
        writer = _Writer(generator, sampling, at_once, self._progress, policy.id)
        completed = writer.complete([prompt.prepared for prompt in self._questions], "answers")
        answers = [self._world.finish(turn, c, generator, writer.sampling) for turn, c in completed]
        suites: list[SuiteResult] = []
        if trapped:
            fallen = writer.complete([probe.turn for probe in self._probes], "traps")
            suites = judge_probes(self._probes, [completion.text for _, completion in fallen])
        return _Written(answers=answers, suites=suites)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What one policy wrote."""

    answers: Sequence[Answer]
    suites: Sequence[SuiteResult]


def choose_questions(held_out: Sequence[RolloutPrompt], most: int) -> list[RolloutPrompt]:
    """What candidates are measured on: what people asked or demonstrated first, then what documents were made into, in an order that means nothing.

    Args:
        held_out: Prompts in any order.
        most: How many at most.
    """

    def place(prompt: RolloutPrompt) -> tuple[bool, str]:
        return not prompt.asked, hashlib.sha256(prompt.question.encode()).hexdigest()

    return sorted(asked(held_out), key=place)[:most]


def _metrics(prompts: Sequence[RolloutPrompt], answers: Sequence[Answer]) -> PolicyMetrics:
    return policy_metrics([judge_answer(question_of(p), a) for p, a in zip(prompts, answers, strict=True)])


class _Writer:
    """Lets one policy write, greedily."""

    def __init__(
        self, generator: Generator, sampling: Sampling, at_once: int, progress: ProgressFn, policy_id: str
    ) -> None:
        self.sampling = sampling
        self._generator = generator
        self._at_once = at_once
        self._progress = progress
        self._policy_id = policy_id

    def complete(self, turns: Sequence[PreparedTurn], what: str) -> list[tuple[PreparedTurn, Completion]]:
        """Each turn as the policy read it, and what it wrote."""
        written: list[tuple[PreparedTurn, Completion]] = []
        for start in range(0, len(turns), self._at_once):
            batch = [
                for_policy(turn, self._generator, self.sampling.max_new_tokens)
                for turn in turns[start : start + self._at_once]
            ]
            completions = self._generator.generate([turn.messages for turn in batch], self.sampling)
            written += zip(batch, completions, strict=True)
            self._progress(
                StageProgress(
                    stage="gates", done=len(written), total=len(turns), note=f"{what} of {self._policy_id}"
                )
            )
        return written
