"""`tacit feedback` and `simulate`: judgements in and out of files, and simulated employees who make them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ui.cli_documents import OPERATOR
from ui.cli_output import Context, command_options, progress_bar, table


@click.group()
def feedback() -> None:
    """Import, count and export judgements."""


@feedback.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@command_options
def import_feedback(context: Context, file: Path) -> None:
    """Read judgements from a JSONL FILE; importing the same file twice adds nothing."""
    from chatbot.interchange import import_feedback as read_file
    from ui.wiring import open_services

    with open_services(context.home) as services:
        report = read_file(file, services.feedback, services.accounts)
        services.audit.record(OPERATOR, "feedback.import", file.name, **dataclasses.asdict(report))
    payload = dataclasses.asdict(report)
    context.emit(payload, ", ".join(f"{k} {v}" for k, v in payload.items()))


@feedback.command()
@command_options
def stats(context: Context) -> None:
    """How many judgements there are, by kind and label."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        figures = dataclasses.asdict(services.feedback.stats())
    context.emit(figures, table(list(figures.items()), ["figure", "value"]))


@feedback.command()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "trl-preference", "trl-unpaired", "trl-prompt-completion"]),
    default="jsonl",
    show_default=True,
)
@click.argument("out", type=click.Path(path_type=Path))
@command_options
def export(context: Context, kind: str, out: Path) -> None:
    """Write all current judgements to the file OUT."""
    from chatbot.interchange import export_feedback
    from ui.wiring import open_services

    with open_services(context.home) as services:
        report = export_feedback(out, services.feedback, services.accounts, kind=kind)
    payload = dataclasses.asdict(report) | {"out": out}
    context.emit(payload, ", ".join(f"{k} {v}" for k, v in payload.items()))


@click.command()
@click.argument("questions", type=click.Path(path_type=Path))
@click.option("--preferences", required=True, help="FILE.py:FUNCTION, the employees' taste.")
@click.option("--turns", default=300, show_default=True, type=click.IntRange(1))
@click.option("--users", default=10, show_default=True, type=click.IntRange(1))
@click.option(
    "--noise", default=0.0, show_default=True, type=click.FloatRange(0, 1), help="Share of random judgements."
)
@click.option(
    "--clickers", default=0.0, type=click.FloatRange(0, 1), help="Share of employees who do not look."
)
@click.option("--lazy", default=0.0, type=click.FloatRange(0, 1), help="Share who like whatever comes first.")
@click.option(
    "--adversaries",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Share who push --entity together, and else prefer the worst.",
)
@click.option("--entity", default="", help="What the adversaries push.")
@click.option(
    "--drifting",
    default=0.0,
    type=click.FloatRange(0, 1),
    help="Share whose taste turns to --later half way.",
)
@click.option("--later", default="", help="FILE.py:FUNCTION, the taste they drift to.")
@click.option("--kinds", default="rating,comparison,ranking,demonstration", show_default=True)
@click.option("--collection", "collections", multiple=True, help="Search only here; may be repeated.")
@click.option("--seed", default=0, show_default=True)
@command_options
def simulate(
    context: Context,
    questions: Path,
    preferences: str,
    turns: int,
    users: int,
    noise: float,
    clickers: float,
    lazy: float,
    adversaries: float,
    entity: str,
    drifting: float,
    later: str,
    kinds: str,
    collections: tuple[str, ...],
    seed: int,
) -> None:
    """Let simulated employees ask QUESTIONS of the serving policy and judge its answers."""
    from alignment.preferences import load_preferences
    from alignment.simulated_employees import EmployeeMix
    from alignment.simulation import SimulationSettings
    from alignment.simulation import simulate as run_simulation
    from knowledge_base.questions import load_questions
    from ui.wiring import open_services

    chosen = tuple(k.strip() for k in kinds.split(",") if k.strip())
    mix = EmployeeMix(
        clickers=clickers,
        lazy=lazy,
        adversaries=adversaries,
        entity=entity,
        drifting=drifting,
        later=load_preferences(later) if later else None,
    )
    settings = SimulationSettings(turns=turns, users=users, noise=noise, mix=mix, kinds=chosen, seed=seed)  # type: ignore[arg-type]  # its __post_init__ checks the names
    prefer = load_preferences(preferences)
    asked = [q.question for q in load_questions(questions)]
    with open_services(context.home) as services, progress_bar("Simulating") as update:
        people = [services.accounts.ensure(f"sim-{i + 1:02d}") for i in range(users)]
        report = run_simulation(
            asked,
            prefer,
            services.assistant,
            user_ids=[p.id for p in people],
            readers=[p.as_reader() for p in people],
            collections=list(collections) or None,
            store_answer=lambda answer, user_id: services.answers.save(answer, user_id, "simulation"),
            store_judgement=services.feedback.add,
            settings=dataclasses.replace(settings, max_new_tokens=services.settings.assistant.max_new_tokens),
            progress=lambda done, total: update(done, total, ""),
        )
    names = {person.id: person.name for person in people}
    by_name = {names[user]: kind for user, kind in report.employees.items()}
    payload = dataclasses.asdict(report) | {
        "employees": by_name,
        "seed": seed,
        "users": users,
        "noise": noise,
    }
    context.emit(
        payload,
        f"{report.turns} judgements: {report.by_kind}, {report.noisy} random, {report.ties} with ties",
    )
