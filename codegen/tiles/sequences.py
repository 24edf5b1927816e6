"""Which of the sequences of a batch row a program works on."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(1024)
"""Numbers that a program of the kernels here reads or writes at a time."""


@triton.jit
def sequence_of(
    unit: tl.tensor,
    origins: tl.tensor,
    count: tl.tensor,
    width: tl.tensor,
    PER: tl.constexpr,
    ENDS: tl.constexpr,
) -> tl.tensor:
    """The sequence, of `count`, that a unit of work belongs to.

    Sequence b, whose chunks are origins[b] up to origins[b + 1], has the units origins[b] * PER // width + b * ENDS and
    those after it up to the next one's: room for PER units for every `width` chunks, of which one, or where ENDS = 2
    two, may not be whole.
    """
    low = unit * 0
    high = low + count
    while high - low > 1:
        middle = (low + high) // 2
        before = tl.load(origins + middle) * PER // width + middle * ENDS <= unit
        low = tl.where(before, middle, low)
        high = tl.where(before, high, middle)
    return low


@triton.jit(do_not_specialize=["count", "size", "tokens", "slots"])
def places(
    bounds: tl.tensor, found: tl.tensor, count: tl.tensor, size: tl.tensor, tokens: tl.tensor, slots: tl.tensor
) -> None:
    """A kernel of one program: where `count` sequences lie, [2, count + 1].

    found[0] are the tokens before each of them, as in `bounds`, and found[1], the origins, its chunks of `size` tokens.
    Whatever `bounds` hold, nothing lies beyond the `tokens` of the row, nor beyond the `slots` that chunks have.
    """
    _places(bounds, bounds, found, count, size, tokens, slots, False)


@triton.jit(do_not_specialize=["count", "size", "tokens", "slots"])
def resumed_places(
    bounds: tl.tensor,
    positions: tl.tensor,
    found: tl.tensor,
    count: tl.tensor,
    size: tl.tensor,
    tokens: tl.tensor,
    slots: tl.tensor,
) -> None:
    """The same, [3, count + 1], of sequences that go on from `positions`, which are found[2]."""
    _places(bounds, positions, found, count, size, tokens, slots, True)


@triton.jit
def _places(
    bounds: tl.tensor,
    positions: tl.tensor,
    found: tl.tensor,
    count: tl.tensor,
    size: tl.tensor,
    tokens: tl.tensor,
    slots: tl.tensor,
    RESUMED: tl.constexpr,
) -> None:
    chunks = tl.zeros((), tl.int64)
    for first in range(0, count + 1, BLOCK):
        b = first + tl.arange(0, BLOCK)
        start = tl.load(bounds + b, mask=b <= count, other=0).to(tl.int64)
        end = tl.load(bounds + b + 1, mask=b < count, other=0).to(tl.int64)
        start = tl.minimum(tl.maximum(start, 0), tokens)
        end = tl.minimum(tl.maximum(end, 0), tokens)
        length = end - start
        if RESUMED:
            position = tl.load(positions + b, mask=b < count, other=0)
            tl.store(found + 2 * (count + 1) + b, position, mask=b < count)
            length += position % size
        own = tl.where((b < count) & (start < end), (length + size - 1) // size, 0)
        tl.store(found + b, start, mask=b <= count)
        tl.store(found + count + 1 + b, tl.minimum(chunks + tl.cumsum(own, 0) - own, slots), mask=b <= count)
        chunks += tl.sum(own, 0)


@triton.jit(do_not_specialize=["count", "width", "tokens"])
def blank(x: tl.tensor, starts: tl.tensor, count: tl.tensor, width: tl.tensor, tokens: tl.tensor) -> None:
    """A kernel: zeros for the tokens, of `width` numbers each, that come after the last of `count` sequences."""
    end = tokens.to(tl.int64) * width
    first = tl.load(starts + count) * width + tl.program_id(0) * BLOCK
    for start in range(first, end, tl.num_programs(0) * BLOCK):
        entries = start + tl.arange(0, BLOCK)
        tl.store(x + entries, tl.zeros([BLOCK], x.dtype.element_ty), mask=entries < end)
