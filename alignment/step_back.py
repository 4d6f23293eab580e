"""The way back from a step that went too far: half of it, a quarter of it, until the gates agree or it is no step any more.

Weights on the straight line between the SFT policy and the optimiser's lose less of what people did not ask to be changed than they lose of what was won
(WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903; linear interpolation towards initialisation, WARP, Ramé et al. 2024, arXiv 2406.16768, section 3.3).

Knows nothing of how policies are measured, promoted or named. Different from both papers: the line is walked only where a gate has said that the whole step went too
far, in halves fixed beforehand, and every point stands before all gates. A candidate that people do not prefer is not tried at all: a smaller step does not mend that, and
each further try would be another throw of the dice at the win rate.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from alignment.finished_stages import FinishedStages
from alignment.gates import explain, gates_passed
from alignment.records import GateResult, StageResult

PARTS: Final = {"half": "Half", "quarter": "A quarter", "eighth": "An eighth"}
"""Names of the steps, each half of the one before, and how a sentence about one begins; how many are tried is a setting."""
SHARE: Final = "share_of_step"
"""Key among a policy's metrics; those without it went the whole step."""
_TOO_FAR: Final = frozenset(
    (
        "key_facts",
        "overlap",
        "groundedness",
        "abstention",
        "length",
        "faithfulness",
        "sycophancy",
        "injection",
    )
)
"""Gates that a policy fails by having left what it could before. Not KL: it is not measured anew, and PPO has a budget for it."""

_OF_THE_WHOLE: Final = frozenset(("done.json", "ppo.json"))
"""Files beside the optimiser's weights that speak of those weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A candidate, and what the gates said of it."""

    part: str
    """One of `PARTS`; empty for the whole step."""
    result: StageResult
    gates: Sequence[GateResult]
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What the gates were run on."""

    @property
    def passed(self) -> bool:
        """Whether it may serve."""
        return gates_passed(self.gates)

    @property
    def failed(self) -> list[str]:
        """Names of the gates that it did not pass."""
        return [gate.name for gate in self.gates if not gate.passed]


def weights_folder(part: str) -> str:
    """Of a part's weights in the run's directory."""
    return f"step_{part}"


def gates_folder(part: str) -> str:
    """Of a verdict in the run's directory."""
    return f"gates_{part}" if part else "gates"


def went_too_far(gates: Sequence[GateResult]) -> bool:
    """Whether a smaller step might pass: something failed, and nothing but what a policy loses by going too far.

    >>> def gate(name, passed):
    ...     return GateResult(name=name, passed=passed, value=0.0, threshold=0.0, why="")
    >>> went_too_far([gate("win_rate", True), gate("length", False)])
    True
    >>> went_too_far([gate("win_rate", False), gate("length", False)])
    False
    """
    failed = {gate.name.removesuffix("_over_base") for gate in gates if not gate.passed}
    return bool(failed) and failed <= _TOO_FAR


def share_of(part: str) -> float:
    """How much of the step a part of it is.

    >>> share_of(""), share_of("half"), share_of("quarter")
    (1.0, 0.5, 0.25)
    """
    return 0.5 ** (list(PARTS).index(part) + 1) if part else 1.0


def step_back(start_dir: Path, whole: StageResult, out_dir: Path, part: str) -> StageResult:
    """A policy on the straight line from one to another.

    Args:
        start_dir: The policy that the optimiser started from.
        whole: The optimiser's.
        out_dir: Replaced when it exists.
        part: How much of the way from the first to the second.

    Returns:
        The policy, in the type of the second's weights, with what lies beside them (the order of evidence). Its metrics are the second's and `share_of_step`: its KL
        is not measured anew, and stands for the most that it may be.

    Raises:
        TrainingError: one of them cannot be loaded.
    """
    from transformers import AutoConfig

    from alignment.model_directory import load_causal_model, load_tokenizer
    from alignment.models import export_policy

    started = time.monotonic()
    share, device = share_of(part), torch.device("cpu")
    start = load_causal_model(start_dir, device).state_dict()
    model = load_causal_model(whole.path, device)
    mixed = {
        name: torch.lerp(start[name], tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(mixed)
    stored = AutoConfig.from_pretrained(str(whole.path)).dtype
    export_policy(model, load_tokenizer(whole.path), out_dir, dtype=stored or torch.float32)
    for file in whole.path.glob("*.json"):
        if file.name not in _OF_THE_WHOLE and not (out_dir / file.name).exists():
            shutil.copy2(file, out_dir)
    return StageResult(
        stage=whole.stage,
        path=out_dir,
        metrics={**whole.metrics, SHARE: share},
        seconds=time.monotonic() - started,
    )


def make_attempts(
    start_dir: Path,
    whole: StageResult,
    *,
    most: int,
    directory: Path,
    finished: FinishedStages,
    measure: Callable[[StageResult, str], dict[str, Any]],
) -> list[Attempt]:
    """The candidate before the gates; and where it went too far, parts of its step, until one does not fail so.

    Args:
        start_dir: The policy that the optimiser started from.
        whole: The optimiser's.
        most: How many parts at most.
        directory: Of the run.
        finished: What is done already; a part that was made and a verdict that was reached are read from it.
        measure: Policy and part to `{"gates": [...], "metrics": {...}}`.

    Returns:
        The whole step, then its parts, each half of the one before.
    """

    def attempt(part: str, result: StageResult) -> Attempt:
        outcome = finished.once(gates_folder(part), lambda: measure(result, part))
        gates = [GateResult(**gate) for gate in outcome["gates"]]
        return Attempt(part=part, result=result, gates=gates, measured=outcome["metrics"])

    attempts = [attempt("", whole)]
    for part in list(PARTS)[:most]:
        if not went_too_far(attempts[-1].gates):
            break
        folder = weights_folder(part)
        make = functools.partial(step_back, start_dir, whole, directory / folder, part)
        attempts.append(attempt(part, finished.trained_once(folder, make)))
    return attempts


def choose(attempts: Sequence[Attempt]) -> tuple[Attempt, str]:
    """Which attempt is the run's, and why.

    Args:
        attempts: The whole step, then its parts, each half of the one before.

    Returns:
        The longest step that passed, or the whole one where none did; and one line for ops that tells of the others.
    """
    whole = attempts[0]
    best = next((attempt for attempt in attempts if attempt.passed), whole)
    said = explain(best.gates)
    if best.part:
        return (
            best,
            f"{PARTS[best.part]} of the optimiser's step. {said} The whole step had failed: {explain(whole.gates)}",
        )
    parts = [
        f"{PARTS[attempt.part]} of the step failed too, by {', '.join(attempt.failed)}."
        for attempt in attempts[1:]
    ]
    return best, " ".join([said, *parts])
