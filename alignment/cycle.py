"""A whole cycle: snapshot, SFT, reward model, PPO or another optimiser, gates, promotion. Read `Cycle.run` first.

    judgements + open documents ─▶ snapshot ─▶ SFT ─▶ reward model, judge ─▶ PPO ─▶ gates ─▶ promoted, or rejected with the reason
                                                                                     └ went too far: half of the step (`step_back`)

Every cycle starts again from the base model and learns from everything that counts today. So a deleted document, a deleted person or a
withdrawn vote leaves no trace in the next policy, and rounds cannot drift away from each other's data.

Resuming: a run goes on with the settings it began with (`run_start`); a finished stage is not done twice (`finished_stages`); SFT and PPO continue from their own checkpoints; the reward model, a
matter of minutes, starts again. The module knows nothing of databases, queues or pages: what it needs comes as a `CycleWorld`.

Different from a training script: the outcome is a verdict. A candidate that fails a gate is kept, marked rejected, and explained; that
is a successful run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import structlog

from alignment.candidates import PolicyStage, make_candidate
from alignment.cycle_rewards import learn_cycle_order, train_cycle_judge, train_cycle_reward
from alignment.cycle_settings import TrainingSettings
from alignment.cycle_snapshot import counts_of, take_snapshot
from alignment.cycle_verdict import Verdicts
from alignment.cycle_world import CycleWorld
from alignment.errors import TrainingError
from alignment.finished_stages import FinishedStages
from alignment.gates import explain
from alignment.optimiser_settings import CHOOSERS, OptimiserName
from alignment.optimisers import BEST_OF_N, Learned, serve_best_of_n, train_policy
from alignment.policy_kl import kl_of
from alignment.rater_weights import shares_of_authors
from alignment.records import (
    CycleResult,
    GateResult,
    ProgressFn,
    Run,
    StageProgress,
    StageResult,
)
from alignment.snapshot import LoadedSnapshot
from alignment.step_back import Attempt, choose, gates_folder, make_attempts, weights_folder
from chatbot.evidence_order import EvidenceOrder
from chatbot.records import PolicyVersion

log = structlog.get_logger(__name__)

CycleKind = Literal["cycle", "sft", "reward", "ppo"]
"""`cycle` is everything; the others stop after that stage and leave a candidate without gates."""
JUDGE = "judge"


class Cycle:
    """One run of the stages."""

    def __init__(
        self,
        world: CycleWorld,
        settings: TrainingSettings,
        run: Run,
        progress: ProgressFn,
        kind: CycleKind = "cycle",
        *,
        parent: str,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Args:
            world: The rest of the product.
            settings: Of all stages.
            run: The recorded run; its directory holds what finished stages left.
            progress: See `ProgressFn`.
            kind: How far to go.
            parent: The policy that served when the run began.
        """
        self._world = world
        self._settings = settings
        self._run = run
        self._progress = progress
        self._kind = kind
        self._finished = FinishedStages(run.id, run.directory)
        self._metrics: dict[str, Any] = {}
        self._parent = parent

    def run(self) -> CycleResult:
        """Do what is left to do.

        Raises:
            TrainingError: a stage cannot go on; what was done stays, and the run can be resumed.
            RunCancelled: from `progress`.
        """
        data = self._snapshot()
        sft = self._sft(data)
        sft_policy = self._publish(self._candidate("sft", sft, data))
        if self._kind == "sft":
            return self._end(sft_policy, "Stopped after SFT, as asked.")
        reward = self._reward(data, sft)
        if self._kind == "reward":
            return self._end(sft_policy, "Stopped after the reward model, as asked.")
        if not (reward.metrics.get("informed", 1.0) or self._settings.cycle.optimise_uninformed):
            return self._end(
                sft_policy,
                f"The judgements do not tell yet which answers people prefer: nothing that can be seen of an answer predicts them, so there was nothing to optimise. "
                f"Collect more comparisons and train again; `tacit policies promote {sft_policy.id}` serves what was learned from demonstrations.",
            )
        policy = self._optimise(data, sft, reward)
        if self._kind == "ppo":
            return self._end(
                self._publish(self._candidate(self._policy_stage, policy, data)),
                "Stopped after PPO, as asked; no gates were run.",
            )
        return self._conclude(data, self._attempts(data, sft, policy))

    # Stages

    def _snapshot(self) -> LoadedSnapshot:
        data = take_snapshot(self._world, self._settings, self._run, self._finished, self._progress)
        self._world.note_snapshot(data.snapshot.until)
        self._metrics["snapshot"] = counts_of(data.snapshot)
        self._metrics["raters"] = [rater.to_json() for rater in data.raters]
        if not data.train.pairs and not data.train.judgements:
            raise TrainingError(
                "there is nothing to learn from: ingest documents that every employee may read, or collect judgements"
            )
        return data

    def _sft(self, data: LoadedSnapshot) -> StageResult:
        from alignment.sft import train_sft

        if not data.train.pairs:
            # No heading, list or table to derive a question from, and no demonstration: PPO then starts from the base model itself.
            log.warning("sft_skipped", run=self._run.id, reason="no rows")
            base = Path(self._world.base().path)
            return StageResult(stage="sft", path=base, metrics={}, seconds=0.0)

        def train() -> StageResult:
            return train_sft(
                self._settings.sft,
                base_dir=Path(self._world.base().path),
                rows=data.train.pairs,
                authors=shares_of_authors(data.train.pairs, self._settings.raters, self._teams(data)),
                held_out=data.held_out.pairs,
                out_dir=self._run.directory / "sft",
                progress=self._progress,
                resume=True,
            )

        return self._stage("sft", train)

    def _teams(self, data: LoadedSnapshot) -> Mapping[str, Sequence[str]]:
        """Groups of those who said something, as they were when the run began: it ends alike however often it is resumed."""
        people = {pair.labeler_id for pair in data.train.pairs}
        people |= {row.labeler_id for row in data.train.judgements}
        return self._finished.once(
            "teams",
            lambda: {
                name: list(groups)
                for name, groups in self._world.known_raters().teams.items()
                if name in people
            },
        )

    def _reward(self, data: LoadedSnapshot, sft: StageResult) -> StageResult:
        if not data.train.judgements:
            raise TrainingError(
                "there are no ratings, comparisons or rankings to learn from yet: collect some, then train again"
            )
        base_dir = Path(self._world.base().path)

        def train() -> StageResult:
            return train_cycle_reward(
                self._settings,
                data,
                base_dir=base_dir,
                sft_dir=sft.path,
                out_dir=self._run.directory / "reward",
                progress=self._progress,
                teams=self._teams(data),
            )

        def train_judge() -> StageResult:
            return train_cycle_judge(
                self._settings,
                data,
                sft_dir=sft.path,
                out_dir=self._run.directory / JUDGE,
                progress=self._progress,
            )

        result = self._stage("reward", train)
        if len(data.held_out.judgements) >= self._settings.cycle.judge_min_judgements:
            self._stage(JUDGE, train_judge)
        return result

    def _order(self, data: LoadedSnapshot, reward: StageResult) -> EvidenceOrder | None:
        def learn() -> dict[str, Any]:
            return learn_cycle_order(
                self._settings,
                data,
                reward_dir=reward.path,
                passage_weight=self._world.passage_weight(),
                progress=self._progress,
            )

        if not self._settings.taste.enabled:
            return None
        learned = self._finished.once("taste", learn)
        self._metrics["taste"] = learned
        return EvidenceOrder(weights=learned["weights"]) if learned["weights"] else None

    def _optimise(self, data: LoadedSnapshot, sft: StageResult, reward: StageResult) -> StageResult:
        learned = Learned(
            data=data,
            sft_dir=sft.path,
            reward_dir=reward.path,
            order=self._order(data, reward),
            render=self._world.render,
        )
        common: dict[str, Any] = {"directory": self._run.directory, "progress": self._progress}
        optimiser = self._settings.cycle.optimiser
        trained = None
        if optimiser != "best_of_n":
            trained = self._stage("ppo", lambda: train_policy(self._settings, learned, **common))
            if optimiser != "ppo_best_of_n":
                return trained
        return self._stage(
            BEST_OF_N, lambda: serve_best_of_n(self._settings, learned, trained=trained, **common)
        )

    @property
    def _policy_stage(self) -> PolicyStage:
        """What the optimiser's policy is called."""
        stages: dict[OptimiserName, PolicyStage] = {"best_of_n": "best_of_n", "trl_rloo": "rloo"}
        return stages.get(self._settings.cycle.optimiser, "ppo")

    def _attempts(self, data: LoadedSnapshot, sft: StageResult, whole: StageResult) -> list[Attempt]:
        verdicts = Verdicts(
            self._world, self._settings, data, judge_dir=self._judge_dir(), progress=self._progress
        )

        def measure(policy: StageResult, part: str) -> dict[str, Any]:
            candidate = self._candidate(self._policy_stage, policy, data, part=part)
            # The KL of a part is not measured anew: it is the whole step's.
            return verdicts.reach(candidate, kl=kl_of(policy.metrics), kl_at_most=bool(part))

        # Who chooses among completions has no weights of its own between which to go back.
        most = 0 if self._settings.cycle.optimiser in CHOOSERS else self._settings.cycle.step_backs
        attempts = make_attempts(
            sft.path,
            whole,
            most=most,
            directory=self._run.directory,
            finished=self._finished,
            measure=measure,
        )
        for attempt in attempts:
            if attempt.part:
                self._note(weights_folder(attempt.part), attempt.result)
            self._metrics[gates_folder(attempt.part)] = attempt.measured
            # Who serves may have changed since the run began: the verdict is about the policy that it was measured against.
            self._parent = str(attempt.measured.get("parent_id") or self._parent)
        return attempts

    def _judge_dir(self) -> Path:
        # Too few held-out judgements for a judge of their own: the verdict is then by the model that PPO maximised.
        return self._run.directory / (JUDGE if self._finished.has(JUDGE) else "reward")

    def _stage(self, name: str, train: Callable[[], StageResult]) -> StageResult:
        result = self._finished.trained_once(name, train)
        self._note(name, result)
        return result

    def _note(self, name: str, result: StageResult) -> None:
        self._metrics[name] = {**result.metrics, "seconds": result.seconds}

    # Outcome

    def _conclude(self, data: LoadedSnapshot, attempts: Sequence[Attempt]) -> CycleResult:
        chosen, reason = choose(attempts)
        published = [self._publish_attempt(data, attempt) for attempt in attempts]
        policy = published[attempts.index(chosen)]
        passed, gates = chosen.passed, chosen.gates
        serving = self._world.serving().id
        # A run that was killed after promoting does not promote again: somebody may have rolled back.
        wanted = passed and self._settings.cycle.promote and not self._run.promoted
        promoted = self._run.promoted or (wanted and serving == self._parent)
        if wanted and promoted:
            self._progress(StageProgress(stage="promote", done=0, total=1))
            self._world.promote(policy.id)
        elif wanted:
            reason += (
                f" Not promoted: {serving} serves since, and it was measured against {self._parent}. "
                f"`tacit policies promote {policy.id}` if it should serve all the same, or train again."
            )
        return self._end(policy, reason, gates=gates, promoted=promoted)

    def _publish_attempt(self, data: LoadedSnapshot, attempt: Attempt) -> PolicyVersion:
        why = "" if attempt.passed else explain(attempt.gates)
        return self._publish(
            self._candidate(
                self._policy_stage, attempt.result, data, gates=attempt.gates, reason=why, part=attempt.part
            )
        )

    def _end(
        self,
        policy: PolicyVersion,
        reason: str,
        *,
        gates: Sequence[GateResult] = (),
        promoted: bool = False,
    ) -> CycleResult:
        return CycleResult(
            run_id=self._run.id,
            policy_id=policy.id,
            gates=gates,
            promoted=promoted,
            reason=reason,
            metrics=self._metrics,
        )

    def _publish(self, candidate: PolicyVersion) -> PolicyVersion:
        return self._world.publish(candidate, Path(candidate.path))

    def _candidate(
        self,
        stage: PolicyStage,
        result: StageResult,
        data: LoadedSnapshot,
        *,
        gates: Sequence[GateResult] = (),
        reason: str = "",
        part: str = "",
    ) -> PolicyVersion:
        return make_candidate(
            stage,
            result,
            data.snapshot,
            world=self._world,
            run=self._run,
            settings=self._settings,
            parent=self._parent,
            taste=None if stage == "sft" else self._metrics.get("taste"),
            gates=gates,
            reason=reason,
            part=part,
        )
