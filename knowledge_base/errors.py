"""Errors people can act on, and the tree they form.

The tree:

TacitError                  base; `permanent` says whether trying again can help
├── UsageError              the call itself is wrong (exit code 2)
├── NotFoundError           an unknown user, document, collection, policy, run (exit code 1)
├── AccessDeniedError       known, but not for this person
├── DocumentError           one file cannot be read; the rest goes on
├── StorageError            the home directory or database cannot be used (newer version, disk full, no permission)
├── EmbedderError           the embedding model is missing or its weights are not the known ones
└── RerankerError           the reranking model that the settings name is missing

`chatbot`, `alignment` and `ui` derive theirs from these. Every message is one line that says what to do next.
"""

from __future__ import annotations


class TacitError(Exception):
    """Something went wrong that a person can act on; the message is one clear line."""

    permanent: bool = True
    """False when the same call may succeed later."""


class UsageError(TacitError):
    """The call is wrong: a bad option, path or value."""


class NotFoundError(TacitError):
    """There is no such thing."""


class AccessDeniedError(TacitError):
    """The person may not do or see this."""


class DocumentError(TacitError):
    """A document cannot be read or parsed."""


class StorageError(TacitError):
    """The store cannot be opened or written."""


class RerankerError(TacitError):
    """The reranker cannot be loaded."""


class EmbedderError(TacitError):
    """The embedder cannot be loaded or is not the expected one."""
