"""The arithmetic of a hierarchy over chunks: which block comes next, where it is kept, who reads it.

A block of level p covers BASE**p chunks and is named by its level and its number, or by its end (the chunk after its
last one). Weak blocks lie where they end, as in a Fenwick array: only left siblings are ever read, and of the blocks
that end at one place only the largest is one. Strong blocks lie in order (in-order numbering of a binary tree), since
right children are read too.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def power(p: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """BASE**p, the width of a block of level p in chunks."""
    if BASE == 2:
        width = 1 << p
    else:
        width = 1
        for _ in range(p):
            width *= BASE
    return width


@triton.jit
def read_level(n: tl.tensor, end: tl.tensor, p: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """The level, at least p, of the block that chunk n reads next, which ends at `end` > 0."""
    if STRONG:
        while ((end - (1 << p)) >> (p + 1)) != (n >> (p + 1)) - 1:
            p += 1
    elif BASE == 2:
        # the lowest set bit, by the exponent of a float: no loop inside the walk, so that its loads can run ahead
        p = ((end & -end).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
    else:
        width = power(p, BASE)
        while end % (width * BASE) == 0:
            width *= BASE
            p += 1
    return p


@triton.jit
def reads(n: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """How many blocks chunk n reads."""
    count = 0
    if STRONG:
        end = n - 1
        p = 0
        while end > 0:
            p = read_level(n, end, p, BASE, STRONG)
            end -= 1 << p
            count += 1
    else:
        rest = n
        while rest > 0:
            count += rest % BASE
            rest //= BASE
    return count


@triton.jit
def slot(p: tl.tensor, end: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """Where the block of level p that ends at `end` is kept."""
    return 2 * end - (1 << p) - 1 if STRONG else end - 1


@triton.jit
def log_row(p: tl.tensor, end: tl.tensor, count: tl.tensor) -> tl.tensor:
    """Where the log decay of a block is kept, among `count` chunks: every block has a row of its own.

    Programs for other parts of the same states find what they have written themselves.
    """
    return p * count + end - 1


@triton.jit
def entry(p: tl.tensor, number: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """The rank of a read among all that a chunk may do, nearest first; `number` is that of the block in its level."""
    return 2 * p + 1 - number % 2 if STRONG else p * (BASE - 1) + BASE - 2 - number % BASE


@triton.jit
def first_reader(p: tl.tensor, number: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """The first of the consecutive chunks that read a block."""
    width = power(p, BASE)
    return (number // 2 + 1) * 2 * width + (number % 2) * width if STRONG else (number + 1) * width


@triton.jit
def last_reader(p: tl.tensor, number: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """The chunk after the last one that reads a block."""
    width = power(p, BASE)
    return (number // 2 + 2) * 2 * width if STRONG else (number // BASE + 1) * BASE * width


@triton.jit
def widest(rest: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """The highest level whose blocks are no wider than `rest` > 0 chunks."""
    p = 0
    width = BASE
    while width <= rest:
        width *= BASE
        p += 1
    return p


@triton.jit
def blocks(count: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """How many whole blocks `count` chunks have, of all levels."""
    total = 0
    width = 1
    while width <= count:
        total += count // width
        width *= BASE
    return total


@triton.jit
def reads_before(n: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """How many weak blocks all chunks before chunk n read: the sum of the digits of 0, ..., n - 1."""
    total = 0
    width = 1
    while width < n:
        rounds = n // (width * BASE)
        digit = n // width % BASE
        total += rounds * (width * (BASE * (BASE - 1) // 2))
        total += width * (digit * (digit - 1) // 2) + digit * (n % width)
        width *= BASE
    return total


@triton.jit
def read_number(n: tl.tensor, p: tl.tensor, number: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """Which of the reads of chunk n, nearest first, is that of a weak block of level p."""
    width = power(p, BASE)
    return reads(n % width, BASE, False) + n // width - 1 - number
