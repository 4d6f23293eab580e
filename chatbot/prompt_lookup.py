"""Guesses the next tokens of a text that quotes: what followed when its newest tokens stood in the prompt, or in what it has written, before.

An answer from documents is mostly their words, so the guesses are mostly right; a forward pass over a guess tells where it goes wrong, and costs
little more than one over a single token (Yang et al. 2023, Inference with Reference, arXiv:2304.04487, section 3; Saxena 2023, prompt lookup
decoding). Knows nothing of models, text or sampling.

Different from speculation with a draft model (Leviathan et al. 2023, arXiv:2211.17192): a guess is one sequence of tokens and no distribution, so a
token is kept exactly when the model draws it too, with the same random number as without a guess. Nothing is accepted or rejected by chance, and
what is written is the same with guesses and without.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST_CONTEXT, _SHORTEST_CONTEXT = 3, 2
"""Tokens that must have stood there before. One alone is found everywhere and says little."""


class PromptLookup:
    """A row's prompt and completion so far."""

    def __init__(self, prompt: Sequence[int]) -> None:
        """Read the prompt."""
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Where what followed a few tokens begins, the last time that they stood anywhere but at the end."""
        for token in prompt:
            self.add(token)

    def add(self, token: int) -> None:
        """Take the next token.

        >>> text = PromptLookup([5, 6, 7, 8, 9, 5])
        >>> text.add(6)
        >>> text.guess(3)
        [7, 8, 9]
        """
        # The contexts that end here are filed now that something follows them.
        for size in range(_SHORTEST_CONTEXT, _LONGEST_CONTEXT + 1):
            if len(self._ids) >= size:
                self._after[tuple(self._ids[-size:])] = len(self._ids)
        self._ids.append(token)

    def guess(self, most: int) -> list[int]:
        """What may follow, at most so many tokens; empty when the end is new.

        >>> PromptLookup([5, 6, 7, 8]).guess(3)
        []
        """
        for size in range(_LONGEST_CONTEXT, _SHORTEST_CONTEXT - 1, -1):
            begin = self._after.get(tuple(self._ids[-size:]))
            if begin is not None:
                return self._ids[begin : begin + max(most, 0)]
        return []
