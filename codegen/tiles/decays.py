"""Pairs of positions with a decay a channel between them.

Blocks of 2, 4, 8, ... positions are split in halves, and a query of the right half meets a key of the left one at the
border between them. A position is on one side of each border, so one tile serves a split: queries decayed back to the
border in its right halves, keys decayed up to it in its left halves. No exponent is positive and nothing cancels,
because the exponents are sums of the decays in between: a product with a matrix of ones and zeros.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def decay_dot(
    q: tl.tensor,
    k: tl.tensor,
    g: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    DIAGONAL: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """S[c, s] = sum over channels of q[c] k[s] exp(span of g between them), for s <= c + DIAGONAL; [C, K] -> [C, C].

    DIAGONAL is 0 or -1. Spans are those of `spans`, one a channel.
    """
    SIZE: tl.constexpr = q.shape[0]
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    logs = _logs(g, OPERAND)
    queries, keys = q.to(OPERAND), k.to(OPERAND)
    scores = tl.zeros([SIZE, SIZE], tl.float32)
    if DIAGONAL == 0:
        own = q * k
        if ROW > COLUMN:
            own *= tl.exp(g)
        scores = tl.where(columns == rows, tl.sum(own, 1)[:, None], scores)
    half = 1
    while half < SIZE:
        right = rows & half != 0
        decay = _decay(logs, half, ROW, COLUMN, PRECISION).to(OPERAND)
        # two products, so that no layout changes inside the loop
        sides = tl.where(right, queries, keys) * decay
        met = tl.dot(sides, tl.trans(sides), input_precision=PRECISION)
        # the half to the left of a query's own one, if its own is a right one
        left = tl.where(right, (rows & -half) - half, SIZE)
        scores = tl.where(_within(left, half + 0 * rows, SIZE), met, scores)
        half *= 2
    return scores


@triton.jit
def decay_dot_adjoint(
    d: tl.tensor,
    q: tl.tensor,
    k: tl.tensor,
    g: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    DIAGONAL: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """dS -> dq, dk, dg of `decay_dot`, [C, K] each. The gradient of a decay is a sum over the pairs it lies between."""
    SIZE: tl.constexpr = q.shape[0]
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    logs = _logs(g, OPERAND)
    dq, dk, dg = tl.zeros_like(q), tl.zeros_like(q), tl.zeros_like(q)
    if DIAGONAL == 0:
        own = tl.sum(tl.where(columns == rows, d, 0.0), 1)[:, None]
        if ROW > COLUMN:
            own *= tl.exp(g)
            dg = own * q * k
        dq = own * k
        dk = own * q
    queries, keys = q.to(OPERAND), k.to(OPERAND)
    below = tl.where(columns < rows, d, 0.0)
    both = (below + tl.trans(below)).to(OPERAND)
    half = 1
    while half < SIZE:
        right = rows & half != 0
        decay = _decay(logs, half, ROW, COLUMN, PRECISION).to(OPERAND)
        sides = tl.where(right, queries * decay, keys * decay)
        parted = (rows & -half) ^ half == columns & -half
        dsides = tl.dot(tl.where(parted, both, 0.0).to(OPERAND), sides, input_precision=PRECISION) * decay
        dq += tl.where(right, dsides, 0.0)
        dk += tl.where(right, 0.0, dsides)
        dlogs = dsides.to(OPERAND)
        dlogs = tl.where(right, queries * dlogs, keys * dlogs)
        dg = tl.dot(_through(half, SIZE, ROW, COLUMN).to(OPERAND), dlogs, dg, input_precision=PRECISION)
        half *= 2
    return dq, dk, dg


@triton.jit
def _logs(g: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """g in base 2, as operand of a product: float16 where the scores are not float32.

    An error e of the exponent x matters as e * exp(x), so a relative error of 2**-12 becomes 2**-13 at most; a decay
    cut to -200 is still zero after exp.
    """
    return g * LOG2E if tl.float32 == OPERAND else (tl.maximum(g, -200.0) * LOG2E).to(tl.float16)


@triton.jit
def _decay(
    logs: tl.tensor, half: tl.tensor, ROW: tl.constexpr, COLUMN: tl.constexpr, PRECISION: tl.constexpr
) -> tl.tensor:
    """exp of the decays between each position and the border of its block of 2 * half."""
    between = _between(half, logs.shape[0], ROW, COLUMN)
    return tl.exp2(tl.dot(between.to(logs.dtype), logs, input_precision=PRECISION))


@triton.jit
def _between(half: tl.tensor, SIZE: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr) -> tl.tensor:
    """1 where decay u lies between the point of position c and the border of its block of 2 * half; [c, u]."""
    c, u = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    start, right = u & -half, u & half != 0
    first = tl.where(right, u - ROW + 1, start)
    end = tl.where(right, start + half, u - COLUMN + 1)
    return tl.where((c - first).to(tl.uint32) < (end - first).to(tl.uint32), 1.0, 0.0)


@triton.jit
def _within(first: tl.tensor, count: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    """Which columns are among the `count` from `first`, which are those of a row; by one comparison."""
    columns = tl.arange(0, SIZE)[None, :]
    return (columns - first).to(tl.uint32) < count.to(tl.uint32)


@triton.jit
def _through(half: tl.tensor, SIZE: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr) -> tl.tensor:
    """The transpose of `_between`, [u, c]; what a thread holds of either has few columns, so bounds are theirs."""
    u, c = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    start, right = c & -half, c & half != 0
    first = tl.where(right, start, c + COLUMN)
    end = tl.where(right, c + ROW, start + half)
    return tl.where((u >= first) & (u < end), 1.0, 0.0)
