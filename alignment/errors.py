"""Errors of training, leaves of `knowledge_base.errors.TacitError`.

TacitError
├── TrainingError       a stage cannot start or go on: too little data, not finite, no memory
└── RunCancelled        somebody cancelled the run, or took it over; not a failure
"""

from __future__ import annotations

from knowledge_base.errors import TacitError


class TrainingError(TacitError):
    """A training stage cannot start or go on."""


class RunCancelled(TacitError):  # noqa: N818 -- the outcome's own word, as asyncio.CancelledError is not named for an error either
    """The run was cancelled by a person, or another process has it: whoever worked on it stops and changes nothing."""
