"""Pairs of positions with a decay a channel between them.

Blocks of 2, 4, 8, ... positions are split in halves, and a query of the right half meets a key of the left one at the
border between them. A position is on one side of each border, so one tile serves a split: queries decayed back to the
border in its right halves, keys decayed up to it in its left halves. No exponent is positive and nothing cancels,
because the exponents are sums of the decays in between: a product with a matrix of ones and zeros.
"""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.sums import product_cumsum

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

    DIAGONAL is 0 or -1. Spans are those of `spans`, one a channel. Vectors are multiplied relative to the largest entry
    of their tile, so that float16 holds them.
    """
    SIZE: tl.constexpr = q.shape[0]
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    logs, pairs = _logs(g, OPERAND), _pairs(SIZE, ROW, COLUMN, OPERAND)
    q_size, k_size = _size(q, OPERAND), _size(k, OPERAND)
    queries, keys = (q / q_size).to(OPERAND), (k / k_size).to(OPERAND)
    scores = tl.zeros([SIZE, SIZE], tl.float32)
    if DIAGONAL == 0:
        own = q * k
        if ROW > COLUMN:
            own *= tl.exp(g)
        scores = tl.where(columns == rows, tl.sum(own, 1)[:, None], scores)
    half = 1
    while half < SIZE:
        right = rows & half != 0
        decay = _decay(logs, pairs, half, PRECISION).to(OPERAND)
        # two products, so that no layout changes inside the loop
        sides = tl.where(right, queries * decay, keys * decay)
        met = tl.dot(sides, tl.trans(sides), input_precision=PRECISION)
        scores = tl.where(_parted(pairs, half) & right, met * (q_size * k_size), scores)
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
    """dS -> dq, dk, dg of `decay_dot`, [C, K] each."""
    SIZE: tl.constexpr = q.shape[0]
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    logs, pairs = _logs(g, OPERAND), _pairs(SIZE, ROW, COLUMN, OPERAND)
    dq, dk, dg = tl.zeros_like(q), tl.zeros_like(q), tl.zeros_like(q)
    if DIAGONAL == 0:
        own = tl.sum(tl.where(columns == rows, d, 0.0), 1)[:, None]
        if ROW > COLUMN:
            own *= tl.exp(g)
            dg = own * q * k
        dq = own * k
        dk = own * q
    q_size, k_size, d_size = _size(q, OPERAND), _size(k, OPERAND), _size(d, OPERAND)
    queries, keys = (q / q_size).to(OPERAND), (k / k_size).to(OPERAND)
    below = tl.where(columns < rows, d / d_size, 0.0)
    both = (below + tl.trans(below)).to(OPERAND)
    # the gradient of a decay as the pairs that end after it less those that begin after it; both are sums of the same
    # products, so that nothing but the rounding of their sum is left of a pair that does both
    TELESCOPED: tl.constexpr = tl.float32 != OPERAND and ROW == COLUMN
    ends = tl.zeros_like(q)
    half = 1
    while half < SIZE:
        right = rows & half != 0
        decay = _decay(logs, pairs, half, PRECISION).to(OPERAND)
        sides = tl.where(right, queries * decay, keys * decay)
        met = tl.where(_parted(pairs, half), both, 0.0).to(OPERAND)
        dsides = tl.dot(met, sides, input_precision=PRECISION)
        if TELESCOPED:
            ends += tl.where(right, 1.0, -1.0) * (dsides * sides)
        dsides *= decay
        dq += tl.where(right, d_size * k_size, 0.0) * dsides
        dk += tl.where(right, 0.0, d_size * q_size) * dsides
        if not TELESCOPED:
            dlogs = dsides.to(OPERAND)
            dlogs = tl.where(right, queries * dlogs, keys * dlogs)
            through = _through(half, SIZE, ROW, COLUMN).to(OPERAND)
            dg += tl.dot(through, dlogs, input_precision=PRECISION) * (d_size * q_size * k_size)
        half *= 2
    if TELESCOPED:
        dg += product_cumsum(ends, True, ROW == 0, 3, OPERAND) * (d_size * q_size * k_size)
    return dq, dk, dg


@triton.jit
def _size(x: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """The largest entry of a tile where operands are float16, which holds little that is larger or much smaller."""
    return tl.maximum(tl.max(tl.abs(x)), 1e-30) if tl.float16 == OPERAND else 1.0


@triton.jit
def _logs(g: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """g in base 2, as operand of a product: float16 where the scores are not float32.

    An error e of the exponent x matters as e * exp(x), so a relative error of 2**-12 becomes 2**-13 at most; a decay
    cut to -200 is still zero after exp.
    """
    return (
        g * LOG2E
        if tl.float32 == OPERAND
        else (tl.maximum(g, -200.0, propagate_nan=tl.PropagateNan.ALL) * LOG2E).to(tl.float16)
    )


@triton.jit
def _decay(logs: tl.tensor, pairs: tl.tensor, half: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """exp of the decays between each position and the border of its block of 2 * half."""
    return tl.exp2(tl.dot(_between(pairs, half).to(logs.dtype), logs, input_precision=PRECISION))


@triton.jit
def _pairs(SIZE: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr, OPERAND: tl.constexpr) -> tl.tensor:
    """c ^ u for positions c and u, with bits that tell order; [c, u].

    SIZE is set where decay u comes after the point of a query c, 2 * SIZE where it comes before that of a key c. The
    numbers come out of a product, so what is made of them has the layout of products already.
    """
    c, u, of = tl.arange(0, SIZE), tl.arange(0, SIZE), tl.arange(0, 16)
    left = tl.where(of[None, :] == 0, c[:, None], 1).to(OPERAND)
    right = tl.where(of[:, None] == 0, SIZE, tl.where(of[:, None] == 1, u[None, :], 0)).to(OPERAND)
    both = tl.dot(left, right, input_precision="tf32").to(tl.int32)
    row, column = both // SIZE, both % SIZE
    after, before = column >= row + ROW, column < row + COLUMN
    return (row ^ column) + tl.where(after, SIZE, 0) + tl.where(before, 2 * SIZE, 0)


@triton.jit
def _between(pairs: tl.tensor, half: tl.tensor) -> tl.tensor:
    """1 where decay u lies between the point of position c and the border of its block of 2 * half; [c, u]."""
    SIZE: tl.constexpr = pairs.shape[0]
    right = tl.arange(0, SIZE)[:, None] & half != 0
    # in the same half, and on the side of the border
    beyond = (SIZE - half) + tl.where(right, SIZE, 2 * SIZE)
    return tl.where(pairs & beyond == 0, 1.0, 0.0)


@triton.jit
def _parted(pairs: tl.tensor, half: tl.tensor) -> tl.tensor:
    """Whether the border of blocks of 2 * half is the first that parts two positions; [c, u]."""
    SIZE: tl.constexpr = pairs.shape[0]
    return (pairs ^ half) & (SIZE - half) == 0


@triton.jit
def _through(half: tl.tensor, SIZE: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr) -> tl.tensor:
    """The transpose of `_between`, [u, c]; what a thread holds of either has few columns, so bounds are theirs."""
    u, c = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    start, right = c & -half, c & half != 0
    first = tl.where(right, start, c + COLUMN)
    end = tl.where(right, c + ROW, start + half)
    return tl.where((u >= first) & (u < end), 1.0, 0.0)
