"""Sums of log decays between the points of two positions of a chunk."""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.sums import cumsum, shift


@triton.jit
def spans(g: tl.tensor, ROW: tl.constexpr, COLUMN: tl.constexpr, WIDE: tl.constexpr) -> tl.tensor:
    """E[c, s] = the sum of g from point (s, COLUMN) to point (c, ROW), 0 where that is backwards; [C] -> [C, C].

    A span is a difference of two running sums. In float32 it is off by the rounding of the larger, so decays that are
    zero after exp are cut to small ones first; with WIDE the sums are float64, and the span is exact in float32.
    """
    g = g.to(tl.float64) if WIDE else tl.maximum(g, -100.0, propagate_nan=tl.PropagateNan.ALL)
    total = tl.cumsum(g, 0)
    before = total - g
    to_row = total if ROW else before
    to_column = total if COLUMN else before
    rows, columns = tl.arange(0, g.shape[0])[:, None], tl.arange(0, g.shape[0])[None, :]
    between = (to_row[:, None] - to_column[None, :]).to(tl.float32)
    return tl.where(columns + COLUMN < rows + ROW, between, 0.0)


@triton.jit
def spans_adjoint(d: tl.tensor, ROW: tl.constexpr, COLUMN: tl.constexpr, WIDE: tl.constexpr) -> tl.tensor:
    """dg[u] = the sum of d[c, s] over the pairs whose span contains u; [C, C] -> [C].

    With WIDE it is that sum; otherwise the pairs that end after u, less those that begin after u.
    """
    rows, columns = tl.arange(0, d.shape[0])[:, None], tl.arange(0, d.shape[0])[None, :]
    if WIDE:
        until = tl.cumsum(d, 1)
        if COLUMN:
            until = shift(until, 1, REVERSE=False)
        dg = tl.sum(tl.where(rows + ROW > columns, until, 0.0), 0)
    else:
        d = tl.where(columns + COLUMN < rows + ROW, d, 0.0)
        ends, begins = tl.sum(d, 1), tl.sum(d, 0)
        dg = cumsum(ends - begins, REVERSE=True, EXCLUSIVE=ROW == 0 or COLUMN == 0)
        if ROW == 1 and COLUMN == 0:
            dg += ends
        if ROW == 0 and COLUMN == 1:
            dg -= begins
    return dg
