"""The adjoint of level weights for the pairs of positions of two chunks."""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.levels import _level, _levels, _reachable, place_column


@triton.jit
def pair_weights_adjoint(
    d: tl.tensor,
    n: tl.tensor,
    m: tl.tensor,
    LP: tl.constexpr,
    SIZE: tl.constexpr,
    BASE: tl.constexpr,
    STRONG: tl.constexpr,
) -> tl.tensor:
    """dlam[c, l] = the sum of d[c, s] over the s of level l, for two chunks m < n; [C, C] -> [C, LP]."""
    ROWS: tl.constexpr = d.shape[0]
    INSIDE: tl.constexpr = _levels(SIZE, BASE) - 1
    level = INSIDE + _level(n, m, _reachable(LP - INSIDE, BASE), BASE, STRONG)
    dlam = place_column(tl.sum(d, 1), level, LP)
    if STRONG:  # noqa: SIM102 - decided when compiled, unlike the next one
        if n - m == 1:
            rows, columns = tl.arange(0, ROWS)[:, None] + SIZE, tl.arange(0, ROWS)[None, :]
            COUNT: tl.constexpr = _levels(2 * SIZE, BASE)
            levels = _level(rows, columns, COUNT, BASE, STRONG)
            dlam = tl.zeros([ROWS, LP], tl.float32)
            for LEVEL in tl.static_range(0, COUNT):
                dlam += place_column(tl.sum(tl.where(levels == LEVEL, d, 0.0), 1), LEVEL, LP)
    return dlam
