"""Weights of a hierarchy by level, for the pairs of positions of one chunk or of two.

A pair of positions has reached a level once it is apart at the scale of that level: weak admissibility, in different
blocks of base**p positions for level 1 + p; strong admissibility, in blocks of 2**p that are no neighbours for level
2 + p, and at different positions for level 1. Scales are nested, so the level is the number of those reached.

A tile of pairs is put together from blocks of at least 8 columns where the base is a power of two: inside a block the
level depends on the column within it, outside on the block, and either has far fewer cases than there are pairs.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def select(lam: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """W[c, s] = lam[c, level(c, s)] for s <= c, zero elsewhere; [C, LP] -> [C, C]."""
    return _weights(lam, 0, BASE, STRONG)


@triton.jit
def pair_weights(
    lam: tl.tensor, n: tl.tensor, m: tl.tensor, SIZE: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr
) -> tl.tensor:
    """W[c, s] = lam[c, level(n * SIZE + c, m * SIZE + s)] for two chunks m < n of SIZE positions; [C, LP] -> [C, C].

    SIZE is a power of BASE, so that blocks above it hold whole chunks: apart there, all pairs have one level.
    """
    ROWS: tl.constexpr = lam.shape[0]
    INSIDE: tl.constexpr = _levels(SIZE, BASE) - 1
    level = INSIDE + _level(n, m, _reachable(lam.shape[1] - INSIDE, BASE), BASE, STRONG)
    weights = tl.broadcast_to(level_column(lam, level)[:, None], [ROWS, ROWS])
    if STRONG:  # noqa: SIM102 - decided when compiled, unlike the next one
        if n - m == 1:
            weights = _weights(lam, SIZE, BASE, STRONG)
    return tl.where(tl.arange(0, ROWS)[None, :] < SIZE, weights, 0.0)


@triton.jit
def select_adjoint(d: tl.tensor, LP: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """dlam[c, l] = the sum of d[c, s] over the s <= c of level l; [C, C] -> [C, LP]."""
    SIZE: tl.constexpr = d.shape[0]
    BLOCK: tl.constexpr = _block(SIZE, 0, BASE)
    if BLOCK == SIZE:
        rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
        rest = tl.where(columns <= rows, d, 0.0)
        dlam = tl.zeros([SIZE, LP], tl.float32)
        for LEVEL in tl.static_range(_levels(SIZE, BASE) - 1, 0, -1):
            apart = _apart(rows, columns, LEVEL, BASE, STRONG)
            dlam += place_column(tl.sum(tl.where(apart, rest, 0.0), 1), LEVEL, LP)
            rest = tl.where(apart, 0.0, rest)
        dlam += place_column(tl.sum(rest, 1), 0, LP)
    else:
        NEAR: tl.constexpr = _levels(BLOCK, BASE)
        rows, inside = tl.arange(0, SIZE)[:, None], tl.arange(0, BLOCK)[None, :]
        row_block, blocks = rows // BLOCK, tl.arange(0, SIZE // BLOCK)[None, :]
        row_inside = rows % BLOCK
        parts = tl.reshape(d, [SIZE, SIZE // BLOCK, BLOCK])
        own = tl.sum(tl.where((blocks == row_block)[:, :, None], parts, 0.0), 1)
        own = tl.where(inside <= row_inside, own, 0.0)
        dlam = _sum_by_level(own, _level(row_inside, inside, NEAR, BASE, STRONG), LP)
        if STRONG:
            neighbour = tl.sum(tl.where((blocks == row_block - 1)[:, :, None], parts, 0.0), 1)
            dlam += _sum_by_level(neighbour, _level(row_inside + BLOCK, inside, NEAR + 1, BASE, STRONG), LP)
        far = tl.where(blocks < row_block - STRONG, tl.sum(parts, 2), 0.0)
        level = NEAR - 1 + _level(row_block, blocks, _levels(SIZE // BLOCK, BASE), BASE, STRONG)
        dlam += _sum_by_level(far, level, LP)
    return dlam


@triton.jit
def level_column(lam: tl.tensor, level: tl.tensor) -> tl.tensor:
    """lam[:, level], [C, LP] -> [C]."""
    return tl.sum(tl.where(tl.arange(0, lam.shape[1])[None, :] == level, lam, 0.0), 1)


@triton.jit
def level_of(t: tl.tensor, s: tl.tensor, COUNT: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """The level, below COUNT, at which positions s <= t are apart; one that is farther is at the last of these."""
    return _level(t, s, COUNT, BASE, STRONG)


@triton.jit
def place_column(x: tl.tensor, level: tl.tensor, LP: tl.constexpr) -> tl.tensor:
    """[C] -> [C, LP], x in column `level`, zero elsewhere."""
    return tl.where(tl.arange(0, LP)[None, :] == level, x[:, None], 0.0)


@triton.jit
def _weights(lam: tl.tensor, OFFSET: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """W[c, s] = lam[c, level(c + OFFSET, s)] for s <= c + OFFSET, zero elsewhere; [C, LP] -> [C, C]."""
    SIZE: tl.constexpr = lam.shape[0]
    BLOCK: tl.constexpr = _block(SIZE, OFFSET, BASE)
    rows = tl.arange(0, SIZE)[:, None] + OFFSET
    if BLOCK == SIZE:
        columns = tl.arange(0, SIZE)[None, :]
        weights = level_column(lam, 0)[:, None]
        for LEVEL in tl.static_range(1, _levels(SIZE + OFFSET, BASE)):
            apart = _apart(rows, columns, LEVEL, BASE, STRONG)
            weights = tl.where(apart, level_column(lam, LEVEL)[:, None], weights)
        weights = tl.where(columns <= rows, weights, 0.0)
    else:
        NEAR: tl.constexpr = _levels(BLOCK, BASE)
        row_block, blocks = rows // BLOCK, tl.arange(0, SIZE // BLOCK)[None, :]
        row_inside, inside = rows % BLOCK, tl.arange(0, BLOCK)[None, :]
        own = tl.gather(lam, _level(row_inside, inside, NEAR, BASE, STRONG), 1)
        own = tl.where(inside <= row_inside, own, 0.0)
        level = NEAR - 1 + _level(row_block, blocks, _levels((SIZE + OFFSET) // BLOCK, BASE), BASE, STRONG)
        far = tl.where(blocks < row_block, tl.gather(lam, level, 1), 0.0)
        weights = tl.where((blocks == row_block)[:, :, None], own[:, None, :], far[:, :, None])
        if STRONG:
            neighbour = tl.gather(lam, _level(row_inside + BLOCK, inside, NEAR + 1, BASE, STRONG), 1)
            weights = tl.where((blocks == row_block - 1)[:, :, None], neighbour[:, None, :], weights)
        weights = tl.reshape(weights, [SIZE, SIZE])
    return weights


@triton.jit
def _sum_by_level(x: tl.tensor, level: tl.tensor, LP: tl.constexpr) -> tl.tensor:
    """[C, X] and the levels of its elements -> [C, LP]."""
    same = level[:, :, None] == tl.arange(0, LP)[None, None, :]
    return tl.sum(tl.where(same, x[:, :, None], 0.0), 1)


@triton.jit
def _level(t: tl.tensor, s: tl.tensor, COUNT: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """level(t, s) for s <= t, known to be below COUNT."""
    level = t * 0 + s * 0
    for LEVEL in tl.static_range(1, COUNT):
        level += _apart(t, s, LEVEL, BASE, STRONG).to(tl.int32)
    return level


@triton.jit
def _apart(t: tl.tensor, s: tl.tensor, LEVEL: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """Whether positions s <= t have reached LEVEL >= 1."""
    if not STRONG:
        apart = t // BASE ** (LEVEL - 1) != s // BASE ** (LEVEL - 1)
    elif LEVEL == 1:
        apart = t != s
    else:
        apart = (t >> (LEVEL - 2)) - (s >> (LEVEL - 2)) >= 2
    return apart


@triton.constexpr_function
def _levels(size: int, base: int) -> int:
    """How many levels the pairs of `size` positions have, of either admissibility."""
    count, block = 1, 1
    while block < size:
        count, block = count + 1, block * base
    return count


@triton.constexpr_function
def _reachable(count: int, base: int) -> int:
    """`count`, or as many levels as positions of 31 bits have."""
    most, block = 1, 1
    while block < 2**31:
        most, block = most + 1, block * base
    return min(count, most)


@triton.constexpr_function
def _block(size: int, offset: int, base: int) -> int:
    """The smallest power of the base of 8 columns or more, or all of them where it does not divide them."""
    block = base
    while block < 8:
        block *= base
    return block if size % block == 0 and offset % block == 0 else size
