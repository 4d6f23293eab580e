"""Migrations, one numbered file each; append-only."""
