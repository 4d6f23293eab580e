"""The one Alembic history, kept in the only layer that sees every table."""
