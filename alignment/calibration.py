"""How far probabilities can be trusted: a reliability diagram and the expected calibration error.

Knows nothing of what is predicted. Definitions of Guo et al. 2017 (arXiv:1706.04599, equations 1 to 3), with bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SIZE = 320
_MARGIN = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Predictions of about the same probability."""

    low: float
    high: float
    n: int
    mean_probability: float
    share_true: float
    """How many of them came true."""


def reliability(predictions: Sequence[tuple[float, bool]], n_bins: int = 10) -> list[ReliabilityBin]:
    """The bins that hold anything, lowest first.

    Args:
        predictions: Probability in [0, 1], and whether it came true.
        n_bins: Of equal width; a probability on an edge belongs to the bin above, 1 to the last.

    >>> [(b.low, b.n, b.share_true) for b in reliability([(0.1, False), (0.2, True), (1.0, True)], 2)]
    [(0.0, 2, 0.5), (0.5, 1, 1.0)]
    """
    held: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for probability, came_true in predictions:
        held[min(int(probability * n_bins), n_bins - 1)].append((probability, came_true))
    return [
        ReliabilityBin(
            low=place / n_bins,
            high=(place + 1) / n_bins,
            n=len(part),
            mean_probability=sum(p for p, _ in part) / len(part),
            share_true=sum(t for _, t in part) / len(part),
        )
        for place, part in enumerate(held)
        if part
    ]


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance of probability and share over all predictions, in [0, 1]; 0 without any.

    >>> round(expected_calibration_error(reliability([(0.9, True), (0.9, False)])), 6)
    0.4
    """
    n = sum(part.n for part in bins)
    return sum(part.n * abs(part.mean_probability - part.share_true) for part in bins) / n if n else 0.0


def as_svg(bins: Sequence[ReliabilityBin], title: str) -> str:
    """The diagram as an SVG element that loads nothing: a dot a bin, the larger the more it holds; on the diagonal probabilities are right."""
    inner = _SIZE - 2 * _MARGIN
    most = max((part.n for part in bins), default=1)
    dots = "".join(
        f'<circle cx="{_MARGIN + part.mean_probability * inner:.1f}" cy="{_SIZE - _MARGIN - part.share_true * inner:.1f}" '
        f'r="{3 + 9 * (part.n / most) ** 0.5:.1f}"><title>{part.n} of {part.mean_probability:.2f}: {part.share_true:.2f} true</title></circle>'
        for part in bins
    )
    low, high = _MARGIN, _SIZE - _MARGIN
    ticks = "".join(
        f'<text x="{low + value * inner:.0f}" y="{high + 16}" text-anchor="middle">{value:g}</text>'
        f'<text x="{low - 6}" y="{high - value * inner + 4:.0f}" text-anchor="end">{value:g}</text>'
        for value in (0.0, 0.5, 1.0)
    )
    return (
        f'<svg class="reliability" role="img" aria-label="{title}" viewBox="0 0 {_SIZE} {_SIZE}" width="{_SIZE}" height="{_SIZE}">'
        f'<path d="M{low} {low}V{high}H{high}" /><path class="right" d="M{low} {high}L{high} {low}" />{dots}{ticks}'
        f'<text x="{_SIZE / 2:.0f}" y="{_SIZE - 2}" text-anchor="middle">probability said</text>'
        f'<text x="{-_SIZE / 2:.0f}" y="10" text-anchor="middle" transform="rotate(-90)">share that was so</text></svg>'
    )
