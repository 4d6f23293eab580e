"""`tacit raters`: how far each person's judgements can be trusted, and decisions about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ui.cli_documents import OPERATOR
from ui.cli_output import Context, command_options, table

if TYPE_CHECKING:
    from alignment.rater_reviews import Verdict


@click.group()
def raters() -> None:
    """Who judges reliably; whose judgements are left out of training, and why."""


@raters.command("list")
@command_options
def list_raters(context: Context) -> None:
    """Estimate everybody's reliability from the judgements that count now, the least reliable first."""
    from ui.wiring import open_services

    with open_services(context.home) as services:
        report = services.estimate_raters()
        names = {user.id: user.name for user in services.accounts.list()}
        reviews = services.rater_reviews.all()
    payload = {
        "raters": [
            rater.to_json()
            | {
                "name": names.get(rater.labeler_id, ""),
                "review": reviews[rater.labeler_id].verdict if rater.labeler_id in reviews else None,
            }
            for rater in report.raters
        ],
        "agreement": report.agreement,
        "shared_pairs": report.n_shared_pairs,
        "disagreements": list(report.disagreements),
    }
    rows = [
        [
            names.get(rater.labeler_id, rater.labeler_id),
            rater.n_judgements,
            f"{rater.reliability:.2f} ({rater.low:.2f} to {rater.high:.2f})",
            "-" if rater.agrees is None else f"{rater.agrees:.0%}",
            f"{rater.weight:.2f}",
            rater.reason or (reviews[rater.labeler_id].verdict if rater.labeler_id in reviews else ""),
        ]
        for rater in report.raters
    ]
    lines = table(rows, ["name", "judgements", "reliability", "agrees", "weight", "left out because"])
    if report.agreement is not None:
        lines.append(
            f"two people who compared the same two answers said the same in {report.agreement:.0%} of {report.n_shared_pairs:,} cases"
        )
    context.emit(payload, lines if rows else "nobody has rated, compared or ranked anything yet")


def _decide(context: Context, name: str, verdict: Verdict | None, note: str, text: str) -> None:
    from ui.wiring import open_services

    with open_services(context.home) as services:
        user = services.review_rater(name, verdict, actor=OPERATOR, note=note)
    context.emit({"name": user.name, "review": verdict}, f"{user.name}: {text}, from the next cycle on")


note_option = click.option("--note", default="", help="Why, for the audit trail.")


@raters.command()
@click.argument("name")
@note_option
@command_options
def trust(context: Context, name: str, note: str) -> None:
    """Count somebody's judgements whatever the estimate says."""
    _decide(context, name, "trusted", note, "judgements count")


@raters.command()
@click.argument("name")
@note_option
@command_options
def exclude(context: Context, name: str, note: str) -> None:
    """Leave somebody's judgements out."""
    _decide(context, name, "excluded", note, "judgements are left out")


@raters.command()
@click.argument("name")
@command_options
def undo(context: Context, name: str) -> None:
    """Take a decision back: the estimate decides again."""
    _decide(context, name, None, "", "the estimate decides")
