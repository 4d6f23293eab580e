"""Completions while they are written: which rows are open, what each has said, when it is over.

Takes logits and gives pieces of text. Knows nothing of models, caches or threads: an engine (`turn_taking`, `shared_steps`) decides when the next
logits come and with whom they share a forward pass.

Shapes: R open rows, N logits of a row, one and as many more as tokens were guessed, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatbot.decoding import TextPieces, TokenDrawer, is_looping
from chatbot.model_loading import LoadedModel
from chatbot.prompt_lookup import PromptLookup
from chatbot.records import Completion, Sampling
from chatbot.repetition import UnrepeatedText

Written = list[tuple[int, str]]
"""New text by row; often empty text, since a token may be part of a character."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of some logits."""

    written: Written
    n_tokens: list[int]
    """How many tokens each of the R rows got."""
    stays: list[int]
    """The places among the R rows that stay open."""


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
        self._lookups: dict[int, PromptLookup] = {}
        """Made for those rows that somebody guesses for."""
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

    def guesses(self, most: int) -> list[list[int]]:
        """For each open row up to so many tokens that may follow its newest one."""
        return [
            self._lookup(row).guess(min(most, self._room[row] - len(self._ids[row]) - 1)) for row in self.open_rows
        ]  # fmt: skip

    def take(self, logits: Any, guessed: Sequence[Sequence[int]] | None = None) -> Taken:
        """Write one token in each open row, and another for each guess that is drawn too.

        Args:
            logits: (R, V), in the order of `open_rows`; with guesses (sum of N, V), row after row: what follows the newest token, and
                what follows each of the guesses.
            guessed: Tokens of each row.
        """
        rows = self.open_rows
        guessed = guessed if guessed is not None else [() for _ in rows]
        n_logits = [len(tokens) + 1 for tokens in guessed]
        tokens, logprobs = self._drawer.draw(
            logits, [row for row, n in zip(rows, n_logits, strict=True) for _ in range(n)]
        )
        written, n_tokens, begin = list[tuple[int, str]](), list[int](), 0
        for row, guess, n in zip(rows, guessed, n_logits, strict=True):
            end = begin + n
            pieces = self._add_while_guessed(row, tokens[begin:end], logprobs[begin:end], guess)
            written += [(row, piece) for piece in pieces]
            n_tokens.append(len(pieces))
            self._drawer.give_back(row, n - len(pieces))
            begin = end
        stays = [place for place, row in enumerate(rows) if not self._is_over(row)]
        self.open_rows = [rows[place] for place in stays]
        return Taken(written, n_tokens, stays)

    def completions(self) -> list[Completion]:
        """What has been written so far, in the order of the prompts."""
        return [
            Completion(text=text, token_ids=tuple(ids), logprob=logprob, ended=ended)
            for text, ids, logprob, ended in zip(
                self._texts, self._ids, self._logprobs, self._ended, strict=True
            )
        ]

    def _add_while_guessed(
        self, row: int, tokens: Sequence[int], logprobs: Sequence[float], guess: Sequence[int]
    ) -> list[str]:
        """The first token follows what is written; each further one follows a guess, and counts while the guesses were right."""
        pieces = []
        for token, logprob, guessed in zip(tokens, logprobs, [*guess, None], strict=True):
            pieces.append(self._add(row, token, logprob))
            if token != guessed or self._is_over(row):
                break
        return pieces

    def _lookup(self, row: int) -> PromptLookup:
        if row not in self._lookups:
            self._lookups[row] = PromptLookup([*self.prompts[row], *self._ids[row]])
        return self._lookups[row]

    def _add(self, row: int, token: int, logprob: float) -> str:
        self._ids[row].append(token)
        if row in self._lookups:
            self._lookups[row].add(token)
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
