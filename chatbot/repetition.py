"""Keeps a completion from saying again what it has said.

Greedy decoding of a small model often goes on after its answer, and the likeliest way on is the same sentence. Knows nothing of models or
tokens: pieces of text in, pieces of text out. Different from an n-gram ban (`no_repeat_ngram_size` of transformers): a ban makes the model
swerve in the middle of the sentence and write what no document says; here the second time is taken back and the completion ends.
"""

from __future__ import annotations

import re

from chatbot.prompt import strip_citations

_MARKS = re.compile(r"(?:\s*\[\d{1,2}\])+")
_OPEN_MARK = re.compile(r"\s*\[\d{0,2}$")


class UnrepeatedText:
    """A completion as it grows, one statement after the other.

    A statement is what stands before citation marks. While the newest one reads like the beginning of an earlier one it is held back, so
    that a reader never sees it come and go.
    """

    def __init__(self) -> None:
        self.said_again = False
        """A statement was repeated: nothing further is worth writing."""
        self._said: set[str] = set()
        self._newest = ""
        self._n_shown = 0

    def add(self, piece: str) -> str:
        """Take the next piece of the completion; returns what may be shown now.

        >>> text = UnrepeatedText()
        >>> [text.add(piece) for piece in ("Ask Ana. [1]", " Ask", " Bo. [2]", " Ask Ana", ". [1]")]
        ['Ask Ana. [1]', '', ' Ask Bo. [2]', '', '']
        >>> text.said_again
        True
        """
        if self.said_again:
            return ""
        shown = ""
        self._newest += piece
        while marks := _MARKS.search(self._newest):
            statement = _bare(self._newest[: marks.start()])
            if statement in self._said:
                self.said_again = True
                return shown
            # Marks right after marks state nothing.
            self._said |= {statement} - {""}
            shown += self._newest[self._n_shown : marks.end()]
            self._newest, self._n_shown = self._newest[marks.end() :], 0
        return shown if self._may_repeat() else shown + self._show()

    def end(self) -> str:
        """The completion is over; returns what was held back and turned out not to repeat anything."""
        return "" if self.said_again or _bare(self._newest) in self._said else self._show()

    def _show(self) -> str:
        shown, self._n_shown = self._newest[self._n_shown :], len(self._newest)
        return shown

    def _may_repeat(self) -> bool:
        begun = _bare(_OPEN_MARK.sub("", self._newest))
        return any(statement.startswith(begun) for statement in self._said)


def _bare(text: str) -> str:
    return " ".join(strip_citations(text).split()).strip(" .!?")
