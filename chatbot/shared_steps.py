"""An engine for Llama-shaped models: everybody who writes shares the forward passes, and may come and go at any token.

Reading weights is most of the cost of a small model's step, and it is the same for one token and for several; so the rows of all chats stand in one
pass (continuous batching: Yu et al. 2022, Orca, section 3.1), each with its next token and a guess at those after it (`prompt_lookup`). Knows
nothing of prompts or sampling.

Different from the servers that do this: there is no thread of its own. Whoever waits for a token and finds nobody at work does the next step for
all; the others wait for what it writes for them. When nobody waits nothing runs, and there is nothing to start, stop or leak.

A step either reads the prompts of one newcomer or advances all rows; the two alternate while there are newcomers, so that a long prompt delays
those who are writing by one pass and no more.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chatbot.llama_forward import LlamaForward, RowCache
from chatbot.model_loading import LoadedModel
from chatbot.writing import Writing, Written

if TYPE_CHECKING:
    from torch import Tensor

_MOST_ROWS = 32
"""With more rows in one step everybody waits too long for a token; who comes then waits for somebody to finish."""
_LONGEST_GUESS = 15
_MOST_TOKENS = 64
"""Of one step, guesses included. A pass over more costs in proportion, and a wrong guess is then no longer nearly free."""


@dataclass(slots=True, eq=False)
class _Seat:
    """A writing's place at the table."""

    writing: Writing
    rows: list[RowCache] = field(default_factory=list)
    """Of the open rows, in their order; belongs to whoever is at work."""
    unread: Written = field(default_factory=list)
    """Written and not yet handed out."""
    error: RuntimeError | None = None
    gone: bool = False
    """Left, or failed: its rows are cleared away at the next step."""
    over: bool = False
    """No row is open any more."""


class SharedSteps:
    """Implements `Engine`."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Take over a loaded model for which `llama_forward.can_run` holds."""
        self._loaded = loaded
        self._forward = LlamaForward(loaded.model)
        self._table = threading.Condition()
        """Guards everything below; whoever changed it tells all who wait."""
        self._seats: dict[int, _Seat] = {}
        self._newcomers: deque[_Seat] = deque()
        self._at_work: int | None = None
        """The thread that does a step."""
        # What follows belongs to whoever is at work.
        self._seated: list[_Seat] = []
        """Who has rows under way."""
        self._read_last = False

    def step(self, writing: Writing) -> Written:
        """See `Engine.step`."""
        seat = self._seat(writing)
        while True:
            with self._table:
                while self._at_work is not None and not seat.unread and seat.error is None:
                    self._table.wait()
                if seat.error is not None:
                    raise seat.error
                if seat.unread or seat.over:
                    written, seat.unread = seat.unread, []
                    return written
                self._at_work = threading.get_ident()
            try:
                self._work()
            finally:
                with self._table:
                    self._at_work = None
                    self._table.notify_all()

    def leave(self, writing: Writing) -> Written:
        """See `Engine.leave`."""
        with self._table:
            # What is being written belongs to what is returned here. A stream that nobody closed may be swept up in the very thread that does
            # the step: that one does not wait for itself.
            while self._at_work not in {None, threading.get_ident()}:
                self._table.wait()
            seat = self._seats.pop(id(writing), None)
            if seat is None:
                return []
            seat.gone = True
            if seat in self._newcomers:
                self._newcomers.remove(seat)
            return seat.unread

    def _seat(self, writing: Writing) -> _Seat:
        with self._table:
            seat = self._seats.get(id(writing))
            if seat is None:
                seat = self._seats[id(writing)] = _Seat(writing, over=not writing.open_rows)
                if not seat.over:
                    self._newcomers.append(seat)
            return seat

    def _work(self) -> None:
        """One step. An error belongs to those whose rows were in it, not to whoever did the work."""
        import torch

        with torch.inference_mode():
            self._clear_away()
            newcomer = self._admit()
            seats = [newcomer] if newcomer else list(self._seated)
            try:
                said = [self._read(newcomer)] if newcomer else self._advance()
            except RuntimeError as error:
                self._fail(seats, error)
                return
            except BaseException:
                # Ctrl-C in the thread that did the work: nobody else may wait for a token that never comes.
                self._fail(seats, RuntimeError("the step was broken off"))
                raise
        with self._table:
            for seat, written in zip(seats, said, strict=True):
                seat.unread += written
                seat.over = not seat.writing.open_rows

    def _admit(self) -> _Seat | None:
        """The newcomer whose turn it is, unless those who are writing come first."""
        with self._table:
            n_rows = self._n_rows()
            wanted = len(self._newcomers[0].writing.open_rows) if self._newcomers else 0
            crowded = n_rows and n_rows + wanted > _MOST_ROWS
            if not self._newcomers or crowded or (n_rows and self._read_last):
                self._read_last = False
                return None
            self._read_last = True
            return self._newcomers.popleft()

    def _read(self, seat: _Seat) -> Written:
        """A newcomer's prompts, each different one once, and its first token; its rows join the others."""
        writing = seat.writing
        distinct: dict[tuple[int, ...], int] = {}
        places = [
            distinct.setdefault(tuple(writing.prompts[row]), len(distinct)) for row in writing.open_rows
        ]
        logits, rows = self._forward.read(list(distinct), writing.room)
        taken = writing.take(logits[places])
        free = dict(enumerate(rows))
        for place in (places[stay] for stay in taken.stays):
            seat.rows.append(free.pop(place) if place in free else rows[place].copy())
        if seat.rows:
            self._seated.append(seat)
        return taken.written

    def _advance(self) -> list[Written]:
        """A token more in each row of everybody, or several where the guesses are right."""
        if not self._seated:
            return []
        most = min(_LONGEST_GUESS, _MOST_TOKENS // self._n_rows() - 1)
        guesses = [seat.writing.guesses(most) for seat in self._seated]
        new = [
            [token, *guess]
            for seat, guessed in zip(self._seated, guesses, strict=True)
            for token, guess in zip(seat.writing.latest, guessed, strict=True)
        ]
        logits = self._forward.advance(new, [row for seat in self._seated for row in seat.rows])
        said, begin = [], 0
        for seat, guessed in zip(self._seated, guesses, strict=True):
            end = begin + sum(len(guess) + 1 for guess in guessed)
            said.append(self._take(seat, logits[begin:end], guessed))
            begin = end
        self._seated = [seat for seat in self._seated if seat.rows]
        return said

    @staticmethod
    def _take(seat: _Seat, logits: Tensor, guessed: list[list[int]]) -> Written:
        """Write, and let the caches forget the guesses that were wrong."""
        taken = seat.writing.take(logits, guessed)
        for row, guess, n_tokens in zip(seat.rows, guessed, taken.n_tokens, strict=True):
            row.length -= len(guess) + 1 - n_tokens
        seat.rows = [seat.rows[place] for place in taken.stays]
        return taken.written

    def _clear_away(self) -> None:
        """Rows of those who left."""
        with self._table:
            self._seated = [seat for seat in self._seated if not seat.gone]

    def _n_rows(self) -> int:
        return sum(len(seat.rows) for seat in self._seated)

    def _fail(self, seats: list[_Seat], error: RuntimeError) -> None:
        with self._table:
            for seat in seats:
                seat.error = error
                seat.gone = True
        # A pass that broke off has left the caches in the middle of a token.
        self._seated = [seat for seat in self._seated if seat not in seats]
