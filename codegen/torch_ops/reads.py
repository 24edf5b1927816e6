"""Which blocks every chunk reads in a hierarchy, as arithmetic progressions of chunks and nodes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from maskdsl.codegen.torch_ops.tree import level_starts
from maskdsl.mask.levels import Admissibility, level


@dataclass(frozen=True)
class Read:
    """`count` runs of `width` chunks, `stride` apart; each run reads one node, and those are `hop` apart.

    `weight` is the level whose weight the read has.
    """

    weight: int
    start: int
    width: int
    stride: int
    count: int
    node: int
    hop: int

    def rows(self, x: Tensor) -> Tensor:
        """The positions that read, of a tensor [B, h, N, C, ...]: a view [B, h, count, width * C, ...]."""
        end = self.start + (self.count - 1) * self.stride + self.width
        runs = x[:, :, self.start : end].unfold(2, self.width, self.stride)
        return runs.movedim(-1, 3).flatten(3, 4)

    def nodes(self, x: Tensor) -> Tensor:
        """The nodes that they read, of a tensor [B, h, E, ...]: a view [B, h, count, ...]."""
        return x[:, :, self.node : self.node + (self.count - 1) * self.hop + 1 : self.hop]


@functools.lru_cache(maxsize=256)
def reads(chunks: int, size: int, base: int, admissibility: Admissibility) -> tuple[Read, ...]:
    """All reads of a sequence of `chunks` chunks of `size` positions, for every chunk the nearest block first."""
    starts = level_starts(chunks, base)
    inside = level(size - 1, 0, base, admissibility)
    found: list[Read] = []
    for p in range(len(starts) - 1):
        if admissibility == "weak":
            found += _siblings(chunks, starts[p], base, base**p, inside + 1 + p)
        else:
            found += _neighbours(chunks, starts[p], 2**p, inside + 2 + p)
    return tuple(found)


def _siblings(chunks: int, first: int, base: int, width: int, weight: int) -> Iterator[Read]:
    """Weak: a chunk reads the left siblings of the block of `width` chunks that it is in."""
    for slot in range(base - 1):
        for digit in range(slot + 1, base):
            yield from _runs(chunks, weight, digit * width, width, base * width, first + digit - 1 - slot, base)


def _neighbours(chunks: int, first: int, width: int, weight: int) -> Iterator[Read]:
    """Strong: a chunk reads the children of its parent's left neighbour, the right one only from the right half."""
    yield from _runs(chunks, weight, 3 * width, width, 2 * width, first + 1, 2)
    yield from _runs(chunks, weight, 2 * width, 2 * width, 2 * width, first, 2)


def _runs(chunks: int, weight: int, start: int, width: int, stride: int, node: int, hop: int) -> Iterator[Read]:
    """The whole runs up to the end of the sequence, and the one that it cuts short."""
    whole = max((chunks - start - width) // stride + 1, 0)
    if whole:
        yield Read(weight, start, width, stride, whole, node, hop)
    cut = chunks - (start + whole * stride)
    if cut > 0:
        yield Read(weight, start + whole * stride, cut, stride, 1, node + whole * hop, hop)
