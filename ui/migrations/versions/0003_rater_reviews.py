"""Decisions about raters: who is trusted, whose judgements are left out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from knowledge_base.database import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "rater_reviews",
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reviewed_at", UtcDateTime(), nullable=False),
        sa.Column("reviewed_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_rater_reviews_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_rater_reviews")),
    )


def downgrade() -> None:
    """Remove it: everybody is left to the estimate."""
    op.drop_table("rater_reviews")
