"""What a streamed turn tells while it happens. Frozen values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.records import Answer, PreparedTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPrepared:
    """Passages and evidence are chosen; the model is about to write. Comes first, once."""

    prepared: PreparedTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class TextWritten:
    """A piece of the completion, with raw `[n]` in the prompt's numbering: a preview, which the answer replaces."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFinished:
    """The answer as it counts: grounded, citations renumbered. Comes last, once."""

    answer: Answer


TurnEvent = TurnPrepared | TextWritten | TurnFinished
