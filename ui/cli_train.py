"""`tacit train`: run one training stage, or a whole cycle, now and in this process, with progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ui.cli_documents import OPERATOR
from ui.cli_output import Context, command_options, progress_bar

if TYPE_CHECKING:
    from alignment.records import CycleResult, GateResult, StageProgress

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting for this run; may be repeated.",
)


@contextmanager
def stage_bars() -> Iterator[Callable[[StageProgress], None]]:
    """One progress bar that names the stage it is in."""
    with progress_bar("Training") as update:

        def report(progress: StageProgress) -> None:
            figures = ", ".join(
                f"{name.split('/')[-1]} {value:.3g}" for name, value in progress.metrics.items()
            )
            update(progress.done, progress.total, f"{progress.stage} {progress.note} {figures}".strip())

        yield report


def emit_result(context: Context, result: CycleResult) -> None:
    """Print how a cycle ended; a rejected candidate is an outcome, not a failure."""
    payload: dict[str, Any] = {
        "run": result.run_id,
        "policy": result.policy_id,
        "gates": [dataclasses.asdict(g) for g in result.gates],
        "promoted": result.promoted,
        "reason": result.reason,
        "metrics": result.metrics,
    }
    lines = [f"{_verdict(g)}  {g.name}: {g.why}" for g in result.gates]
    outcome = "promoted" if result.promoted else "not promoted"
    context.emit(
        payload,
        [*lines, f"run {result.run_id}: {result.policy_id or 'no policy'} {outcome}. {result.reason}"],
    )


def _verdict(gate: GateResult) -> str:
    """In five characters; a dash where nothing was measured."""
    if not gate.passed:
        return "FAIL "
    return "pass " if gate.measured else "-    "


@click.group()
def train() -> None:
    """Train now: a whole cycle, or one stage."""


@train.command()
@set_option
@command_options
def cycle(context: Context, overrides: tuple[str, ...]) -> None:
    """Snapshot, SFT, reward model, PPO, gates; promotes the candidate if it passes."""
    _run_stages(context, "cycle", overrides)


@train.command()
@set_option
@command_options
def sft(context: Context, overrides: tuple[str, ...]) -> None:
    """Fine-tune on the open documents and on demonstrations; leaves a candidate policy."""
    _run_stages(context, "sft", overrides)


@train.command()
@set_option
@command_options
def reward(context: Context, overrides: tuple[str, ...]) -> None:
    """Train the reward model on the current judgements (and the SFT policy it starts from)."""
    _run_stages(context, "reward", overrides)


@train.command()
@set_option
@command_options
def ppo(context: Context, overrides: tuple[str, ...]) -> None:
    """Snapshot, SFT, reward model and PPO without gates; leaves a candidate policy."""
    _run_stages(context, "ppo", overrides)


def _run_stages(context: Context, kind: str, overrides: tuple[str, ...]) -> None:
    from ui.wiring import open_services

    with open_services(context.home) as services, stage_bars() as progress:
        services.audit.record(OPERATOR, f"train.{kind}", kind, overrides=list(overrides))
        result = services.run_training(kind, overrides=overrides, progress=progress)
    emit_result(context, result)


@train.command()
@set_option
@command_options
def pretrain(context: Context, overrides: tuple[str, ...]) -> None:
    """Train an embedded base model from plain text; takes hours, resumes where it was stopped."""
    from alignment.pretrain import pretrain as run_pretraining
    from alignment.pretrain_settings import PretrainSettings
    from alignment.settings import apply_overrides

    settings = apply_overrides(PretrainSettings, list(overrides))
    with progress_bar("Pretraining") as update:
        result = run_pretraining(
            settings, progress=lambda p: update(p.step, p.total_steps, f"loss {p.loss:.3f}")
        )
    figures = dataclasses.asdict(result)
    payload: dict[str, Any] = {
        "run": str(result.checkpoint),
        "policy": None,
        "gates": [],
        "promoted": False,
        "metrics": figures,
    }
    context.emit(payload, ", ".join(f"{name} {value}" for name, value in figures.items()))
