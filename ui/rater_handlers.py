"""What the ops page shows of raters and does with them. Plain functions on services, a person and values; knows nothing of pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from alignment.rater_records import RaterEstimate, RaterReport
from alignment.rater_reviews import RaterReview, Verdict
from chatbot.records import User
from knowledge_base.errors import UsageError
from ui.fragments import Act

if TYPE_CHECKING:
    from ui.wiring import Services

_RUNS_LOOKED_AT = 20
_VERDICTS: dict[str, Verdict | None] = {
    "trust-rater": "trusted",
    "exclude-rater": "excluded",
    "undo-rater": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterRow:
    """One person."""

    name: str
    estimate: RaterEstimate
    review: RaterReview | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RatersView:
    """Everybody who judged, the least reliable first."""

    rows: Sequence[RaterRow]
    is_fresh: bool = False
    """Estimated just now."""
    run_id: str = ""
    """The cycle that estimated, where one did."""
    estimated_at: datetime | None = None
    agreement: float | None = None
    n_shared_pairs: int = 0


def load_raters(services: Services, report: RaterReport | None = None) -> RatersView:
    """A fresh report, or what the newest cycle found."""
    if report is not None:
        return RatersView(
            rows=_rows(services, report.raters),
            is_fresh=True,
            agreement=report.agreement,
            n_shared_pairs=report.n_shared_pairs,
        )
    for run in services.runs.list(_RUNS_LOOKED_AT):
        if run.metrics.get("raters"):
            estimates = [RaterEstimate.from_json(value) for value in run.metrics["raters"]]
            return RatersView(
                rows=_rows(services, estimates),
                run_id=run.id,
                estimated_at=run.finished_at or run.created_at,
            )
    return RatersView(rows=())


def _rows(services: Services, estimates: Sequence[RaterEstimate]) -> list[RaterRow]:
    names = {user.id: user.name for user in services.accounts.list()}
    reviews = services.rater_reviews.all()
    # Who was deleted since is not shown: nothing of them is left but a number in an old run.
    return [
        RaterRow(name=names[estimate.labeler_id], estimate=estimate, review=reviews.get(estimate.labeler_id))
        for estimate in estimates
        if estimate.labeler_id in names
    ]


def review_rater(services: Services, user: User, act: Act) -> str:
    """Carry out trust-rater, exclude-rater or undo-rater; returns a message.

    Raises:
        NotFoundError: there is no such person.
        UsageError: there is no such act.
    """
    if act.name not in _VERDICTS:
        raise UsageError(f"the page sent an unknown act {act.name[:40]!r}: reload it")
    verdict = _VERDICTS[act.name]
    name = services.review_rater(act.text("name"), verdict, actor=user.name).name
    if verdict == "trusted":
        return f"The judgements of {name} count from the next cycle on, whatever the estimate says."
    if verdict == "excluded":
        return f"The judgements of {name} are left out from the next cycle on."
    return f"The estimate decides about {name} again."
