"""What a reward model makes of mere length, so that it can be taken out of its scores.

People who compare answers prefer the longer one whatever it says (Singhal et al. 2023, arXiv:2310.03716), and a policy that maximises what was learned
from them grows. Where a company does not want its answers' length to be decided by votes, the score is replaced by what length does not explain.

Different from a penalty on tokens: nothing is chosen by us, the effect may bend (a piecewise linear function of the number of words), and it is taken out
of the whole score, of what the language model learned and of traits that go with length as well. Knows nothing of models: texts and scores in.

Shapes: C completions, M members of the ensemble, F terms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatbot.prompt import is_refusal, strip_citations

_KNOTS = (0, 25, 50, 100, 200)
"""Numbers of words at which the effect of one more may change."""
_PENALTY = 1e-6
"""Of squared weights per completion: keeps the fit defined where all completions are of one length."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthEffect:
    """Each member's score as a function of the number of words; 0 on average over what it was fitted to."""

    weights: tuple[tuple[float, ...], ...]
    """(M, F) nats per unit of a term."""
    means: tuple[float, ...]
    """(F,) of the terms."""
    shortest: int
    """Words of the shortest answer it was fitted to; fewer are worth as much."""
    longest: int
    """Words of the longest one: nothing is known of longer ones, and a line that is drawn on pays hundreds of words without bound."""

    def of(self, completion: str) -> tuple[float, ...]:
        """(M,) what its length is worth to each member, in nats; nothing for a refusal, whose length nobody chose."""
        if is_refusal(completion):
            return (0.0,) * len(self.weights)
        n_words = min(max(count_words(completion), self.shortest), self.longest)
        terms = [value - mean for value, mean in zip(_terms(n_words), self.means, strict=True)]
        return tuple(sum(w * t for w, t in zip(row, terms, strict=True)) for row in self.weights)

    def to_json(self) -> dict[str, Any]:
        """A value for JSON; `from_json` reads it."""
        return {
            "weights": [list(row) for row in self.weights],
            "means": list(self.means),
            "shortest": self.shortest,
            "longest": self.longest,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LengthEffect:
        """What `to_json` wrote."""
        return cls(
            weights=tuple(tuple(row) for row in value["weights"]),
            means=tuple(value["means"]),
            shortest=value["shortest"],
            longest=value["longest"],
        )


def fit_length_effect(completions: Sequence[str], scores: Sequence[Sequence[float]]) -> LengthEffect:
    """Least squares, each member by itself.

    Args:
        completions: C texts; refusals are left out.
        scores: (C, M) in nats.
    """
    kept = [at for at, text in enumerate(completions) if not is_refusal(text)]
    members = len(scores[0]) if scores else 1
    if not kept:
        none = (0.0,) * len(_terms(0))
        return LengthEffect(weights=(none,) * members, means=none, shortest=0, longest=0)
    lengths = [count_words(completions[at]) for at in kept]
    terms: NDArray[np.float64] = np.array([_terms(n_words) for n_words in lengths])
    means = terms.mean(axis=0)
    centred = terms - means
    found = np.array([scores[at] for at in kept], dtype=np.float64)
    gram = centred.T @ centred + _PENALTY * len(kept) * np.eye(centred.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (found - found.mean(axis=0))).T  # (M, F)
    return LengthEffect(
        weights=tuple(tuple(map(float, row)) for row in weights),
        means=tuple(map(float, means)),
        shortest=min(lengths),
        longest=max(lengths),
    )


def count_words(completion: str) -> int:
    """Without citations."""
    return len(_WORD.findall(strip_citations(completion)))


def _terms(n_words: int) -> tuple[float, ...]:
    return (math.log1p(n_words), *(max(0, n_words - knot) / 100 for knot in _KNOTS))
