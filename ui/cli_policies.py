"""`tacit policies`, `runs`, `schedule`: what was trained, what serves, and when training starts by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chatbot.policy_rows import DELETED_SINCE
from ui.cli_documents import OPERATOR
from ui.cli_output import Context, command_options, progress_bar, table

if TYPE_CHECKING:
    from alignment.records import Run
    from chatbot.records import PolicyVersion


def _policy_json(policy: PolicyVersion) -> dict[str, Any]:
    return {
        "id": policy.id,
        "stage": policy.stage,
        "state": policy.state,
        "parent": policy.parent,
        "created_at": policy.created_at,
        "metrics": policy.metrics,
        "data_deleted_since": policy.manifest.get(DELETED_SINCE),
    }


def _remarks(policy: PolicyVersion) -> str:
    since = str(policy.manifest.get(DELETED_SINCE) or "")
    deleted = f"learned from what was deleted on {since[:10]}" if since else ""
    return "; ".join(part for part in (policy.reason, deleted) if part)


@click.group()
def policies() -> None:
    """List, compare, promote and roll back policy versions."""


@policies.command("list")
@command_options
def list_policies(context: Context) -> None:
    """All versions, newest first, and the one that serves."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        found = services.registry.list()
        serving = services.registry.serving().id
    rows = [
        [p.id, p.stage, p.state, p.parent or "", f"{p.created_at:%Y-%m-%d %H:%M}", _remarks(p)] for p in found
    ]
    payload = {"policies": [_policy_json(p) for p in found], "serving": serving}
    context.emit(payload, table(rows, ["id", "stage", "state", "parent", "created (UTC)", "remarks"]))


@policies.command("show")
@click.argument("policy_id")
@command_options
def show_policy(context: Context, policy_id: str) -> None:
    """Everything about one version: metrics, gates, lineage."""
    import json

    from ui.wiring import open_services

    with open_services(context.home) as services:
        policy = services.registry.get(policy_id)
    payload = _policy_json(policy) | {
        "gates": list(policy.gates),
        "manifest": policy.manifest,
        "reason": policy.reason,
        "path": policy.path,
    }
    context.emit(payload, json.dumps(payload, indent=2, default=str))


@policies.command()
@click.argument("new")
@click.argument("old")
@click.option(
    "--questions",
    type=click.Path(path_type=Path),
    help="Question file; else the held-out questions of the last cycle.",
)
@click.option("--preferences", help="FILE.py:FUNCTION as the judge; else the held-out reward model.")
@click.option("--collection", "collections", multiple=True, help="Search only here; may be repeated.")
@click.option(
    "--samples", default=1, show_default=True, type=click.IntRange(1), help="Answers per question and policy."
)
@click.option(
    "--temperature",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    help="0 compares the answers as served.",
)
@click.option(
    "--best-of",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Of NEW take the best of so many samples by the reward of its cycle; OLD answers as served.",
)
@click.option("--seed", default=0, show_default=True)
@command_options
def compare(
    context: Context,
    new: str,
    old: str,
    questions: Path | None,
    preferences: str | None,
    collections: tuple[str, ...],
    samples: int,
    temperature: float,
    best_of: int,
    seed: int,
) -> None:
    """Win rate of NEW against OLD on the same questions, ties counting half, with its 95% interval."""
    from ui.comparing import compare_policies
    from ui.wiring import open_services

    with open_services(context.home) as services, progress_bar("Comparing") as update:
        result = compare_policies(
            services,
            new=new,
            old=old,
            questions=questions,
            preferences=preferences,
            collections=list(collections) or None,
            samples=samples,
            temperature=temperature,
            best_of=best_of,
            seed=seed,
            progress=lambda done, total: update(done, total, ""),
        )
    low, high = result["interval"]
    text = f"{new} wins {result['win_rate']:.3f} [{low:.3f}, {high:.3f}] against {old} on {result['n']} questions ({result['judge']})"
    context.emit(result, text)


@policies.command()
@click.argument("policy_id")
@click.option("--force", is_flag=True, help="Promote a version that its gates rejected.")
@click.option("--reason", default="", help="Why; required with --force.")
@command_options
def promote(context: Context, policy_id: str, force: bool, reason: str) -> None:
    """Let a version answer from the next question on."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        policy = services.promote(policy_id, actor=OPERATOR, force=force, reason=reason)
    context.emit({"serving": policy.id}, f"{policy.id} serves now")


@policies.command()
@command_options
def rollback(context: Context) -> None:
    """Go back to the version that served before."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        policy = services.roll_back(actor=OPERATOR)
    context.emit({"serving": policy.id}, f"{policy.id} serves again")


def _run_json(run: Run) -> dict[str, Any]:
    return dataclasses.asdict(run) | {"directory": str(run.directory)}


@click.group()
def runs() -> None:
    """List, show, cancel and resume training runs."""


@runs.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@command_options
def list_runs(context: Context, limit: int) -> None:
    """The newest runs."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        found = services.runs.list(limit)
    rows = [
        [
            r.id,
            r.kind,
            r.state,
            r.progress.get("stage", ""),
            r.policy_id or "",
            f"{r.created_at:%Y-%m-%d %H:%M}",
            r.reason,
        ]
        for r in found
    ]
    context.emit(
        {"runs": [_run_json(r) for r in found]},
        table(rows, ["id", "kind", "state", "stage", "policy", "created (UTC)", "reason"]),
    )


@runs.command("show")
@click.argument("run_id")
@command_options
def show_run(context: Context, run_id: str) -> None:
    """One run: settings, progress, gates, metrics."""
    import json

    from ui.wiring import open_services

    with open_services(context.home) as services:
        payload = _run_json(services.runs.get(run_id))
    context.emit(payload, json.dumps(payload, indent=2, default=str))


@runs.command("cancel")
@click.argument("run_id")
@command_options
def cancel_run(context: Context, run_id: str) -> None:
    """Stop a run at its next step; its checkpoints stay."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        run = services.cancel_run(run_id, actor=OPERATOR)
    context.emit({"run": run.id, "state": run.state}, f"run {run.id} is {run.state}")


@runs.command("resume")
@click.argument("run_id")
@command_options
def resume_run(context: Context, run_id: str) -> None:
    """Go on with a failed, cancelled or interrupted run from its last checkpoint."""
    from ui.cli_train import emit_result, stage_bars
    from ui.run_settings import changed_settings
    from ui.wiring import open_services

    with open_services(context.home) as services, stage_bars() as progress:
        services.audit.record(OPERATOR, "run.resume", run_id)
        if changed := changed_settings(services, run_id):
            click.echo(f"The run keeps the settings it began with ({'; '.join(changed)}).", err=True)
        result = services.resume_run(run_id, progress=progress)
    emit_result(context, result)


@click.group()
def schedule() -> None:
    """Show and set when training starts by itself."""


@schedule.command("show")
@command_options
def show_schedule(context: Context) -> None:
    """The schedule, and how much new feedback waits."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        current = services.schedule.get()
        waiting = services.new_feedback()
    payload = dataclasses.asdict(current) | {"new_feedback": waiting}
    cron = current.cron or "not by the clock"
    minimum = current.min_feedback or "not by feedback"
    context.emit(payload, f"cron (UTC): {cron}; min feedback: {minimum}; new judgements waiting: {waiting}")


@schedule.command("set")
@click.option(
    "--cron",
    help="Five cron fields in UTC, like '0 3 * * *': trains at each mark at which new feedback waits; '' for none.",
)
@click.option(
    "--min-feedback", type=click.IntRange(0), help="Start at this many new judgements; 0 for never."
)
@command_options
def set_schedule(context: Context, cron: str | None, min_feedback: int | None) -> None:
    """Change the schedule; what is not given stays as it is."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        old = services.schedule.get()
        new = services.schedule.set(
            cron=old.cron if cron is None else cron or None,
            min_feedback=old.min_feedback if min_feedback is None else min_feedback or None,
            actor=OPERATOR,
        )
        services.audit.record(
            OPERATOR, "schedule.set", "schedule", cron=new.cron, min_feedback=new.min_feedback
        )
    context.emit(
        dataclasses.asdict(new),
        f"cron (UTC): {new.cron or 'none'}; min feedback: {new.min_feedback or 'none'}",
    )
