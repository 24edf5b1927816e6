"""The triangular system of a chunk, solved for every right-hand side at once."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def inverse(system: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """(I - L)^-1 for a strictly lower triangular L, [C, C].

    The inverses of diagonal blocks of 1, 2, 4, ... rows: those of two neighbours, X and Y, with L' between them, make
    that of both, whose part below the diagonal is Y L' X.
    """
    SIZE: tl.constexpr = system.shape[0]
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    # blocks of two rows: the product with neighbours of one row is L itself
    found = tl.where(rows == columns, 1.0, tl.where((rows ^ columns) == 1, system, 0.0))
    half = 2
    while half < SIZE:
        between = ((rows ^ columns) & -half) == half
        found += tl.where(
            between & (rows > columns),
            tl.dot(found, tl.dot(system, found, input_precision=PRECISION), input_precision=PRECISION),
            0.0,
        )
        half *= 2
    return found
