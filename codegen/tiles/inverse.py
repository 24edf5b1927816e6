"""The triangular system of a chunk, solved for every right-hand side at once."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(16)
"""The rows of the diagonal blocks that are inverted side by side: the least that a matrix product takes."""


@triton.jit
def inverse(system: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """(I - L)^-1 for a strictly lower triangular L, [C, C].

    The inverses of diagonal blocks of 1, 2, 4, ... rows: those of two neighbours, X and Y, with L' between them, make
    that of both, whose part below the diagonal is Y L' X.
    """
    SIZE: tl.constexpr = system.shape[0]
    COUNT: tl.constexpr = SIZE // BLOCK
    block = tl.arange(0, COUNT)
    diagonal = block[:, None, None, None] == block[None, None, :, None]
    inside = tl.sum(tl.where(diagonal, tl.reshape(system, (COUNT, BLOCK, COUNT, BLOCK)), 0.0), 2)
    row, column = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, BLOCK)[None, None, :]
    # blocks of two rows: the product with neighbours of one row is L itself
    small = tl.where(row == column, 1.0, tl.where((row ^ column) == 1, inside, 0.0))
    for power in tl.static_range(1, 4):
        small = doubled(small, inside, row, column, 1 << power, PRECISION)
    found = tl.reshape(tl.where(diagonal, small[:, :, None, :], 0.0), (SIZE, SIZE))
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    for power in tl.static_range(4, 10):
        if 1 << power < SIZE:
            found = doubled(found, system, row, column, 1 << power, PRECISION)
    return found


@triton.jit
def doubled(
    found: tl.tensor,
    system: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    half: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """The inverses of blocks of 2 * half rows from those of `half` rows."""
    between = (((row ^ column) & -half) == half) & (row > column)
    beside = tl.dot(system, found, input_precision=PRECISION)
    return found + tl.where(between, tl.dot(found, beside, input_precision=PRECISION), 0.0)
