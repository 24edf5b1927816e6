"""Which of the sequences of a batch row a program works on."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(1024)
"""Numbers that a program of `blank` writes at a time."""


@triton.jit
def sequence_of(
    unit: tl.tensor, origins: tl.tensor, count: tl.tensor, width: tl.tensor, PER: tl.constexpr
) -> tl.tensor:
    """The sequence, of `count`, that a unit of work belongs to.

    Sequence b, whose chunks are origins[b] up to origins[b + 1], has the units origins[b] * PER // width + b and those
    after it up to the next one's: room for PER units for every `width` chunks, the last of which may not be whole.
    """
    low = unit * 0
    high = low + count
    while high - low > 1:
        middle = (low + high) // 2
        before = tl.load(origins + middle) * PER // width + middle <= unit
        low = tl.where(before, middle, low)
        high = tl.where(before, high, middle)
    return low


@triton.jit(do_not_specialize=["count", "width", "tokens"])
def blank(x: tl.tensor, bounds: tl.tensor, count: tl.tensor, width: tl.tensor, tokens: tl.tensor) -> None:
    """A kernel: zeros for the tokens, of `width` numbers each, that come after the last of `count` sequences."""
    end = tokens.to(tl.int64) * width
    first = tl.load(bounds + count) * width + tl.program_id(0) * BLOCK
    for start in range(first, end, tl.num_programs(0) * BLOCK):
        entries = start + tl.arange(0, BLOCK)
        tl.store(x + entries, tl.zeros([BLOCK], x.dtype.element_ty), mask=entries < end)
