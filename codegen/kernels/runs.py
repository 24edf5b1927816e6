"""Blocks that many chunks read: each run of readers is summed by a program of its own, and another adds the runs up.

A block of level p may have as many readers as it has chunks. One program for all of them would be the last to end.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.programs import Order, Units
from maskdsl.codegen.kernels.tiling import Dims, Tiling
from maskdsl.codegen.kernels.tree import Shape, blocks, choose_block, descend_to_block, own_row, write_readers

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module
    from maskdsl.schedule.stages import Stage

LEAST = 64
"""Readers that a program takes at the least where a block has more."""


@dataclass(frozen=True)
class Runs:
    """The runs of a gradient of blocks, which lie in `buffer`, a row for each."""

    shape: Shape
    buffer: Buffer

    @property
    def length(self) -> int:
        """The readers of a run: a power of the base."""
        return self.shape.base**self.level

    @property
    def level(self) -> int:
        """The highest level of which a block has no more readers than one run, for each of its siblings."""
        level = 0
        while self.shape.base**level < LEAST:
            level += 1
        return level

    @property
    def count(self) -> str:
        """The host's expression for the runs of all blocks that have several."""
        return f"hierarchy.runs(N, {self.shape.base}, {self.level})"

    @property
    def units(self) -> Units:
        """Runs of large blocks first, then all others, each of which has one."""
        base = self.shape.base
        return Units(f"({self.count} + hierarchy.blocks(N, {base}, {self.level}))")

    def groups(self, kernel: Kernel) -> str:
        """A kernel's expression for the runs that a large level has."""
        return f"tl.cdiv({kernel.size('N')}, {self.length}) * {self.shape.base - 1}"


def runs_of(module: Module, value: str, shape: Shape) -> Runs | None:
    """The runs of the gradient of blocks that a value holds; None where a program takes all readers of a block.

    They are aligned to chunks: under strong admissibility, and in packed sequences, readers of a block are not.
    """
    if shape.strong or module.tiling.packed:
        return None
    buffer = module.buffers.kept[value]
    runs = Runs(shape, dataclasses.replace(buffer, name=f"{buffer.name}_runs", row="{n}"))
    buffer = dataclasses.replace(runs.buffer, rows=f"max(1, {runs.count})")
    return dataclasses.replace(runs, buffer=buffer)


def units_of(tiling: Tiling, shape: Shape, runs: Runs | None) -> Units:
    """What the programs of a kernel that goes over readers do: blocks, or where there are any, runs."""
    return runs.units if runs is not None else blocks(tiling, shape.base)


def choose(kernel: Kernel, shape: Shape, runs: Runs | None) -> None:
    """Write which block a program does, its readers from `first` to before `last`, and the `rank` of their reads.

    With `runs`, `several` tells that these are one run of a block's readers.
    """
    if runs is None:
        choose_block(kernel, shape)
        write_readers(kernel, shape)
        return
    line, base, highest = kernel.line, shape.base, runs.level
    depth = kernel.parameter("depth", "depth", varying=True)
    line(f"groups = {runs.groups(kernel)}")
    line(f"large = groups * tl.maximum({depth} - {highest}, 0)")
    line("several = unit < large")
    line("number = tl.maximum(unit - large, 0)")
    line(f"p = tl.minimum({depth}, {highest})")
    descend_to_block(kernel, shape)
    line(f"p = tl.where(several, {depth} - unit // groups, p)")
    line(f"start = unit % groups // {base - 1} * {runs.length}")
    line(f"parent = start // walks.power(p + 1, {base}) * {base}")
    line(f"number = tl.where(several, parent + unit % groups % {base - 1}, number)")
    write_readers(kernel, shape)
    # the last sibling is read by nobody, its row is its parent's; a run may come before what it could read
    with kernel.block(f"if (several & (start < first)) | (number % {base} == {base - 1}):"):
        line("return")
    line("first = tl.where(several, start, first)")
    line(f"last = tl.where(several, tl.minimum(start + {runs.length}, last), last)")


def leave(emit: Evaluator, runs: Runs | None, shape: Shape, target: Buffer, dims: Dims, total: str) -> None:
    """Write the gradient that a program has: that of a block, or one run of it."""
    kernel, buffers = emit.kernel, emit.buffers
    row = own_row(kernel, shape)
    if runs is None:
        kernel.line(f"row = {row}")
        kernel.line(f"tl.store({buffers.address(kernel, target, 'row', emit.head)}{emit.inner(dims)}, {total})")
        return
    for condition, buffer, at in (("if several:", runs.buffer, "unit"), ("else:", target, row)):
        with kernel.block(condition):
            kernel.line(f"tl.store({buffers.address(kernel, buffer, at, emit.head)}{emit.inner(dims)}, {total})")


def add_up(module: Module, stage: Stage, runs: Runs | None, target: Buffer, dims: Dims, tiling: Tiling) -> None:
    """Write the kernel that adds up the runs of every block that has several, and its launch."""
    if runs is None:
        return
    base = runs.shape.base
    units = Units(f"(hierarchy.blocks(N, {base}) - hierarchy.blocks(N, {base}, {runs.level}))")
    tiles: Order = (("kt", str(tiling.key_parts)), ("h", "H"), ("b", "B"), ("unit", ""))
    tiles = (("vt", str(tiling.parts)), *tiles) if "V" in {letter for _, letter in dims} else tiles
    kernel = module.new_kernel("added", "The gradients of blocks, from their runs.", tiles, units)
    emit = module.evaluator(kernel, stage, tiling)
    line, address = kernel.line, emit.buffers.address
    choose_block(kernel, runs.shape)
    write_readers(kernel, runs.shape)
    line(f"groups = {runs.groups(kernel)}")
    line(f"total = {emit.zeros(dims)}")
    with kernel.block(f"for run in range(first // {runs.length}, tl.cdiv(last, {runs.length})):"):
        line(f"at = (depth - p) * groups + run * {base - 1} + number % {base}")
        line(f"total += tl.load({address(kernel, runs.buffer, 'at', emit.head)}{emit.inner(dims)}).to(tl.float32)")
    line(f"row = {own_row(kernel, runs.shape)}")
    line(f"tl.store({address(kernel, target, 'row', emit.head)}{emit.inner(dims)}, total)")
    module.host.append(kernel.launch())
