"""Loaders: one file per format family, each turning bytes into a parsed document."""
