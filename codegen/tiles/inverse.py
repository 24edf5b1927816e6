"""The triangular system of a chunk, solved for every right-hand side at once."""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.pairs import BLOCK, apart, meet


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
    inside = tl.sum(tl.where(diagonal, apart(system), 0.0), 2)
    row, column = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, BLOCK)[None, None, :]
    # blocks of two rows: the product with neighbours of one row is L itself
    small = tl.where(row == column, 1.0, tl.where((row ^ column) == 1, inside, 0.0))
    for power in tl.static_range(1, 4):
        beside = tl.where(meet(row, column, 1 << power), inside, 0.0)
        small = tl.dot(small, tl.dot(beside, small, input_precision=PRECISION), small, input_precision=PRECISION)
    found = tl.reshape(tl.where(diagonal, small[:, :, None, :], 0.0), (SIZE, SIZE))
    row, column = block[:, None, None, None], block[None, None, :, None]
    for power in tl.static_range(6):
        if 1 << power < COUNT:
            beside = tl.reshape(tl.where(meet(row, column, 1 << power), apart(system), 0.0), (SIZE, SIZE))
            found = tl.dot(found, tl.dot(beside, found, input_precision=PRECISION), found, input_precision=PRECISION)
    return found
