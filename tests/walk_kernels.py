"""Kernels that write down what the arithmetic of a hierarchy says, for a process in which Triton is the interpreter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from maskdsl.codegen.tiles import walks


@dataclass(frozen=True)
class Read:
    """A block of level `p` that ends before chunk `end`: where it is kept, and its rank among the reads of a chunk."""

    p: int
    end: int
    slot: int
    entry: int


@triton.jit
def _walk(out, counts, ROOM: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr):
    n = tl.program_id(0)
    end = n - 1 if STRONG else n
    p = 0
    count = walks.reads(n, BASE, STRONG)
    tl.store(counts + n, count)
    for i in range(count):
        p = walks.read_level(n, end, p, BASE, STRONG)
        width = walks.power(p, BASE)
        row = out + (n * ROOM + i) * 4
        tl.store(row, p)
        tl.store(row + 1, end)
        tl.store(row + 2, walks.slot(p, end, BASE, STRONG))
        tl.store(row + 3, walks.entry(p, end // width - 1, BASE, STRONG))
        end -= width


@triton.jit
def _readers(blocks, out, BASE: tl.constexpr, STRONG: tl.constexpr):
    row = tl.program_id(0) * 2
    p = tl.load(blocks + row)
    number = tl.load(blocks + row + 1)
    tl.store(out + row, walks.first_reader(p, number, BASE, STRONG))
    tl.store(out + row + 1, walks.last_reader(p, number, BASE, STRONG))


@triton.jit
def _places(blocks, slots, logs, count, SIZE: tl.constexpr, BASE: tl.constexpr, STRONG: tl.constexpr):
    i = tl.arange(0, SIZE)
    p = tl.load(blocks + 2 * i)
    end = tl.load(blocks + 2 * i + 1)
    tl.store(slots + i, walks.slot(p, end, BASE, STRONG))
    tl.store(logs + i, walks.log_row(p, end, count))


@triton.jit
def _numbers(reads, out, BASE: tl.constexpr):
    row = tl.program_id(0)
    n = tl.load(reads + 3 * row)
    p = tl.load(reads + 3 * row + 1)
    end = tl.load(reads + 3 * row + 2)
    number = end // walks.power(p, BASE) - 1
    tl.store(out + 2 * row, walks.reads_before(n, BASE) + walks.read_number(n, p, number, BASE))
    # the same block from the far end of the walk
    tl.store(out + 2 * row + 1, walks.widest(n - end + walks.power(p, BASE), BASE))


def numbers(reads: list[tuple[int, int, int]], base: int) -> list[tuple[int, int]]:
    """The number of each read, given by chunk, level and end, and the widest level that fits where its block starts."""
    out = torch.zeros(len(reads), 2, dtype=torch.int32)
    _numbers[(len(reads),)](torch.tensor(reads, dtype=torch.int32), out, base)
    return [(number, level) for number, level in out.tolist()]


def walked(chunks: int, base: int, strong: bool) -> list[list[Read]]:
    """What each chunk reads, in order."""
    out = torch.zeros(chunks, chunks, 4, dtype=torch.int32)
    counts = torch.zeros(chunks, dtype=torch.int32)
    _walk[(chunks,)](out, counts, chunks, base, strong)
    return [[Read(*read) for read in rows[:count]] for rows, count in zip(out.tolist(), counts.tolist(), strict=True)]


def readers(blocks: list[tuple[int, int]], base: int, strong: bool) -> list[range]:
    """The chunks that read each block, given by level and number."""
    out = torch.zeros(len(blocks), 2, dtype=torch.int32)
    _readers[(len(blocks),)](torch.tensor(blocks, dtype=torch.int32), out, base, strong)
    return [range(first, last) for first, last in out.tolist()]


def places(blocks: list[tuple[int, int]], chunks: int, base: int, strong: bool) -> tuple[list[int], list[int]]:
    """Where the state and the log decay of each block, given by level and end, are kept."""
    size = triton.next_power_of_2(len(blocks))
    given = torch.zeros(size, 2, dtype=torch.int32)
    given[: len(blocks)] = torch.tensor(blocks, dtype=torch.int32)
    slots, logs = torch.zeros(size, dtype=torch.int32), torch.zeros(size, dtype=torch.int32)
    _places[(1,)](given, slots, logs, chunks, size, base, strong)
    return slots[: len(blocks)].tolist(), logs[: len(blocks)].tolist()
