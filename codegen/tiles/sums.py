"""Sums along the positions of a tile."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def folded(x: tl.tensor, ROWS: tl.constexpr) -> tl.tensor:
    """The sums [ROWS, X] of the rows that lie ROWS apart."""
    return tl.sum(tl.reshape(x, [x.shape[0] // ROWS, ROWS, x.shape[1]]), 0)


@triton.jit
def cumsum(
    x: tl.tensor,
    REVERSE: tl.constexpr,
    EXCLUSIVE: tl.constexpr,
    WIDE: tl.constexpr = True,
    OPERAND: tl.constexpr = tl.float32,
) -> tl.tensor:
    """The running sum along axis 0, [C] or [C, K], from the end if REVERSE, without the element itself if EXCLUSIVE.

    Without WIDE that of [C, K] is a product of matrices, in which x counts with 16 bits.
    """
    if len(x.shape) == 2 and not WIDE:
        total = product_cumsum(x, REVERSE, EXCLUSIVE, 2, OPERAND)
    else:
        total = tl.cumsum(x, 0, reverse=REVERSE)
        if EXCLUSIVE:
            total = shift(total, 0, REVERSE)
    return total


@triton.jit
def product_cumsum(
    x: tl.tensor, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, PARTS: tl.constexpr, OPERAND: tl.constexpr
) -> tl.tensor:
    """The running sum of x [C, K] as a product with a matrix of ones and zeros; x counts with 8 bits a part."""
    SIZE: tl.constexpr = x.shape[0]
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    first, last = (row, column) if REVERSE else (column, row)
    counted = tl.where(first < last if EXCLUSIVE else first <= last, 1.0, 0.0).to(OPERAND)
    total = tl.zeros_like(x)
    for _ in tl.static_range(PARTS):
        part = x.to(tl.bfloat16)
        total = tl.dot(counted, part.to(OPERAND), total, input_precision="tf32")
        x -= part.to(tl.float32)
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
