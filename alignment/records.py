"""The vocabulary of training: prompts, judged completions, snapshots, stage results, gates, runs. Frozen values, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from chatbot.records import PreparedTurn

StageName = Literal["pretrain", "snapshot", "sft", "reward", "ppo", "rloo", "best_of_n", "gates", "promote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """How far a stage is; shown as a progress bar, stored with the run, read by the ops page."""

    stage: StageName
    done: int
    total: int
    eta_seconds: float | None = None
    note: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    """Newest values, TRL's names where TRL has one: `objective/kl`, `objective/scores`, `policy/approxkl_avg`, `loss`."""


ProgressFn = Callable[[StageProgress], None]
"""Called at least every few seconds of work; raises `RunCancelled` when the run was cancelled, which stages let pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPrompt:
    """A prompt that completions are sampled for, with what rewards and gates need to judge them."""

    id: str
    """Hash of the question; splits are by it."""
    question: str
    prompt: str
    """Rendered by the policy's own template."""
    prepared: PreparedTurn
    """So that a completion can become the answer a person would see (`Assistant.finish`)."""
    reference: str | None = None
    """A human answer (a demonstration), or the section's own text for derived pairs."""
    key_facts: Sequence[str] = ()
    """`a|b` alternatives; an answer has a fact when it contains one of them, ignoring case."""
    answerable: bool | None = None
    """None when nobody has said."""
    asked: bool = False
    """Somebody has asked this; the others are made of documents."""
    made_of: str = ""
    """The document that it was made of; empty for what somebody asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCompletion:
    """A row for supervised fine-tuning (TRL's `prompt`, `completion`)."""

    prompt: str
    completion: str
    question_id: str
    origin: Literal["demonstration", "derived", "unanswerable"]
    labeler_id: str = ""
    """Who wrote a demonstration; empty for what nobody wrote."""
    document_ids: Sequence[str] | None = None
    """Documents that it shows or was made of; None where an earlier version did not write them down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedCompletions:
    """One judgement for the reward model: completions of one prompt and their ranking with ties.

    A comparison has two completions. A rating has one, with `label`. Both may carry a weight.
    """

    prompt: str
    completions: Sequence[str]
    ranking: Sequence[Sequence[int]]
    """Indices of `completions`, best first, equals together; empty for a rating."""
    question_id: str
    labeler_id: str
    label: bool | None = None
    weight: float = 1.0
    document_ids: Sequence[str] | None = None
    """Documents whose text is in it; None where an earlier version did not write them down."""
    seen: bool = True
    """Somebody had the completions before them; False for a demonstration beside answers that nobody was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrub:
    """A time at which rows were taken out of a snapshot, because what they came from was deleted."""

    at: datetime
    n_rows: int
    hash_before: str
    """What policies that were trained before name in their manifests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSnapshot:
    """A hashed copy of everything a cycle trains on; nothing is changed in it but by a `Scrub`."""

    hash: str
    path: Path
    n_judgements: int
    n_demonstrations: int
    n_derived: int
    n_questions: int
    left_out: dict[str, int]
    """Why judgements were not used, counted: `restricted`, `document deleted`, `user disabled`, `no prompt`, `too long`."""
    until: datetime
    """The newest judgement's time: the next cycle counts new feedback from here."""
    scrubs: Sequence[Scrub] = ()
    """Rows taken out after it was written, oldest first; `hash` is of what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What a training stage leaves behind."""

    stage: StageName
    path: Path
    """Directory with weights (safetensors), config, tokenizer."""
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """One check a candidate must pass before it serves."""

    name: str
    passed: bool
    """False stops the candidate; a check that was not measured lets it by, unless the settings say otherwise."""
    value: float
    threshold: float
    why: str
    """One sentence for ops, with the numbers."""
    measured: bool = True
    """False where no candidate could have failed: there was too little to measure on, or nothing to lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """The outcome of a whole cycle."""

    run_id: str
    policy_id: str | None
    gates: Sequence[GateResult]
    promoted: bool
    reason: str
    metrics: dict[str, Any]


RunState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recorded execution of a cycle or of a single stage."""

    id: str
    kind: str
    state: RunState
    settings: dict[str, Any]
    progress: dict[str, Any]
    metrics: dict[str, Any]
    gates: Sequence[dict[str, Any]]
    policy_id: str | None
    promoted: bool
    reason: str
    directory: Path
    feedback_until: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RewardFunction(Protocol):
    """Text in, scores out: a reward model, groundedness, length, or anything else."""

    @property
    def name(self) -> str:
        """For metrics and manifests."""

    def score(self, prompts: Sequence[RolloutPrompt], completions: Sequence[str]) -> list[float]:
        """One finite score per (prompt, completion), higher is better; no state is changed."""
