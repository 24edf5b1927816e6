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
    bounds, chunks = [0, *accumulate(lengths)], [0, *accumulate(-(-length // 8) for length in lengths)]
    found = pool.submit(places_of, bounds, 8, bounds[-1], chunks[-1]).result()
    assert found.tolist() == [bounds, chunks]


@pytest.mark.parametrize("bounds", [[0, 30, 90], [-7, 20], [0, 40, 0, 40, 0, 40], [2**31 - 1, -(2**31), 40]])
def test_wrong_bounds_lead_nowhere_else(pool: ProcessPoolExecutor, bounds: list[int]) -> None:
    """Lengths on a GPU are never read by the host, so nobody else can refuse them."""
    tokens, slots = 40, 40 // 8 + len(bounds) - 1
    starts, origins = pool.submit(places_of, bounds, 8, tokens, slots).result().tolist()
    assert starts == [min(max(bound, 0), tokens) for bound in bounds]
    assert origins == sorted(origins)
    assert 0 <= origins[0] <= origins[-1] <= slots


def test_places_of_sequences_that_go_on(pool: ProcessPoolExecutor) -> None:
    """Chunks are aligned by position 0; where there are no tokens there are no chunks."""
    lengths, positions = [0, 1, 3, 8, 9], [5, 8 * 2**40 + 7, 6, 0, 15]
    bounds = [0, *accumulate(lengths)]
    chunks = [0, *accumulate(-(-(at % 8 + n) // 8) if n else 0 for n, at in zip(lengths, positions, strict=True))]
    found = pool.submit(places_of, bounds, 8, bounds[-1], chunks[-1], positions).result()
    assert found[:2].tolist() == [bounds, chunks]
    assert found[2, :-1].tolist() == positions


@pytest.mark.parametrize("ends", [1, 2])
@pytest.mark.parametrize(("width", "per"), [(1, 1), (4, 1), (9, 1), (1, 2)])
@pytest.mark.parametrize("chunks", [[1], [0, 3, 0, 0, 12, 1, 5, 0], [1] * 9, [70, 2]])
def test_every_unit_has_its_sequence(
    pool: ProcessPoolExecutor, chunks: list[int], width: int, per: int, ends: int
) -> None:
    """And every sequence as many units as it needs, in order, wherever its first chunk lies in a block."""
    origins = [0, *accumulate(chunks)]
    begins = [origin * per // width + b * ends for b, origin in enumerate(origins)]
    found = pool.submit(sequences_of, origins, begins[-1], width, per, ends).result()
    assert found == [b for b, (begin, end) in enumerate(pairwise(begins)) for _ in range(begin, end)]
    before = width - 1 if ends == 2 else 0
    assert all(found.count(b) >= -(-(before + count) * per // width) for b, count in enumerate(chunks) if count)


@pytest.mark.parametrize("used", [0, 1, 299, 300])
def test_blank(pool: ProcessPoolExecutor, used: int) -> None:
    x = torch.randn(1, 300, 7)
    assert torch.equal(pool.submit(blanked, x, used, 3).result(), torch.cat([x[:, :used], 0 * x[:, used:]], 1))
