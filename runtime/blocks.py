"""A call on a processor, block by block: no head and no batch row looks at another.

A program's temporaries are some dozen tensors as large as its vectors. In blocks of a few heads they stay in the
caches, and are small enough for the allocator to hand the same memory out again instead of mapping new pages for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from maskdsl.chunk.axes import ratio
from maskdsl.chunk.ops import Axes

ELEMENTS = 1 << 18
"""Numbers that a temporary of a block should hold at the most: 1 MiB of float32."""


@dataclass(frozen=True)
class Block:
    """Batch rows and heads, as slices of their axes."""

    batch: slice
    heads: slice

    def of(self, x: Tensor, axes: Axes) -> Tensor:
        """The block's part of a tensor with these axes: a view."""
        return x[tuple(self._part(axis) for axis in axes)]

    def _part(self, axis: str) -> slice:
        if axis == "B":
            return self.batch
        if not axis.startswith("H"):
            return slice(None)
        shared = ratio(axis)
        return slice(self.heads.start // shared, self.heads.stop // shared)


def blocks(batch: int, length: int, heads: int, width: int, shared: int) -> Iterator[Block]:
    """All blocks of a call over vectors of `width`; `shared` heads in a row share key-side heads and stay together."""
    groups = heads // shared
    fitting = max(ELEMENTS // (length * width * shared), 1)
    count = math.ceil(groups / fitting)
    rows = max(min(fitting // groups, batch), 1)
    for row in range(0, batch, rows):
        for block in range(count):
            first, last = (groups * block // count) * shared, (groups * (block + 1) // count) * shared
            yield Block(slice(row, min(row + rows, batch)), slice(first, last))
