"""The ops page's piece about raters. Records to HTML, nothing else."""

from __future__ import annotations

from ui.fragments import ago, badge, button, card, esc, table
from ui.rater_handlers import RaterRow, RatersView

_HEAD = ("Person", "Judgements", "Reliability", "Agrees with others", "Weight", "State", "")


def render_raters(view: RatersView) -> str:
    """Who judges how reliably, with what can be done about it."""
    estimate = button("Estimate now", "estimate-raters", kind="small")
    if not view.rows:
        why = (
            "Nobody has rated, compared or ranked anything yet."
            if view.is_fresh
            else "Each cycle estimates from the judgements how far each person's can be trusted. None has yet."
        )
        return card("People who judge", f"<p class='t-muted'>{why}</p>", aside=estimate)
    when = (
        f"Estimated by run <code>{esc(view.run_id)}</code> {ago(view.estimated_at)}."
        if not view.is_fresh
        else "Estimated just now."
    )
    shared = (
        f" Two people who compared the same two answers said the same in {view.agreement:.0%} of {view.n_shared_pairs:,} cases."
        if view.agreement is not None
        else ""
    )
    rows = table(
        _HEAD, [_row(row) for row in view.rows], empty="Nobody has judged yet.", caption="People who judge"
    )
    return card("People who judge", f"<p class='t-muted'>{when}{shared}</p>{rows}", aside=estimate)


def _row(row: RaterRow) -> list[str]:
    found = row.estimate
    return [
        f"<div class='t-name'>{esc(row.name)}</div>",
        f"{found.n_judgements:,}",
        f"<div>{found.reliability:.0%} <small>({found.low:.0%} to {found.high:.0%})</small></div>",
        "–" if found.agrees is None else f"{found.agrees:.0%}",
        f"{found.weight:.2f}",
        _state(row),
        _acts(row),
    ]


def _state(row: RaterRow) -> str:
    if row.review is not None:
        by = f" <small>by {esc(row.review.reviewed_by)} {ago(row.review.reviewed_at)}</small>"
        words, kind = {"trusted": ("trusted", "good"), "excluded": ("left out", "bad")}[row.review.verdict]
        return f"<div>{badge(words, kind)}{by}</div>"
    if row.estimate.reason:
        return f"<div>{badge('in quarantine', 'bad')} <small>{esc(row.estimate.reason)}</small></div>"
    return badge("counts", "good")


def _acts(row: RaterRow) -> str:
    if row.review is not None:
        return button("Let the estimate decide", "undo-rater", kind="small", data_name=row.name)
    trust = button("Trust", "trust-rater", kind="small", data_name=row.name) if row.estimate.reason else ""
    leave_out = button(
        "Leave out", "exclude-rater", kind="danger small", data_name=row.name,
        data_confirm=f"Leave out all judgements of {row.name} from the next cycle on? You can take it back.",
        data_confirm_label="Leave out",
    )  # fmt: skip
    return trust + ("" if row.estimate.reason else leave_out)
