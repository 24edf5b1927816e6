"""What sequences leave behind at each level: their blocks, and the keys of a last chunk that is not full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, load, mask
from maskdsl.codegen.kernels.matrix_walk import MatrixBlocks
from maskdsl.codegen.kernels.tile import Place
from maskdsl.codegen.kernels.tree import Blocks, Shape
from maskdsl.schedule.stages import Stage

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.module import Module


def write(module: Module, stage: Stage, instruction: Instruction, shape: Shape) -> None:
    """Write the kernel of a tree's final states, if it has them, and what launches it."""
    if len(instruction.results) == 2:
        return
    module.hand_out(instruction.results[2])
    order = (("vt", str(module.tiling.parts)), ("level", "M"), ("h", "H"), ("b", "B"))
    kernel = module.new_kernel("left", "What a sequence leaves at one level.", order, None)
    kernel.opening.append("level += 1")
    leave(module.evaluator(kernel, stage), instruction, shape)
    kernel.warps = module.state_warps(instruction)
    module.host.append(kernel.launch())


def leave(emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
    """The state of a level: what came before and has met there, moved on, and the blocks and keys of that level."""
    assert isinstance(instruction.op, ops.Tree)
    kernel, line, base = emit.kernel, emit.kernel.line, shape.base
    operator, _, pushed, v, *initial = instruction.operands
    moves = Moves(emit, instruction.results[0], instruction.results[1], shape)
    line(f"carried = {emit.zeros(STATE)}")
    for each in initial:
        before(emit, shape, each, "carried")
    sizes(emit)
    with farthest_first(emit, shape):
        moves.by_block("carried")
        with kernel.block(f"if p + {shape.nearest} == level:"):
            line(f"carried += tl.load({moves.state}).to(tl.float32)")
    with last_chunk(emit) as place:
        moves.by_chunk(operator, place, "carried")
        with kernel.block(f"if level < {shape.nearest}:"):
            rows = f"tiles.level_of({emit.lane('C')}, rest, {shape.nearest}, {base}) == level"
            line(f"own = tl.where(({rows})[:, None], {emit.value(pushed, place).name}, 0.0).to({emit.tiling.operand})")
            line(f"carried += {emit.dot('tl.trans(own)', emit.operand(v, place))}")
    kept = emit.buffers.name(instruction.results[2])
    line(f"tl.store({address(emit, kept, 'level')}, carried{mask(emit)})")


class Moves:
    """What moves a state on, or its gradient back, over a block or over a chunk that is not full.

    Where operators are no matrices the gradient's way back is a log alone.
    """

    def __init__(self, emit: Evaluator, operators: str, states: str, shape: Shape) -> None:
        self.emit, self.shape = emit, shape
        self.matrices = self.blocks = None
        if ops.matrices([emit.types[operators]]):
            self.matrices = MatrixBlocks(emit, shape, operators, states)
        else:
            self.blocks = Blocks(emit, shape, operators, states)

    @property
    def state(self) -> str:
        """The addresses of the state of the block of level `p` that ends at `end`."""
        row = f"walks.slot(p, end, {self.shape.constants})"
        found = self.matrices or self.blocks
        assert found is not None
        return found.state_at(found.states, row)

    def by_block(self, carried: str, back: bool = False) -> None:
        """Move over the block of level `p` that ends at `end`."""
        if self.matrices is not None:
            row = f"walks.slot(p, end, {self.shape.constants})"
            self._multiply(carried, self.matrices.load(self.matrices.operator_at(self.matrices.operators, row)), back)
        elif self.blocks is not None:
            self._scale(carried, f"tl.load({self.blocks.log_at('p', 'end')})")

    def by_chunk(self, operator: str, place: Place, carried: str, back: bool = False) -> None:
        """Move over a chunk."""
        if self.matrices is not None:
            self._multiply(carried, self.emit.operand(operator, place), back)
        else:
            self._scale(carried, self.emit.value(operator, place).name)

    def _multiply(self, carried: str, operand: str, back: bool) -> None:
        factor = f"tl.trans({operand})" if back else operand
        moved = self.emit.dot(factor, f"{carried}.to({self.emit.tiling.operand})")
        self.emit.kernel.line(f"{carried} = {moved}")

    def _scale(self, carried: str, log: str) -> None:
        assert self.blocks is not None
        self.emit.kernel.line(f"decay = tiles.exp({log} + {self.blocks.no_log})")
        self.emit.kernel.line(f"{carried} *= {self.blocks.beside('decay')}")


@contextmanager
def nearest_first(emit: Evaluator, shape: Shape) -> Iterator[None]:
    """A loop over the blocks that are left after `whole` chunks; `p`, `end` and `row` are those of one."""
    line = emit.kernel.line
    line("end = whole + 0")
    line("p = 0")
    with emit.kernel.block("while end > 0:"):
        line(f"p = walks.read_level(whole, {emit.kernel.absolute('end')}, p, {shape.constants})")
        line(f"row = walks.slot(p, end, {shape.constants})")
        yield
        line(f"end -= walks.power(p, {shape.base})")


@contextmanager
def farthest_first(emit: Evaluator, shape: Shape) -> Iterator[None]:
    """The same from the first chunk on."""
    line = emit.kernel.line
    line("end = 0")
    with emit.kernel.block("while end < whole:"):
        line(f"end = walks.next_end(end, whole, past, {shape.base})")
        line(f"p = walks.level_at({emit.kernel.absolute('end')}, {shape.base})")
        line(f"row = walks.slot(p, end, {shape.constants})")
        yield


@contextmanager
def last_chunk(emit: Evaluator) -> Iterator[Place]:
    """What is done where the last chunk, number `whole`, has tokens and is not full."""
    with emit.kernel.block("if (rest > 0) & (T > 0):"):
        yield Place("whole")


def sizes(emit: Evaluator) -> None:
    """Write how many chunks are `whole`, and how many positions of the last one are taken, the `rest`."""
    emit.kernel.line(f"whole = (shift + T) // {emit.tiling.chunk}")
    emit.kernel.line(f"rest = (shift + T) % {emit.tiling.chunk}")


def from_before(shape: Shape) -> str:
    """Whether something that came before is at the `level` from now on."""
    digit = f"walks.shifted(position, level - 1, {shape.base}) % {shape.base}"
    met = f"walks.apart(position + T, position, {shape.base})"
    return f"((level == {met}) | ((level > {met}) & ({digit} > 0)))"


def before(emit: Evaluator, shape: Shape, initial: str, state: str) -> None:
    """Write what came before that is at the `level` from now on, if anything is, in the place of `state`."""
    name = emit.buffers.name(initial)
    emit.kernel.line(f"met = walks.apart(position + T, position, {shape.base})")
    for test, source in (("level > met", name), ("level == met", f"{name}_sums")):
        with emit.kernel.block(f"if {test}:"):
            emit.kernel.line(f"{state} = {load(emit, source, 'level')}")
