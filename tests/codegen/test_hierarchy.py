"""The arithmetic of a hierarchy over chunks, on the host and in kernels, against the levels of the language."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import walk_kernels
from tile_kernels import triton_process

from maskdsl.codegen import hierarchy
from maskdsl.codegen.kernels.tree import shape_of
from maskdsl.mask.levels import Admissibility, level

CHUNKS = 70
HIERARCHIES: list[tuple[int, Admissibility]] = [(2, "weak"), (3, "weak"), (5, "weak"), (2, "strong")]
Walks = dict[tuple[int, str], list[list[walk_kernels.Read]]]
"""What each chunk reads, by hierarchy."""

every_hierarchy = pytest.mark.parametrize(("base", "admissibility"), HIERARCHIES)


def whole_blocks(chunks: int, base: int) -> list[tuple[int, int]]:
    """Level and number of every whole aligned block, found by trying."""
    return [(p, i) for p in range(chunks) for i in range(chunks) if (i + 1) * base**p <= chunks]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with triton_process(interpret=True) as process:
        yield process


@pytest.fixture(scope="module")
def walks(pool: ProcessPoolExecutor) -> Walks:
    return {
        (base, admissibility): pool.submit(walk_kernels.walked, CHUNKS, base, admissibility == "strong").result()
        for base, admissibility in HIERARCHIES
    }


@every_hierarchy
def test_a_chunk_reads_everything_before_its_neighbours_once(walks: Walks, base: int, admissibility: str) -> None:
    for n, reads in enumerate(walks[base, admissibility]):
        end = n - 1 if admissibility == "strong" else n
        for read in reads:
            assert read.end == end
            assert end % base**read.p == 0
            end -= base**read.p
        assert end == (-1 if n == 0 and admissibility == "strong" else 0)


@every_hierarchy
@pytest.mark.parametrize("power", [0, 1, 2])
def test_a_block_is_of_one_level(walks: Walks, base: int, admissibility: Admissibility, power: int) -> None:
    size = base**power
    nearest = shape_of(base, admissibility, size).nearest
    for n, reads in enumerate(walks[base, admissibility]):
        for read in reads:
            queries = (n * size, n * size + size - 1)
            keys = ((read.end - base**read.p) * size, read.end * size - 1)
            found = {level(t, s, base, admissibility) for t in queries for s in keys}
            assert found == {read.p + nearest}


@every_hierarchy
def test_blocks_are_kept_apart(pool: ProcessPoolExecutor, walks: Walks, base: int, admissibility: str) -> None:
    """Those that are read have a state of their own each, and all have a log decay, in the room that there is."""
    strong = admissibility == "strong"
    for chunks in range(1, CHUNKS + 1):
        everything = [(p, (number + 1) * base**p) for p, number in whole_blocks(chunks, base)]
        slots, logs = pool.submit(walk_kernels.places, everything, chunks, base, strong).result()
        place = dict(zip(everything, slots, strict=True))
        read = {(r.p, r.end) for reads in walks[base, admissibility][:chunks] for r in reads}
        used = [place[block] for block in (everything if strong else read)]
        assert len(set(used)) == len(used)
        assert set(slots) <= set(range(2 * chunks if strong else chunks))
        assert len(set(logs)) == len(logs)
        assert set(logs) <= set(range((hierarchy.depth(chunks, base) + 1) * chunks))
        assert all(place[r.p, r.end] == r.slot for reads in walks[base, admissibility][:chunks] for r in reads)


@every_hierarchy
def test_the_readers_of_a_block_are_told(
    pool: ProcessPoolExecutor, walks: Walks, base: int, admissibility: str
) -> None:
    blocks = whole_blocks(CHUNKS, base)
    told = pool.submit(walk_kernels.readers, blocks, base, admissibility == "strong").result()
    for (p, number), chunks in zip(blocks, told, strict=True):
        end = (number + 1) * base**p
        reading = [n for n, reads in enumerate(walks[base, admissibility]) if (p, end) in {(r.p, r.end) for r in reads}]
        assert reading == [n for n in chunks if n < CHUNKS]


@every_hierarchy
def test_ranks_rise_along_a_walk_and_fit(walks: Walks, base: int, admissibility: str) -> None:
    for n, reads in enumerate(walks[base, admissibility]):
        ranks = [read.entry for read in reads]
        assert ranks == sorted(set(ranks))
        assert all(0 <= rank < hierarchy.reads(n + 1, base, admissibility == "strong") for rank in ranks)


@pytest.mark.parametrize("base", [2, 3, 5])
def test_reads_are_numbered_without_gaps(pool: ProcessPoolExecutor, walks: Walks, base: int) -> None:
    reads = [(n, r.p, r.end) for n, each in enumerate(walks[base, "weak"]) for r in each]
    found = pool.submit(walk_kernels.numbers, reads, base).result()
    assert found == [(number, p) for number, (_, p, _) in enumerate(reads)]
    for chunks in range(CHUNKS + 1):
        assert hierarchy.all_reads(chunks, base) == sum(n < chunks for n, _, _ in reads)


@pytest.mark.parametrize("base", [2, 3, 5])
@pytest.mark.parametrize("span", [1, 2, 3])
def test_passes_make_every_block(base: int, span: int) -> None:
    assert hierarchy.depth(0, base) == 0
    for chunks in range(1, CHUNKS + 1):
        everything = whole_blocks(chunks, base)
        assert hierarchy.blocks(chunks, base) == len(everything)
        top = max(p for p, _ in everything)
        assert hierarchy.depth(chunks, base) == top
        for p in range(top + 2):
            assert hierarchy.blocks(chunks, base, p) == sum(level <= p for level, _ in everything)
        for first in range(top + 1):
            passes = hierarchy.passes(chunks, base, span, first)
            assert [p for low, high in passes for p in range(low + 1, high + 1)] == list(range(first + 1, top + 1))
            assert all(high - low <= span for low, high in passes)
        assert list(hierarchy.downwards(chunks, base, span)) == hierarchy.passes(chunks, base, span)[::-1]
        for p in range(top + 2):
            assert (hierarchy.programs(chunks, base, p) - 1) * base**p < chunks
            assert chunks <= hierarchy.programs(chunks, base, p) * base**p
