"""Running sums along the positions of a tile."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cumsum(
    x: tl.tensor,
    REVERSE: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    WIDE: tl.constexpr = True,
    OPERAND: tl.constexpr = tl.float32,
) -> tl.tensor:
    """The running sum along axis 0, [C] or [C, K], from the end if REVERSE, without the element itself if EXCLUSIVE.

    Without WIDE that of [C, K] is a product with a matrix of ones and zeros, in which x counts with 16 bits.
    """
    if len(x.shape) == 2 and not WIDE:
        total = _product(x, REVERSE, EXCLUSIVE, OPERAND)
    else:
        total = tl.cumsum(x, 0, reverse=REVERSE)
        if EXCLUSIVE:
            total = shift(total, 0, REVERSE)
    return total


@triton.jit
def _product(x: tl.tensor, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, OPERAND: tl.constexpr) -> tl.tensor:
    """The running sum of x in two parts, each exact as an operand."""
    SIZE: tl.constexpr = x.shape[0]
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    first, last = (row, column) if REVERSE else (column, row)
    counted = tl.where(first < last if EXCLUSIVE else first <= last, 1.0, 0.0).to(OPERAND)
    high = x.to(tl.bfloat16)
    low = x - high.to(tl.float32)
    total = tl.dot(counted, low.to(OPERAND), input_precision="tf32")
    return tl.dot(counted, high.to(OPERAND), total, input_precision="tf32")


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
