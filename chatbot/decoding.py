"""From logits to tokens and from tokens to text: drawing the next token, and joining tokens into whole characters.

Knows nothing of models, caches or prompts. Different from the textbook: each row draws from its own random stream, seeded by the
call's seed and the row's place, so a completion depends neither on what else is in the batch nor on what other threads draw;
and text is handed out only once it can no longer change, so that a character spread over several byte tokens never arrives broken.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from chatbot.records import Sampling

_BROKEN = "\ufffd"
_LONGEST_CHARACTER_TOKENS = 8
"""More pending tokens than this are not the beginning of a character any more but bytes that form none."""


_LONGEST_LOOP_TOKENS = 64
_LEAST_LOOPED_TOKENS = 24


def is_looping(token_ids: Sequence[int]) -> bool:
    """Whether a completion's end is one stretch said twice in a row, of at least 24 tokens together, or a shorter one more often.

    Greedy decoding of a small model cannot leave such a loop; what was written before it is worth keeping.

    >>> is_looping([7, 1, 2, 3] + [1, 2, 3] * 7)
    True
    >>> is_looping(list(range(100)))
    False
    """
    n = len(token_ids)
    for period in range(1, min(_LONGEST_LOOP_TOKENS, n // 2) + 1):
        looped = max(_LEAST_LOOPED_TOKENS, 2 * period)
        if n >= looped and all(
            token_ids[-i] == token_ids[-i - period] for i in range(1, looped - period + 1)
        ):
            return True
    return False


class TokenDrawer:
    """Draws one token per row and tells its log-probability at temperature 1."""

    def __init__(self, sampling: Sampling, n_rows: int, *, first_row: int = 0) -> None:
        self._sampling = sampling
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(62)
        self._streams = [random.Random(f"{seed}:{first_row + row}") for row in range(n_rows)]  # noqa: S311  # not for secrets
        self._drawn: list[list[float]] = [[] for _ in range(n_rows)]
        """Random numbers used by the latest call."""
        self._unused: list[list[float]] = [[] for _ in range(n_rows)]
        """Numbers given back, the next one last."""

    def draw(self, logits: Any, rows: Sequence[int]) -> tuple[list[int], list[float]]:
        """Draw the next token of some rows, or the next few of a row whose next few logits are known.

        Args:
            logits: (len(rows), V), any float type.
            rows: Which rows of the batch these are; each uses its own random stream.

        Returns:
            Token ids and their log-probabilities under `softmax(logits)`, whatever the temperature.
        """
        import torch

        logits = logits.float()
        if self._sampling.temperature <= 0:
            tokens = logits.argmax(dim=-1)
        else:
            for row in rows:
                self._drawn[row] = []
            uniform = [self._next(row) for row in rows]
            draws = torch.tensor(uniform, dtype=torch.float64, device=logits.device)
            tokens = _inverse_cdf(logits, self._sampling, draws)
        logprobs = torch.log_softmax(logits, dim=-1).gather(-1, tokens[:, None])[:, 0]
        return tokens.tolist(), logprobs.tolist()

    def give_back(self, row: int, n: int) -> None:
        """The last so many tokens that the latest call drew for a row are not written: the next ones are drawn with their numbers."""
        for _ in range(min(n, len(self._drawn[row]))):
            self._unused[row].append(self._drawn[row].pop())

    def _next(self, row: int) -> float:
        number = self._unused[row].pop() if self._unused[row] else self._streams[row].random()
        self._drawn[row].append(number)
        return number


def _inverse_cdf(logits: Any, sampling: Sampling, uniform: Any) -> Any:
    """Sample by inverting the cumulative distribution, cut to the nucleus and to what is likely enough beside the likeliest.

    Holtzman et al. 2020 (arXiv:1904.09751); Nguyen et al. 2024 (arXiv:2407.01082).

    Args:
        logits: (B, V) float.
        sampling: Temperature, above 0; the nucleus is the smallest set of likeliest tokens with at least `top_p`; see there for `min_p`.
        uniform: (B,) float64 in [0, 1).

    Returns:
        (B,) token ids.
    """
    import torch

    top_p = sampling.top_p
    probs = torch.softmax(logits.double() / sampling.temperature, dim=-1)  # (B, V)
    if sampling.min_p > 0.0:
        # A share of the likeliest is that share to the power of 1/T once the temperature is applied.
        least = probs.amax(dim=-1, keepdim=True) * sampling.min_p ** (1 / sampling.temperature)
        # What is left is not scaled up to 1: `top_p` counts the probability of everything, as where policies are trained (`alignment.rollouts`).
        probs = probs.masked_fill(probs < least, 0.0)
    order = None
    if top_p < 1.0:
        probs, order = probs.sort(dim=-1, descending=True)
        before = probs.cumsum(dim=-1) - probs
        # The likeliest token has nothing before it and always stays, even for top_p = 0.
        probs = probs.masked_fill((before >= top_p) & (before > 0), 0.0)
    cumulative = probs.cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True).clamp(max=probs.shape[-1] - 1)  # (B, 1)
    if order is not None:
        index = order.gather(-1, index)
    return index[:, 0]


class TextPieces:
    """Joins tokens into text piece by piece; the pieces joined are the completion's text.

    Leading and trailing white space is left out. A piece is held back while its last character may still be incomplete.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # Decoding starts a little before the new tokens: some tokenizers drop the space in front of the first one.
        self._context_from = 0
        self._emitted_to = 0
        self._held_space = ""
        self._started = False

    def add(self, token_id: int) -> str:
        """Take the next token; returns the text that is now certain, often empty or one word."""
        self._ids.append(token_id)
        context = self._decode(self._ids[self._context_from : self._emitted_to])
        text = self._decode(self._ids[self._context_from :])
        pending = len(self._ids) - self._emitted_to
        if text.endswith(_BROKEN) and pending <= _LONGEST_CHARACTER_TOKENS:
            return ""
        self._context_from, self._emitted_to = self._emitted_to, len(self._ids)
        return self._trim(text[len(context) :].replace(_BROKEN, ""))

    def _decode(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def _trim(self, piece: str) -> str:
        piece = self._held_space + piece
        if not self._started:
            piece = piece.lstrip()
        bare = piece.rstrip()
        self._held_space = piece[len(bare) :]
        self._started = self._started or bool(bare)
        return bare
