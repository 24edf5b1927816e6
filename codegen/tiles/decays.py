"""Pairs of positions with a decay a channel between them.

Blocks of 2, 4, 8, ... positions are split in halves, and a query of the right half meets a key of the left one at the
border between them: queries are decayed back to the border, keys up to it. No exponent is positive and nothing cancels,
because the exponents are sums of the decays in between: a product with a matrix of ones and zeros.

Two sets of queries may share their keys. As a query only meets keys before it, one tile holds the pairs of both: those
of the first set below the diagonal, and the others, transposed, above it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from maskdsl.codegen.tiles.pairs import BLOCK, apart, meet

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def decay_dot(
    scores: tl.tensor,
    q: tl.tensor,
    k: tl.tensor,
    g: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    DIAGONAL: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """Scores and S[c, s] = sum over channels of q[c] k[s] exp(span of g between them), for s <= c + DIAGONAL.

    [C, K] -> [C, C]; DIAGONAL is 0 or -1. Spans are those of `spans`, one a channel.
    """
    return _added(scores, q, None, k, g, ROW, COLUMN, DIAGONAL, OPERAND, PRECISION)


@triton.jit
def decay_dots(
    scores: tl.tensor,
    q: tl.tensor,
    r: tl.tensor,
    k: tl.tensor,
    g: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """Scores and the S of q on the diagonal and below it, and above it the transpose of that of r."""
    return _added(scores, q, r, k, g, ROW, COLUMN, 0, OPERAND, PRECISION)


@triton.jit
def _added(
    scores: tl.tensor,
    q: tl.tensor,
    r: tl.tensor,
    k: tl.tensor,
    g: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    DIAGONAL: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """Vectors are multiplied relative to the largest entry of their tile, so that float16 holds them."""
    SIZE: tl.constexpr = q.shape[0]
    blocks: tl.constexpr = (SIZE // BLOCK, BLOCK, q.shape[1])
    q, k, g = tl.reshape(q, blocks), tl.reshape(k, blocks), tl.reshape(g, blocks)
    near = tl.zeros([SIZE // BLOCK, BLOCK, BLOCK], tl.float32)
    if DIAGONAL == 0:
        own = q * k
        if ROW > COLUMN:
            own *= tl.exp(g)
        row, column = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, BLOCK)[None, None, :]
        near = tl.where(row == column, tl.sum(own, 2)[:, :, None], near)
    q_size, k_size = size(q, OPERAND), size(k, OPERAND)
    queries, keys, logs = (q * (1.0 / q_size)).to(OPERAND), (k * (1.0 / k_size)).to(OPERAND), base_two(g, OPERAND)
    others, above = None, None
    if r is not None:
        r = tl.reshape(r, blocks)
        r_size = size(r, OPERAND)
        others, above = (r * (1.0 / r_size)).to(OPERAND), r_size * k_size
    rows = _whole(logs, PRECISION)
    near = _near(near, queries, others, keys, logs, q_size * k_size, above, ROW, COLUMN, PRECISION)
    block = tl.arange(0, SIZE // BLOCK)
    diagonal = block[:, None, None, None] == block[None, None, :, None]
    scores += tl.reshape(tl.where(diagonal, near[:, :, None, :], 0.0), scores.shape)
    for power in tl.static_range(4, 10):
        if 1 << power < SIZE:
            scores = _far(
                scores, queries, others, keys, rows, 1 << power, q_size * k_size, above, ROW, COLUMN, PRECISION
            )
    return scores


@triton.jit
def _near(
    scores: tl.tensor,
    q: tl.tensor,
    r: tl.tensor,
    k: tl.tensor,
    logs: tl.tensor,
    below: tl.tensor,
    above: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """Scores and the pairs inside blocks of BLOCK positions, side by side: a warp has all that its block needs."""
    c, u = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, BLOCK)[None, None, :]
    for power in tl.static_range(4):
        half = 1 << power
        between = tl.broadcast_to(_between(c, u, half, ROW, COLUMN).to(logs.dtype), scores.shape)
        decay = tl.exp2(tl.dot(between, logs, input_precision=PRECISION)).to(q.dtype)
        decayed = k * decay
        met = tl.dot(q * decay, tl.permute(decayed, (0, 2, 1)), input_precision=PRECISION)
        scores = tl.where(meet(c, u, half), met * below, scores)
        if r is not None:
            met = tl.dot(decayed, tl.permute(r * decay, (0, 2, 1)), input_precision=PRECISION)
            scores = tl.where(meet(u, c, half), met * above, scores)
    return scores


@triton.jit
def _far(
    scores: tl.tensor,
    q: tl.tensor,
    r: tl.tensor,
    k: tl.tensor,
    logs: tl.tensor,
    half: tl.constexpr,
    below: tl.tensor,
    above: tl.tensor,
    ROW: tl.constexpr,
    COLUMN: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """Scores and the pairs across the middle of blocks of 2 * half positions."""
    c, u = tl.arange(0, scores.shape[0])[:, None], tl.arange(0, scores.shape[0])[None, :]
    between = _between(c, u, half, ROW, COLUMN).to(logs.dtype)
    # vectors stay as they are for blocks, whose warps have the same rows
    decay = tl.reshape(tl.exp2(tl.dot(between, logs, input_precision=PRECISION)).to(q.dtype), q.shape)
    decayed = tl.reshape(k * decay, logs.shape)
    # whole blocks meet, which takes fewer comparisons than pairs
    block = tl.arange(0, q.shape[0])
    blocks = meet(block[:, None], block[None, :], half // BLOCK)
    met = apart(tl.dot(tl.reshape(q * decay, logs.shape), tl.trans(decayed), input_precision=PRECISION) * below)
    others = 0.0
    if r is not None:
        others = tl.dot(decayed, tl.trans(tl.reshape(r * decay, logs.shape)), input_precision=PRECISION)
        others = tl.where(tl.trans(blocks)[:, None, :, None], apart(others * above), 0.0)
    return scores + tl.reshape(tl.where(blocks[:, None, :, None], met, others), scores.shape)


@triton.jit
def _whole(logs: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """The rows of blocks as one tile, by a product: so the gate is not worked out again for another layout."""
    shape: tl.constexpr = (logs.shape[0], BLOCK, BLOCK)
    same = tl.arange(0, BLOCK)[None, :, None] == tl.arange(0, BLOCK)[None, None, :]
    one = tl.broadcast_to(tl.where(same, 1.0, 0.0).to(logs.dtype), shape)
    rows = tl.dot(one, logs, input_precision=PRECISION).to(logs.dtype)
    return tl.reshape(rows, (logs.shape[0] * BLOCK, logs.shape[2]))


@triton.jit
def _between(c: tl.tensor, u: tl.tensor, half: tl.constexpr, ROW: tl.constexpr, COLUMN: tl.constexpr) -> tl.tensor:
    """1 where decay u lies between the point of position c and the border of its block of 2 * half."""
    start, right = c & -half, c & half != 0
    first = tl.where(right, start, c + COLUMN)
    end = tl.where(right, c + ROW, start + half)
    return tl.where((u >= first) & (u < end), 1.0, 0.0)


@triton.jit
def size(x: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """The largest entry of a tile where operands are float16, which holds little that is larger or much smaller."""
    return tl.maximum(tl.max(tl.abs(x)), 1e-30) if tl.float16 == OPERAND else 1.0


@triton.jit
def base_two(g: tl.tensor, OPERAND: tl.constexpr) -> tl.tensor:
    """g in base 2, as operand of a product: float16 where the scores are not float32.

    An error e of the exponent x matters as e * exp(x), so a relative error of 2**-12 becomes 2**-13 at most; a decay
    cut to -200 is still zero after exp.
    """
    return (
        g * LOG2E
        if tl.float32 == OPERAND
        else (tl.maximum(g, -200.0, propagate_nan=tl.PropagateNan.ALL) * LOG2E).to(tl.float16)
    )
