"""Reliability bins and the calibration error, against what can be worked out by hand."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.calibration import as_svg, expected_calibration_error, reliability

PREDICTIONS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def test_the_error_is_the_mean_distance_weighted_by_what_a_bin_holds() -> None:
    """Two bins of three and one: 3/4 of |0.2 - 1/3| and 1/4 of |0.9 - 1|."""
    bins = reliability([(0.2, True), (0.21, False), (0.19, False), (0.9, True)], 2)

    assert [(3, pytest.approx(0.2), pytest.approx(1 / 3)), (1, 0.9, 1.0)] == [
        (part.n, part.mean_probability, part.share_true) for part in bins
    ]
    assert expected_calibration_error(bins) == pytest.approx(0.75 * (1 / 3 - 0.2) + 0.25 * 0.1)


@given(PREDICTIONS, st.integers(1, 20))
def test_bins_hold_every_prediction_once_and_within_their_edges(
    predictions: list[tuple[float, bool]], n_bins: int
) -> None:
    """Whatever the probabilities; the error stays a share."""
    bins = reliability(predictions, n_bins)

    assert len(predictions) == sum(part.n for part in bins)
    assert all(part.low - 1e-9 <= part.mean_probability <= part.high + 1e-9 for part in bins)
    assert 0 <= expected_calibration_error(bins) <= 1


def test_nothing_said_is_no_error() -> None:
    """Nor a diagram with dots."""
    assert [] == reliability([])
    assert 0.0 == expected_calibration_error([])


def test_the_diagram_is_well_formed_and_has_a_dot_a_bin() -> None:
    """Probability to the right, share upwards."""
    root = ET.fromstring(as_svg(reliability([(0.05, False), (0.95, True), (0.96, True)]), "title"))

    dots = [element for element in root.iter() if element.tag.endswith("circle")]
    assert 2 == len(dots)
    assert float(dots[0].attrib["cx"]) < float(dots[1].attrib["cx"])
    assert float(dots[0].attrib["cy"]) > float(dots[1].attrib["cy"])
    assert float(dots[0].attrib["r"]) < float(dots[1].attrib["r"])
