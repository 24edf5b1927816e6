"""Hierarchies whose operators are matrices, as launches: a pass a level, first operators, then states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import left_adjoint, matrix_tree, recalled, runs, states_left
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.matrix_walk import OPERATOR, STATE
from maskdsl.codegen.kernels.programs import Order, Units
from maskdsl.codegen.kernels.tree import Shape, levels_of
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module

HEADS: Order = (("h", "H"), ("b", "B"), ("unit", ""))


def tree(module: Module, stage: Stage, instruction: Instruction) -> None:
    """Blocks of every level; those that are chunks lie where kernels over chunks have left them."""
    shape, buffers = module.shapes[instruction.results[1]], module.buffers
    for result, leaf in zip(instruction.results[:2], instruction.operands, strict=False):
        buffers.kept[result] = buffers.kept[leaf]
    after = module.beside(instruction.results[0], "after", buffers.kept[instruction.results[0]])
    if module.training:
        module.host.append(buffers.allocation(after))
    kernel = module.new_kernel("blocks", "Blocks of the next level.", HEADS, _parents(shape))
    matrix_tree.merge(module.evaluator(kernel, stage), instruction, shape, after if module.training else None)
    module.host.append(f"for p in range(hierarchy.depth({levels_of(module.tiling.laid, shape.base)}, {shape.base})):")
    module.host.append(f"    {_launch(module, kernel)}")
    states_left.write(module, stage, instruction, shape)


def leave(module: Module, instruction: Instruction) -> None:
    """The memory in which the adjoint of a walk leaves what arrived and what came back, for every read."""
    shape, value = module.shapes[instruction.operands[2]], instruction.results[1]
    entries = module.tiling.held("C") * module.tiling.held("K")
    name = module.buffers.name(value)
    parts = ("V",) if module.tiling.parts > 1 else ()
    arrived = Buffer(f"{name}_arrived", 1, entries, True, rows=_all_reads(module, shape))
    returned = dataclasses.replace(arrived, name=f"{name}_returned", parts=parts, count=module.tiling.parts)
    if not module.tiling.packed:
        # nothing comes back from beyond the farthest block that a chunk reads
        returned = dataclasses.replace(returned, rows=f"max(1, hierarchy.all_reads(N, {shape.base}) - N + 1)")
    for suffix, buffer in (("arrived", arrived), ("returned", returned)):
        if f"{value}.{suffix}" not in module.buffers.kept:
            module.buffers.kept[f"{value}.{suffix}"] = buffer
            module.owed[buffer.name] = module.buffers.allocation(buffer)


def gather(module: Module, stage: Stage, instruction: Instruction) -> None:
    """The gradients of blocks, from their readers."""
    _, d_operators, d_states, *_ = instruction.results
    shape, buffers = module.shapes[instruction.operands[3]], module.buffers
    arrived, returned = (buffers.kept[f"{d_operators}.{x}"] for x in ("arrived", "returned"))
    if not module.tiling.laid:
        module.host.append(f"depth = hierarchy.depth(N, {shape.base})")
    columns = ("vt", str(module.tiling.parts))
    for value, name, about, order, dims in (
        (d_operators, "operators", "The gradient of a block's operator, from its readers.", HEADS, OPERATOR),
        (d_states, "readers", "The gradient of a block's state, from its readers.", (columns, *HEADS), STATE),
    ):
        target = module.keep_blocks(value, shape)
        found = runs.runs_of(module, value, shape)
        # not before: what has come back is given back first
        module.host += [buffers.allocation(each) for each in (target, *([found.buffer] if found else ()))]
        kernel = module.new_kernel(name, about, order, runs.units_of(module.tiling, shape, found))
        emit = module.evaluator(kernel, stage)
        runs.choose(kernel, shape, found)
        if value == d_operators:
            matrix_tree.gather_operators(emit, instruction, shape, arrived, returned)
        else:
            matrix_tree.gather_states(emit, instruction, shape, arrived)
        runs.leave(emit, found, shape, target, dims, "total")
        # nothing is held but a sum, so that four warps do in half precision
        kernel.warps = 4 if module.tiling.mode == "bf16" else module.block_warps
        module.host.append(kernel.launch())
        runs.add_up(module, stage, found, target, dims, module.tiling)
    recalled.write(module, stage, instruction, shape, arrived)


def descend(module: Module, stage: Stage, instruction: Instruction) -> None:
    """The gradients of blocks handed down to chunks."""
    operators, _, d_operators, d_states, *_ = instruction.operands
    shape, kept = module.shapes[instruction.operands[1]], module.buffers.kept
    after = kept[f"{operators}.after"]
    left_adjoint.write(module, stage, instruction, shape)
    depth = f"hierarchy.depth({levels_of(module.tiling.laid, shape.base)}, {shape.base})"
    downwards = f"for p in reversed(range({depth})):"
    down = module.new_kernel("handed", "Gradients of blocks handed down to their children.", HEADS, _parents(shape))
    matrix_tree.hand_down(module.evaluator(down, stage), instruction, shape, after)
    module.host += [downwards, f"    {_launch(module, down)}"]
    for result, gradient in zip(instruction.results[:2], (d_operators, d_states), strict=True):
        kept[result] = dataclasses.replace(kept[gradient], row=shape.leaf(module.tiling.laid))


WRITERS: Mapping[type, Callable[[Module, Stage, Instruction], None]] = {
    ops.Tree: tree,
    ops.WalkAdjoint: gather,
    ops.TreeAdjoint: descend,
}
"""What writes the kernels of an operation between chunks."""


def _all_reads(module: Module, shape: Shape) -> str:
    """The host's expression for how many reads are kept; those of a packed sequence begin at a place of its own."""
    laid = module.tiling.laid
    return f"N * {shape.reads(laid)}" if module.tiling.packed else f"max(1, hierarchy.all_reads(N, {shape.base}))"


def _parents(shape: Shape) -> Units:
    """The blocks of level p + 1."""
    return Units(f"(N // {shape.base} ** (p + 1))", f"walks.power(p + 1, {shape.base})")


def _launch(module: Module, kernel: Kernel) -> str:
    """The launch of a kernel over blocks."""
    kernel.warps = module.block_warps
    return kernel.launch()
