"""Lengths of sequences for benchmarks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.runtime.benchmark.packing import spread


@given(count=st.integers(2, 40), longest=st.integers(1, 9000), share=st.floats(0, 1))
def test_lengths_come_to_their_total(count: int, longest: int, share: float) -> None:
    least, most = count + longest - 1, 1 + longest * (count - 1)
    if least > most:
        return
    total = round(least + share * (most - least))
    found = spread(count, total, longest)
    assert (len(found), sum(found), min(found), max(found)) == (count, total, 1, longest)


def test_lengths_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="There are no 4 lengths from 1 to 20 that come to 20"):
        spread(4, 20, 20)
