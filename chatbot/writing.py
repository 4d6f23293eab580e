"""Completions while they are written: which rows are open, what each has said, when it is over.

Takes logits and gives pieces of text. Knows nothing of models, caches or threads: an engine (`turn_taking`, `shared_steps`) decides when the next
logits come and with whom they share a forward pass.

Shapes: R open rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from chatbot.decoding import TextPieces, TokenDrawer, is_looping
from chatbot.model_loading import LoadedModel
from chatbot.records import Completion, Sampling
from chatbot.repetition import UnrepeatedText

Written = list[tuple[int, str]]
"""New text by row; often empty text, since a token may be part of a character."""


class Writing:
    """Prompts being completed by one call."""

    def __init__(
        self, loaded: LoadedModel, prompts: Sequence[list[int]], sampling: Sampling, first_row: int
    ) -> None:
        """Begin; nothing is written yet.

        Args:
            loaded: Its tokenizer, end tokens and context.
            prompts: Token ids, each shorter than the context.
            sampling: How to draw.
            first_row: Place of the first prompt in the caller's list: it decides the rows' random streams.
        """
        self.prompts = prompts
        self._end_ids = loaded.end_ids
        self._drawer = TokenDrawer(sampling, len(prompts), first_row=first_row)
        self._room = [min(sampling.max_new_tokens, loaded.context_tokens - len(p)) for p in prompts]
        self._ids: list[list[int]] = [[] for _ in prompts]
        self._logprobs = [0.0 for _ in prompts]
        self._texts = ["" for _ in prompts]
        self._pieces = [TextPieces(loaded.tokenizer) for _ in prompts]
        self._unrepeated = [UnrepeatedText() for _ in prompts]
        self._ended = [False for _ in prompts]
        self.open_rows = [row for row in range(len(prompts)) if self._room[row] > 0]
        """Rows still being written."""

    @property
    def latest(self) -> list[int]:
        """The newest token of each open row."""
        return [self._ids[row][-1] for row in self.open_rows]

    @property
    def room(self) -> int:
        """Tokens that the longest row may still get."""
        return max((self._room[row] - len(self._ids[row]) for row in self.open_rows), default=0)

    def take(self, logits: Any) -> tuple[Written, list[int]]:
        """Write one token in each open row.

        Args:
            logits: (R, V), in the order of `open_rows`.

        Returns:
            The new text, and the places among the R rows that stay open.
        """
        rows = self.open_rows
        written = []
        for row, token, logprob in zip(rows, *self._drawer.draw(logits, rows), strict=True):
            written.append((row, self._add(row, token, logprob)))
        stays = [place for place, row in enumerate(rows) if not self._is_over(row)]
        self.open_rows = [rows[place] for place in stays]
        return written, stays

    def completions(self) -> list[Completion]:
        """What has been written so far, in the order of the prompts."""
        return [
            Completion(text=text, token_ids=tuple(ids), logprob=logprob, ended=ended)
            for text, ids, logprob, ended in zip(
                self._texts, self._ids, self._logprobs, self._ended, strict=True
            )
        ]

    def _add(self, row: int, token: int, logprob: float) -> str:
        self._ids[row].append(token)
        self._logprobs[row] += logprob
        self._ended[row] = token in self._end_ids
        piece = "" if self._ended[row] else self._unrepeated[row].add(self._pieces[row].add(token))
        if self._is_over(row):
            piece += self._unrepeated[row].end()
        self._texts[row] += piece
        return piece

    def _is_over(self, row: int) -> bool:
        return (
            self._ended[row]
            or len(self._ids[row]) >= self._room[row]
            or self._unrepeated[row].said_again
            or is_looping(self._ids[row])
        )


class Engine(Protocol):
    """Runs a model for everybody who writes with it. Thread-safe."""

    def step(self, writing: Writing) -> Written:
        """Wait for at least one more token in each open row; returns what was written since the last call, nothing when no row is open.

        Raises:
            RuntimeError: the forward pass failed; this writing is over.
        """

    def leave(self, writing: Writing) -> Written:
        """Stop writing, ended or not, and let go of what is kept for it; returns text not handed out yet, nothing when it has left before."""
