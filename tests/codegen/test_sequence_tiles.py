"""Where the sequences of a batch row lie, as kernels find it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate, pairwise

import pytest
import torch
from tile_kernels import blanked, places_of, sequences_of, triton_process


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with triton_process(interpret=True) as process:
        yield process


@pytest.mark.parametrize("lengths", [[0], [5], [0, 8, 0, 1, 9, 0], [3] * 1500])
def test_places(pool: ProcessPoolExecutor, lengths: list[int]) -> None:
    starts, origins = pool.submit(places_of, lengths, 8).result().tolist()
    assert starts == [0, *accumulate(lengths)]
    assert origins == [0, *accumulate(-(-length // 8) for length in lengths)]


@pytest.mark.parametrize(("width", "per"), [(1, 1), (4, 1), (9, 1), (1, 2)])
@pytest.mark.parametrize("chunks", [[1], [0, 3, 0, 0, 12, 1, 5, 0], [1] * 9, [70, 2]])
def test_every_unit_has_its_sequence(pool: ProcessPoolExecutor, chunks: list[int], width: int, per: int) -> None:
    """And every sequence as many units as it needs, in order."""
    origins = [0, *accumulate(chunks)]
    begins = [origin * per // width + b for b, origin in enumerate(origins)]
    found = pool.submit(sequences_of, origins, begins[-1], width, per).result()
    assert found == [b for b, (begin, end) in enumerate(pairwise(begins)) for _ in range(begin, end)]
    assert all(found.count(b) >= -(-count * per // width) for b, count in enumerate(chunks))


@pytest.mark.parametrize("used", [0, 1, 299, 300])
def test_blank(pool: ProcessPoolExecutor, used: int) -> None:
    x = torch.randn(1, 300, 7)
    assert torch.equal(pool.submit(blanked, x, used, 3).result(), torch.cat([x[:, :used], 0 * x[:, used:]], 1))
