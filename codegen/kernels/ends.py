"""The end of a sequence as its final states see it: chunks of single keys, blocks, and what moves states over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maskdsl.chunk import ops
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.matrix_walk import MatrixBlocks
from maskdsl.codegen.kernels.tile import Place
from maskdsl.codegen.kernels.tree import Blocks, Shape


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
        row = self.shape.row(self.emit.kernel, "p", "end")
        found = self.matrices or self.blocks
        assert found is not None
        return found.state_at(found.states, row)

    def by_block(self, carried: str, back: bool = False) -> None:
        """Move over the block of level `p` that ends at `end`."""
        if self.matrices is not None:
            row = self.shape.row(self.emit.kernel, "p", "end")
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
    line, absolute = emit.kernel.line, emit.kernel.absolute
    line(f"end = whole - {int(shape.strong)}")
    line("p = 0")
    with emit.kernel.block("while end > 0:"):
        line(f"p = walks.read_level({absolute('whole')}, {absolute('end')}, p, {shape.constants})")
        line(f"row = {shape.row(emit.kernel, 'p', 'end')}")
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


@contextmanager
def last_chunks(emit: Evaluator, shape: Shape) -> Iterator[Place]:
    """The chunks of which single keys are seen from the end, the last one first.

    Under weak admissibility that is one that is not full; under strong admissibility also the one before the chunk of
    the next position, whether that has tokens or not.
    """
    line, block = emit.kernel.line, emit.kernel.block
    if not shape.strong:
        with last_chunk(emit) as place:
            yield place
        return
    line("first = tl.where(rest > 0, 0, 1)")
    line("last = tl.where(T > 0, tl.minimum(whole, 1) + 1, 0)")
    with block("for back in range(first, last):"):
        line("n = whole - back")
        yield Place("n")


def sizes(emit: Evaluator) -> None:
    """Write how many chunks are `whole`, and how many positions of the last one are taken, the `rest`."""
    emit.kernel.line(f"whole = (shift + T) // {emit.tiling.chunk}")
    emit.kernel.line(f"rest = (shift + T) % {emit.tiling.chunk}")
