"""Hierarchies whose operators are matrices, as launches: a pass a level, first operators, then states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import left_adjoint, matrix_tree, recalled, states_left
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.programs import Order, Units
from maskdsl.codegen.kernels.tree import Shape, blocks, levels_of
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
    module.host.append(buffers.allocation(after))
    upwards = f"for p in range(hierarchy.depth({levels_of(module.tiling.laid, shape.base)}, {shape.base})):"
    units = _parents(shape)
    operators = module.new_kernel("operators", "Operators of blocks of the next level.", HEADS, units)
    matrix_tree.merge_operators(module.evaluator(operators, stage), instruction, shape, after)
    states = module.new_kernel("states", "States of blocks of the next level.", _columns(module), units)
    matrix_tree.merge_states(module.evaluator(states, stage), instruction, shape, after)
    _launch(module, upwards, operators, states)
    states_left.write(module, stage, instruction, shape)


def leave(module: Module, instruction: Instruction) -> None:
    """The memory in which the adjoint of a walk leaves what arrived and what came back, for every read."""
    shape, value = module.shapes[instruction.operands[2]], instruction.results[1]
    entries = module.tiling.held("C") * module.tiling.held("K")
    name = module.buffers.name(value)
    parts = ("V",) if module.tiling.parts > 1 else ()
    arrived = Buffer(f"{name}_arrived", 1, entries, True, rows=_all_reads(module, shape))
    returned = dataclasses.replace(arrived, name=f"{name}_returned", parts=parts, count=module.tiling.parts)
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
    for value in (d_operators, d_states):
        module.host.append(buffers.allocation(module.keep_blocks(value, shape)))
    units = blocks(module.tiling, shape.base)
    operators = module.new_kernel("operators", "The gradient of a block's operator, from its readers.", HEADS, units)
    matrix_tree.gather_operators(module.evaluator(operators, stage), instruction, shape, arrived, returned)
    states = module.new_kernel("readers", "The gradient of a block's state, from its readers.", _columns(module), units)
    matrix_tree.gather_states(module.evaluator(states, stage), instruction, shape, arrived)
    _launch(module, None, operators, states)
    recalled.write(module, stage, instruction, shape, arrived)


def descend(module: Module, stage: Stage, instruction: Instruction) -> None:
    """The gradients of blocks handed down to chunks."""
    operators, _, d_operators, d_states, *_ = instruction.operands
    shape, kept = module.shapes[instruction.operands[1]], module.buffers.kept
    after = kept[f"{operators}.after"]
    left_adjoint.write(module, stage, instruction, shape)
    depth = f"hierarchy.depth({levels_of(module.tiling.laid, shape.base)}, {shape.base})"
    downwards = f"for p in reversed(range({depth})):"
    units = _parents(shape)
    down = module.new_kernel("operators", "Gradients of operators handed down to children.", HEADS, units)
    matrix_tree.hand_down_operators(module.evaluator(down, stage), instruction, shape, after)
    states = module.new_kernel("handed", "Gradients of states handed down to children.", _columns(module), units)
    matrix_tree.hand_down_states(module.evaluator(states, stage), instruction, shape, after)
    _launch(module, downwards, down, states)
    for result, gradient in zip(instruction.results[:2], (d_operators, d_states), strict=True):
        kept[result] = dataclasses.replace(kept[gradient], row=shape.leaf)


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


def _columns(module: Module) -> Order:
    return (("vt", str(module.tiling.parts)), *HEADS)


def _launch(module: Module, loop: str | None, operators: Kernel, states: Kernel) -> None:
    """Launch both kernels, in the loop of the host that is given."""
    for kernel in (operators, states):
        kernel.warps = 8 if module.tiling.extent("K") > 64 else 4
    if loop:
        module.host.append(loop)
    module.host += [f"{'    ' if loop else ''}{kernel.launch()}" for kernel in (operators, states)]
