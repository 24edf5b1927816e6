"""Running sums along the positions of a tile."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cumsum(x: tl.tensor, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr) -> tl.tensor:
    """The running sum along axis 0, [C] or [C, K], from the end if REVERSE, without the element itself if EXCLUSIVE."""
    total = tl.cumsum(x, 0, reverse=REVERSE)
    if EXCLUSIVE:
        total = shift(total, 0, REVERSE)
    return total


@triton.jit
def shift(x: tl.tensor, AXIS: tl.constexpr, REVERSE: tl.constexpr) -> tl.tensor:
    """result[i] = x[i - 1] along AXIS, or x[i + 1] if REVERSE, zero where there is none.

    A running sum shifted is one without the element itself; taking the element away again would leave its rounding.
    """
    SIZE: tl.constexpr = x.shape[AXIS]
    index = tl.arange(0, SIZE)
    if len(x.shape) == 2:
        index = tl.expand_dims(index, 1 - AXIS)
    source = index + 1 if REVERSE else index - 1
    moved = tl.gather(x, tl.broadcast_to(tl.minimum(tl.maximum(source, 0), SIZE - 1), x.shape), AXIS)
    return tl.where((source >= 0) & (source < SIZE), moved, 0.0)
