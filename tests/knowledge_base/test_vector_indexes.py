"""Both vector indexes keep the contract, and agree with each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_base.faiss_index import FaissIndex
from knowledge_base.protocols import VectorIndex
from tests.contracts import VectorIndexContract, ids, unit_vectors
from tests.fakes import NumpyIndex


class TestFaissIndex(VectorIndexContract):
    """The one that serves."""

    @pytest.fixture
    def index(self) -> VectorIndex:
        """Empty."""
        return FaissIndex(8)

    def test_of_twins_in_one_call_the_last_stays(self, index: VectorIndex) -> None:
        """As if they had been added one after the other."""
        first, last = unit_vectors(2)

        index.add(ids(3, 3), np.stack([first, last]))

        assert 1 == len(index)
        assert pytest.approx(1.0, abs=1e-5) == index.search(last[None], 1)[1][0, 0]

    def test_vectors_of_another_length_are_refused(self, index: VectorIndex) -> None:
        """A change of embedder shows here at the latest."""
        with pytest.raises(ValueError, match=r"shape \(1, 5\)"):
            index.add(ids(1), np.ones((1, 5), dtype=np.float32))


class TestNumpyIndex(VectorIndexContract):
    """The one for tests."""

    @pytest.fixture
    def index(self) -> VectorIndex:
        """Empty."""
        return NumpyIndex(8)


_actions = st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 40), min_size=1)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    actions=_actions,
    allowed=st.none() | st.sets(st.integers(0, 60)),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_faiss_finds_what_a_full_comparison_finds(
    actions: list[tuple[bool, set[int]]], allowed: set[int] | None, k: int, seed: int
) -> None:
    """After any additions and removals, with any filter."""
    quick, plain = FaissIndex(8), NumpyIndex(8)
    for step, (is_added, chosen) in enumerate(actions):
        some = ids(*sorted(chosen))
        for index in (quick, plain):
            if is_added:
                index.add(some, unit_vectors(len(some), seed=seed + step))
            else:
                index.remove(some)
    only = None if allowed is None else ids(*sorted(allowed))
    query = unit_vectors(1, seed=seed + 100)

    found, scores = quick.search(query, k, only)
    expected, expected_scores = plain.search(query, k, only)

    assert len(plain) == len(quick)
    assert expected.tolist() == found.tolist()
    assert np.allclose(expected_scores, scores, atol=1e-5)
