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
    """BASE**p, the width of a block of level p in chunks, of the type of p."""
    if BASE == 2:
        width = 1 << p
    else:
        width = p * 0 + 1
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
def level_at(end: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """The level of the largest weak block that ends at `end` > 0."""
    return read_level(end, end, end * 0, BASE, False)


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
def reads_since(n: tl.tensor, past: tl.tensor, BASE: tl.constexpr, STRONG: tl.constexpr) -> tl.tensor:
    """How many blocks chunk n of a sequence reads that has come to chunk `past` before; n counts from there.

    One that began earlier holds what there is of it.
    """
    count = 0
    if STRONG:
        end = n - 1
        p = 0
        while end > 0:
            p = read_level(n + past, end + past, p, BASE, STRONG)
            end -= 1 << p
            count += 1
    else:
        rest = n + past
        other = past
        while rest > other:
            if rest // BASE == other // BASE:
                count += rest - other
            else:
                count += rest % BASE
            rest //= BASE
            other //= BASE
    return count


@triton.jit
def apart(t: tl.tensor, s: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """The level of position s <= t as seen from t under weak admissibility."""
    level = 0
    while t > s:
        t //= BASE
        s //= BASE
        level += 1
    return level


@triton.jit
def digits(t: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """How many digits a number has, none where it is 0: the highest level of what lies before position t."""
    count = 0
    while t > 0:
        t //= BASE
        count += 1
    return count


@triton.jit
def width_within(p: tl.tensor, count: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """The width of a block of level p, in 64 bits, or of one that is wider than `count` chunks where p is higher."""
    return power(tl.minimum(p, digits(count, BASE)).to(tl.int64), BASE)


@triton.jit
def left_at(p: tl.tensor, count: tl.tensor, past: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """How many weak blocks of level p are left at the end of `count` chunks after `past` ones; none of levels < 0."""
    width = width_within(tl.maximum(p, 0), count + past, BASE)
    high = (count + past) // width
    low = past // width
    number = tl.where(high // BASE == low // BASE, high - low, high % BASE)
    return tl.where(p < 0, 0, number)


@triton.jit
def shifted(t: tl.tensor, count: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """A number without its last digits, `count` of them."""
    for _ in range(count):
        t //= BASE
    return t


@triton.jit
def next_end(end: tl.tensor, count: tl.tensor, past: tl.tensor, BASE: tl.constexpr) -> tl.tensor:
    """Where the farthest weak block after `end` ends that is read at the end of `count` chunks after `past` ones."""
    if end == 0:
        width = power(apart(count + past, past, BASE) - 1, BASE)
        end = (past // width + 1) * width - past
    else:
        end += power(widest(count - end, BASE), BASE)
    return end


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
