"""Errors of the chatbot, leaves of `knowledge_base.errors.TacitError`.

TacitError
├── GenerationError    the model could not be loaded or could not write
├── JudgeError         the model that judges evidence could not be loaded
├── SignInError        wrong name or password, disabled, or too many tries (one message for all: do not tell which)
├── FeedbackError      a judgement that cannot be stored: unknown answer, bad ranking, too many in a short time
└── PolicyError        a policy that may not serve: rejected, its bundle changed or gone, nothing to roll back to
"""

from __future__ import annotations

from knowledge_base.errors import TacitError


class GenerationError(TacitError):
    """The model cannot be loaded or cannot write."""


class JudgeError(TacitError):
    """The model that judges evidence cannot be loaded."""


class SignInError(TacitError):
    """Signing in failed."""


class FeedbackError(TacitError):
    """The judgement cannot be stored."""


class PolicyError(TacitError):
    """The policy may not serve, or its bundle is not what it was."""
