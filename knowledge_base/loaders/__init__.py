"""Loaders: one file per format family, each turning bytes into a parsed document."""

LOADERS_VERSION = "1"
"""Counted up when the same bytes are read into other text, so that an ingest knows to read unchanged files again."""
