"""The training tables: runs and the schedule."""

from __future__ import annotations

import sqlalchemy as sa

from knowledge_base.database import UtcDateTime, metadata

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("progress", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("gates", sa.JSON, nullable=False),
    sa.Column("policy_id", sa.String(64)),
    sa.Column("promoted", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("directory", sa.Text, nullable=False),
    sa.Column("feedback_until", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
)

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # one row
    sa.Column("cron", sa.Text),  # null: not by the clock
    sa.Column("min_feedback", sa.Integer),  # null: not by the number of new judgements
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)

rater_reviews = sa.Table(
    "rater_reviews",
    metadata,
    sa.Column("user_id", sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("reviewed_at", UtcDateTime, nullable=False),
    sa.Column("reviewed_by", sa.Text, nullable=False),
)
