"""What ops see of raters and do with them."""

from __future__ import annotations

import pytest

from alignment.rater_records import RaterEstimate, RaterReport
from chatbot.records import User
from knowledge_base.errors import AccessDeniedError, NotFoundError, UsageError
from tests.ui.page_fakes import act, add_user
from ui import rater_handlers, rater_view
from ui.ops_page import _OpsEvents
from ui.training import known_raters
from ui.wiring import Services


@pytest.fixture
def priya(services: Services) -> User:
    """An operator."""
    return add_user(services, "priya", "ops")


@pytest.fixture
def carl(services: Services) -> User:
    """Somebody who clicks."""
    return add_user(services, "carl", "employee")


def report(*users: User, reason: str = "") -> RaterReport:
    """Everybody guesses."""
    estimates = [
        RaterEstimate(
            labeler_id=user.id, n_judgements=30, reliability=0.1, low=0.0, high=0.3, agrees=0.5, weight=0.0, reason=reason
        )
        for user in users
    ]  # fmt: skip
    return RaterReport(raters=estimates, agreement=0.75, n_shared_pairs=8)


def test_somebody_in_quarantine_is_shown_with_the_reason(services: Services, carl: User) -> None:
    """And can be trusted."""
    view = rater_handlers.load_raters(services, report(carl, reason="no better than <chance>"))
    shown = rater_view.render_raters(view)

    assert "carl" in shown
    assert "no better than &lt;chance&gt;" in shown
    assert "trust-rater" in shown
    assert "75% of 8 cases" in shown


def test_a_decision_is_shown_audited_and_can_be_taken_back(
    services: Services, priya: User, carl: User
) -> None:
    """It reaches the next cycle."""
    message = rater_handlers.review_rater(services, priya, act("exclude-rater", name="carl"))

    assert "carl" in message
    assert [carl.id] == list(known_raters(services).excluded)
    assert ("rater.review", "priya") == (services.audit.list(1)[0].action, services.audit.list(1)[0].actor)
    assert "left out" in rater_view.render_raters(rater_handlers.load_raters(services, report(carl)))

    rater_handlers.review_rater(services, priya, act("trust-rater", name="carl"))
    assert ([carl.id], []) == (list(known_raters(services).trusted), list(known_raters(services).excluded))

    rater_handlers.review_rater(services, priya, act("undo-rater", name="carl"))
    assert [] == list(known_raters(services).trusted)


def test_a_decision_goes_with_the_account(services: Services, priya: User, carl: User) -> None:
    """Nothing is kept about somebody who was deleted."""
    rater_handlers.review_rater(services, priya, act("exclude-rater", name="carl"))
    services.accounts.delete(carl.id)

    assert {} == services.rater_reviews.all()
    assert [] == list(rater_handlers.load_raters(services, report(carl)).rows)


def test_the_newest_cycle_that_estimated_is_shown(services: Services, carl: User) -> None:
    """By its id."""
    run = services.runs.create("cycle", {})
    services.runs.start(run.id)
    metrics = {"raters": [rater.to_json() for rater in report(carl).raters]}
    services.runs.finish(run.id, policy_id=None, gates=(), promoted=False, reason="", metrics=metrics)

    view = rater_handlers.load_raters(services)

    assert (run.id, ["carl"]) == (view.run_id, [row.name for row in view.rows])
    assert run.id in rater_view.render_raters(view)


def test_without_judgements_an_estimate_finds_nobody(services: Services) -> None:
    """And the page says what will come."""
    fresh = rater_handlers.load_raters(services, services.estimate_raters())

    assert "Nobody has rated" in rater_view.render_raters(fresh)
    assert "None has yet" in rater_view.render_raters(rater_handlers.load_raters(services))


def test_unknown_people_and_acts_are_refused(services: Services, priya: User) -> None:
    """By name."""
    with pytest.raises(NotFoundError, match="nobody"):
        rater_handlers.review_rater(services, priya, act("trust-rater", name="nobody"))
    with pytest.raises(UsageError, match="unknown act"):
        rater_handlers.review_rater(services, priya, act("promote"))


def test_raters_are_for_ops_only(services: Services, carl: User) -> None:
    """The page's own event checks the role."""
    from types import SimpleNamespace

    with pytest.raises(AccessDeniedError):
        _OpsEvents(services).load(SimpleNamespace(username="carl"))  # type: ignore[arg-type]
