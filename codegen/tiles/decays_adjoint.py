"""What pairs of positions with a decay a channel between them give back to queries, keys and decays.

Blocks of 2, 4, 8, ... positions are split in halves, as in `decays`. A position is on one side of each border, so one
tile serves a split: queries decayed back to the border in its right halves, keys decayed up to it in its left halves.
"""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.decays import base_two, size
from maskdsl.codegen.tiles.sums import product_cumsum


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
    logs, pairs = base_two(g, OPERAND), _pairs(SIZE, ROW, COLUMN, OPERAND)
    dq, dk, dg = tl.zeros_like(q), tl.zeros_like(q), tl.zeros_like(q)
    if DIAGONAL == 0:
        own = tl.sum(tl.where(columns == rows, d, 0.0), 1)[:, None]
        if ROW > COLUMN:
            own *= tl.exp(g)
            dg = own * q * k
        dq = own * k
        dk = own * q
    q_size, k_size, d_size = size(q, OPERAND), size(k, OPERAND), size(d, OPERAND)
    queries, keys = (q * (1.0 / q_size)).to(OPERAND), (k * (1.0 / k_size)).to(OPERAND)
    below = tl.where(columns < rows, d * (1.0 / d_size), 0.0)
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
