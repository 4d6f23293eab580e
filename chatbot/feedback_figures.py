"""Counts over judgements, for operators. Knows nothing of what they train; rater reliability is alignment's concern.

Different from a vote counter: only what counts is counted (the newest revision, unless withdrawn), and comparisons report how often
the left answer won, which is 0.5 when people read both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from chatbot import tables
from chatbot.answers import count_per_day


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackFigures:
    """How much people said, what, and how evenly."""

    n: int
    by_kind: Mapping[str, int]
    by_label: Mapping[str, int]
    """Ratings: `up` and `down`."""
    by_surface: Mapping[str, int]
    per_day: Sequence[tuple[str, int]]
    """(`2026-01-31`, count), oldest first, days in UTC without any left out."""
    per_user: Sequence[tuple[str, int]]
    """(user name, count), most first."""
    left_share: float | None
    """Of the comparisons of two with a winner and a known order: how often the left one won; None without any."""
    n_positioned: int
    """How many comparisons `left_share` rests on."""
    n_ties: int
    """Comparisons of two without a winner."""
    n_both_bad: int
    """Comparisons and rankings in which no answer was good enough."""
    n_withdrawn: int
    """Judgements taken back."""


def counting(since: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Conditions on the judgements table for rows that count: newest revision, not withdrawn, given after a time."""
    t, later = tables.judgements, tables.judgements.alias("later")
    conditions = [_is_newest(t, later), t.c.withdrawn.is_(False)]
    if since is not None:
        conditions.append(t.c.created_at > since)
    return conditions


def feedback_figures(connection: Connection) -> FeedbackFigures:
    """Count over everything stored."""
    t, users = tables.judgements, tables.users
    counts = sa.and_(*counting(None))
    by_kind = _grouped(connection, t.c.kind, counts)
    label = t.c.payload["label"].as_boolean()
    by_label = _grouped(connection, label, sa.and_(counts, t.c.kind == "rating"))
    amount = sa.func.count()
    per_user = connection.execute(
        sa.select(users.c.name, amount)
        .join(t, t.c.user_id == users.c.id)
        .where(counts)
        .group_by(users.c.name)
        .order_by(amount.desc(), users.c.name)
    ).all()
    withdrawn = sa.and_(_is_newest(t, tables.judgements.alias("later")), t.c.withdrawn.is_(True))
    left, decided, ties = _positions(connection, counts)
    return FeedbackFigures(
        n=sum(by_kind.values()),
        by_kind=by_kind,
        by_label={"up": by_label.get(True, 0), "down": by_label.get(False, 0)},
        by_surface=_grouped(connection, t.c.surface, counts),
        per_day=count_per_day(connection, t.c.created_at, counts),
        per_user=[(row[0], int(row[1])) for row in per_user],
        left_share=left / decided if decided else None,
        n_positioned=decided,
        n_ties=ties,
        n_both_bad=_count(connection, sa.and_(counts, t.c.payload["both_bad"].as_boolean().is_(True))),
        n_withdrawn=_count(connection, withdrawn),
    )


def _is_newest(t: sa.Table, later: sa.FromClause) -> sa.ColumnElement[bool]:
    return ~sa.exists().where(
        later.c.user_id == t.c.user_id,
        later.c.kind == t.c.kind,
        later.c.subject == t.c.subject,
        later.c.revision > t.c.revision,
    )


def _grouped(
    connection: Connection, column: sa.ColumnElement[Any], condition: sa.ColumnElement[bool]
) -> dict[Any, int]:
    rows = connection.execute(
        sa.select(column, sa.func.count()).select_from(tables.judgements).where(condition).group_by(column)
    )
    return {row[0]: int(row[1]) for row in rows.all()}


def _count(connection: Connection, condition: sa.ColumnElement[bool]) -> int:
    return connection.execute(
        sa.select(sa.func.count()).select_from(tables.judgements).where(condition)
    ).scalar_one()


def _positions(connection: Connection, condition: sa.ColumnElement[bool]) -> tuple[int, int, int]:
    """Left wins, decided comparisons with a known order, ties."""
    t = tables.judgements
    payloads = connection.execute(sa.select(t.c.payload).where(condition, t.c.kind == "comparison")).scalars()
    left = decided = ties = 0
    for payload in payloads:
        if len(payload["ranking"]) == 1:
            ties += 1
        elif payload["displayed_order"]:
            decided += 1
            left += payload["ranking"][0][0] == payload["displayed_order"][0]
    return left, decided, ties
