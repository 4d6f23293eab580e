"""The ops page's pieces: figures and charts, the training run, the schedule. Records to HTML, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from alignment.records import Run
from knowledge_base.database import now
from ui.fragments import (
    ago,
    attributes,
    badge,
    button,
    card,
    describe_seconds,
    esc,
    field,
    figure,
    form,
    progress_bar,
    table,
)
from ui.ops_handlers import Figures, ScheduleView, fill_days

LEAD = "<div class='t-lead'><h1>How Tacit is learning</h1></div>"
STAGES = (
    ("snapshot", "Data"),
    ("sft", "Fine-tuning"),
    ("reward", "Reward model"),
    ("ppo", "PPO"),
    ("gates", "Gates"),
)
_PARTS_OF = {"rloo": "ppo", "best_of_n": "ppo", "promote": "gates"}
"""Stages that are shown as another."""
STATE_BADGES = {
    "serving": "good", "candidate": "warn", "rejected": "bad", "retired": "",
    "queued": "warn", "running": "warn", "done": "good", "failed": "bad", "cancelled": "",
}  # fmt: skip


def render_figures(figures: Figures, today: date) -> str:
    """Numbers and charts."""
    answers, feedback = figures.answers, figures.feedback
    ratings = feedback.by_label["up"] + feedback.by_label["down"]
    liked = f"{feedback.by_label['up'] / ratings:.0%}" if ratings else "–"
    numbers = (
        figure(f"{answers.n:,}", "answers", _median_hint(answers.median_seconds))
        + figure(_share(answers.abstention_rate), "said “I don't know”")
        + figure(liked, "thumbs up", f"of {ratings:,} rating{'' if ratings == 1 else 's'}")
        + figure(f"{feedback.n:,}", "judgements", f"{figures.n_new:,} not yet learned from")
        + figure(
            f"{figures.n_repaired:,}",
            "answers repaired",
            f"of the last {figures.n_recent:,}: unsupported sentences removed",
        )
        + figure(
            f"{figures.n_fell_back:,}",
            "fell back to a quote",
            f"of the last {figures.n_recent:,}: no sentence was supported",
        )
    )
    kinds = " ".join(
        badge(f"{count:,} {kind}{'' if count == 1 else 's'}")
        for kind, count in sorted(feedback.by_kind.items())
    )
    charts = _chart("Answers per day", fill_days(answers.per_day, today)) + _chart(
        "Judgements per day", fill_days(feedback.per_day, today)
    )
    left = (
        ""
        if feedback.left_share is None
        else f" {badge(f'left side wins {feedback.left_share:.0%} of {feedback.n_positioned}')}"
    )
    said = f"<p style='margin-top:1.1rem'>{kinds}{left}</p>" if kinds else ""
    return card(
        "Use and feedback",
        f"<div class='t-figures'>{numbers}</div><div class='t-charts'>{charts}</div>{said}",
    )


def _median_hint(seconds: float | None) -> str:
    return "" if seconds is None else f"half of them within {seconds:.1f} s"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _chart(title: str, days: Sequence[tuple[str, int]]) -> str:
    """A bar for each day; the numbers are in the tooltips and, for screen readers, in the label."""
    top = max([1, *(count for _, count in days)])
    width = 100 / len(days)
    bars = []
    for place, (day, count) in enumerate(days):
        height = max(2.0, 94 * count / top) if count else 2.0
        box = attributes(
            x=f"{place * width + width * .15:.2f}%", y=f"{96 - height:.1f}", width=f"{width * .7:.2f}%", height=f"{height:.1f}",
            rx=2, class_=None if count else "none",
        )  # fmt: skip
        bars.append(f"<rect{box}><title>{esc(day)}: {count:,}</title></rect>")
    spoken = f"{title}: " + ", ".join(f"{day} {count}" for day, count in days if count)
    return (
        f"<figure class='t-chart' style='margin:0'><h3>{esc(title)} <span class='t-muted'>(most: {top if any(c for _, c in days) else 0})</span></h3>"
        f"<svg role='img' aria-label='{esc(spoken)}'>{''.join(bars)}</svg>"
        f"<div class='t-days'><span>{esc(days[0][0][5:])}</span><span>{esc(days[-1][0][5:])}</span></div></figure>"
    )


def render_run(run: Run | None, n_new: int) -> str:
    """The run to watch, or the way to start one."""
    if run is None or run.state not in ("queued", "running"):
        start = button(
            "Run a cycle now", "start-cycle", kind="main",
            data_confirm=f"Train a new policy from all feedback so far ({n_new:,} new)? It serves only if it passes every gate.",
            data_confirm_label="Run it",
        )  # fmt: skip
        last = "<p class='t-muted'>No cycle has run yet.</p>" if run is None else _render_ended(run)
        return card("Training", last, aside=start)
    cancel = button(
        "Cancel", "cancel-run", kind="danger small", data_run=run.id,
        data_confirm=f"Cancel run {run.id}? Its checkpoints stay, so it can be resumed.", data_confirm_label="Cancel the run",
    )  # fmt: skip
    return card("Training", _render_active(run), aside=cancel)


def _render_active(run: Run) -> str:
    progress = run.progress
    stage, done, total = progress.get("stage", ""), progress.get("done", 0), progress.get("total", 0)
    names = [name for name, _ in STAGES]
    current = _PARTS_OF.get(stage, stage)
    reached = names.index(current) if current in names else -1
    steps = "".join(
        f"<li{attributes(class_='now' if i == reached else 'done' if i < reached else None)}>{words}</li>"
        for i, (_, words) in enumerate(STAGES)
    )
    if run.state == "queued" or not stage:
        line = "Waiting for a worker." if run.state == "queued" else "Starting."
    else:
        eta = progress.get("eta_seconds")
        left = f", about {describe_seconds(eta)} left in this stage" if eta is not None else ""
        line = f"{done:,} of {total:,}{left}"
    note = f" <small>{esc(progress['note'])}</small>" if progress.get("note") else ""
    started = f"<small>Run {esc(run.id)}, started {ago(run.started_at or run.created_at)}</small>"
    return (
        f"<div class='t-run'><ol class='t-steps' aria-label='Stages'>{steps}</ol>{progress_bar(done, total, 'Progress of this stage')}"
        f"<p role='status'>{esc(line)}{note}</p>{render_metrics(progress.get('metrics') or {})}{started}</div>"
    )


def _render_ended(run: Run) -> str:
    outcome = {"done": "promoted" if run.promoted else "not promoted"}.get(run.state, run.state)
    kind = "good" if run.promoted else STATE_BADGES[run.state] if run.state != "done" else "warn"
    policy = f" <code>{esc(run.policy_id)}</code>" if run.policy_id else ""
    return f"<p>Last run: {badge(outcome, kind)}{policy} {ago(run.finished_at)}</p><p class='t-muted'>{esc(run.reason)}</p>"


def render_metrics(metrics: Mapping[str, Any]) -> str:
    """Numbers by name; what is not a number is left out."""
    rows = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{value:.4g}</dd></div>"
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    return f"<dl class='t-metrics'>{rows}</dl>" if rows else ""


def render_schedule(view: ScheduleView) -> str:
    """The schedule and a form to change it."""
    schedule = view.schedule
    told = []
    if view.next_at is not None:
        told.append(
            f"Next at {view.next_at:%a %d %b, %H:%M} UTC, if there is new feedback by then; what comes later waits for the next time."
        )
    if schedule.min_feedback is not None:
        told.append(f"{view.n_new:,} of {schedule.min_feedback:,} new judgements are in.")
    told_text = " ".join(told) or "Off: cycles start by hand only."
    by = (
        f" <small>Set by {esc(schedule.updated_by)} {ago(schedule.updated_at)}.</small>"
        if schedule.updated_at
        else ""
    )
    fields = (
        field("By the clock: cron expression, UTC", "cron", value=schedule.cron or "", placeholder="0 3 * * *", hint="Minute, hour, day, month, weekday. Empty: never.")
        + field(
            "Or after so many new judgements", "min_feedback", value=str(schedule.min_feedback or ""), inputmode="numeric",
            pattern="[0-9]*", placeholder="200", hint="Empty: never.",
        )
    )  # fmt: skip
    body = f"<div class='t-row' style='align-items:start'>{fields}</div><div class='t-row' style='margin-top:.8rem'><button class='t-button'>Save the schedule</button></div>"
    return card("Schedule", f"<p>{esc(told_text)}{by}</p>{form('save-schedule', body, data_keep=True)}")


def render_runs(runs: Sequence[Run]) -> str:
    """The newest runs and how they ended."""
    rows = [
        [
            f"<code>{esc(run.id)}</code>",
            esc(run.kind),
            badge(run.state, STATE_BADGES[run.state]),
            _duration(run),
            f"<div><code>{esc(run.policy_id)}</code>{' ' + badge('promoted', 'good') if run.promoted else ''}</div>"
            if run.policy_id
            else "–",
            f"<small>{esc(run.reason)}</small>",
            ago(run.created_at),
        ]
        for run in runs
    ]
    head = ("Run", "Kind", "State", "Took", "Policy", "Reason", "Started")
    return card("Recent runs", table(head, rows, empty="No run yet.", caption="Recent runs"))


def _duration(run: Run) -> str:
    if run.started_at is None:
        return "–"
    return describe_seconds(((run.finished_at or now()) - run.started_at).total_seconds())
