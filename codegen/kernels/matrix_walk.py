"""Walks over blocks whose operators are matrices, and their adjoints, inside kernels over chunks.

Queries are pulled back from block to block, R = R A, so what a walk reads depends on all it has passed. The adjoint
goes there and back, and leaves in memory, for every read, the queries that arrived and the gradient that came back:
from these the gradients of a block are sums over its readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import levels_read
from maskdsl.codegen.kernels.tile import Place, Tile
from maskdsl.codegen.kernels.tree import Shape, rank_of, reads_by, shape_of

ROWS = ((0, "C"), (1, "K"))
STATE = ((0, "K"), (1, "V"))
OPERATOR = ((0, "K"), (1, "K"))


class MatrixBlocks:
    """The states and operators of blocks in memory, seen from a kernel."""

    def __init__(self, emit: Evaluator, shape: Shape, operators: str, states: str) -> None:
        self.emit, self.kernel, self.shape = emit, emit.kernel, shape
        self.operators, self.states = emit.buffers.kept[operators], emit.buffers.kept[states]

    def operator_at(self, buffer: Buffer, row: str) -> str:
        """The addresses of an operator."""
        return self.emit.buffers.address(self.kernel, buffer, row, self.emit.head) + self.emit.inner(OPERATOR)

    def state_at(self, buffer: Buffer, row: str) -> str:
        """The addresses of a state."""
        return self.emit.buffers.address(self.kernel, buffer, row, self.emit.head) + self.emit.inner(STATE)

    def rows_at(self, buffer: Buffer, read: str) -> str:
        """The addresses of what is kept of a read, [C, K]; reads are numbered chunk by chunk, nearest first."""
        return self.emit.buffers.address(self.kernel, buffer, read, self.emit.head) + self.emit.inner(ROWS)

    def load(self, address: str) -> str:
        """What lies there as an operand of a product."""
        return f"tl.load({address}).to({self.emit.tiling.operand})"

    def operand(self, name: str) -> str:
        """A tile of float32 as an operand of a product."""
        return f"{name}.to({self.emit.tiling.operand})"


class _Reads:
    """The blocks that a chunk reads, as loops; inside one, `row` is where a block lies and `read` the read's number."""

    def __init__(
        self,
        emit: Evaluator,
        op: ops.Walk | ops.WalkAdjoint,
        operators: str,
        states: str,
        kept: Buffer | None = None,
    ) -> None:
        self.kept = kept
        self.shape = shape_of(op.base, op.admissibility, emit.tiling.chunk)
        self.blocks = MatrixBlocks(emit, self.shape, operators, states)
        self.kernel = emit.kernel
        self.end, self.p = (emit.kernel.fresh(x) for x in ("end", "p"))
        self.level = f"({self.p} + {self.shape.nearest})"

    @contextmanager
    def nearest_first(self, place: Place) -> Iterator[None]:
        """From the chunk to its first position."""
        line, constants, base = self.kernel.line, self.shape.constants, self.shape.base
        line(f"{self.end} = {place.chunk} + 0")
        line(f"{self.p} = 0")
        if self.kernel.laid:
            counted = f"for _ in range(0, {reads_by(self.kernel, place.chunk, self.shape)}):"
        else:
            line(f"first = walks.reads_before({place.chunk}, {base})")
            line(f"last = walks.reads_before({place.chunk} + 1, {base}) - 1")
            counted = "for read in range(first, last + 1):"
        with self.kernel.block(counted):
            end = self.kernel.absolute(self.end)
            line(f"{self.p} = walks.read_level({place.chunk}, {end}, {self.p}, {constants})")
            line(f"row = walks.slot({self.p}, {self.end}, {constants})")
            self._number(place)
            yield
            line(f"{self.end} -= walks.power({self.p}, {base})")

    @contextmanager
    def another(self) -> Iterator[None]:
        """Inside either loop, what only reads have that are not the farthest one of all."""
        if self.kernel.laid:
            # something may lie before the farthest block
            yield
            return
        with self.kernel.block("if read < last:"):
            yield

    def pull(self, queries: str) -> None:
        """Pull queries, an operand of products, back over a block."""
        operator = self.blocks.load(self.blocks.operator_at(self.blocks.operators, "row"))
        self.kernel.line(f"{queries} = {self.blocks.operand(self.blocks.emit.dot(queries, operator))}")

    @contextmanager
    def farthest_first(self, place: Place) -> Iterator[None]:
        """And back."""
        line, constants, base = self.kernel.line, self.shape.constants, self.shape.base
        line(f"{self.end} = 0")
        if self.kernel.laid:
            with self.kernel.block(f"while {self.end} < {place.chunk}:"):
                line(f"{self.end} = walks.next_end({self.end}, {place.chunk}, past, {base})")
                line(f"{self.p} = walks.level_at({self.kernel.absolute(self.end)}, {base})")
                line(f"row = walks.slot({self.p}, {self.end}, {constants})")
                self._number(place)
                yield
            return
        with self.kernel.block("for read in range(last, first - 1, -1):"):
            line(f"{self.p} = walks.widest({place.chunk} - {self.end}, {base})")
            line(f"{self.end} += walks.power({self.p}, {base})")
            line(f"row = walks.slot({self.p}, {self.end}, {constants})")
            yield

    def _number(self, place: Place) -> None:
        """Write the number of a read where those of a chunk go by rank."""
        if self.kernel.laid and self.kept is not None:
            rank_of(self.kernel, self.shape, self.p, self.end)
            per = self.blocks.emit.buffers.per_chunk(self.kernel, self.kept)
            self.kernel.line(f"read = {place.chunk} * {per} + rank")

    @property
    def beyond(self) -> str:
        """The number of what chunk n reads of all that came before, as one read."""
        assert self.kept is not None
        return f"(n + 1) * {self.blocks.emit.buffers.per_chunk(self.kernel, self.kept)} - 1"


def walk(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """o += lam (R H), then R = R A, block by block."""
    assert isinstance(instruction.op, ops.Walk)
    queries, operators, states, lam, *initial = instruction.operands
    (result,) = instruction.results
    reads = _Reads(emit, instruction.op, operators, states)
    blocks, line = reads.blocks, emit.kernel.line
    emit.prepare_columns(lam, place)
    pulled = emit.assign("pulled", blocks.operand(emit.value(queries, place).name))
    out = emit.assign(result, emit.zeros(emit.dims(result)))
    with reads.nearest_first(place):
        found = emit.dot(pulled, blocks.load(blocks.state_at(blocks.states, "row")))
        line(f"{out} += {emit.column(lam, place, reads.level)}[:, None] * {found}")
        with reads.another():
            reads.pull(pulled)
    for each in initial:
        with levels_read(emit, reads.shape, each, place) as (state, level):
            factor = emit.column(lam, place, level, by_row=True)
            line(f"{out} += {factor}[:, None] * {emit.dot(pulled, state)}")
    place.tiles[result] = Tile(out, emit.dims(result))


def walk_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dR and dlam, and for every read the queries that arrived and the gradient that came back."""
    assert isinstance(instruction.op, ops.WalkAdjoint)
    gradient, queries, operators, states, lam, *initial = instruction.operands
    d_queries, d_operators, _, d_lam, *_ = instruction.results
    kept, line = emit.buffers.kept, emit.kernel.line
    arrived, returned = (kept[f"{d_operators}.{x}"] for x in ("arrived", "returned"))
    reads = _Reads(emit, instruction.op, operators, states, arrived)
    blocks = reads.blocks
    emit.prepare_columns(lam, place)
    d = emit.operand(gradient, place)
    pulled = emit.assign("pulled", blocks.operand(emit.value(queries, place).name))
    d_weights = emit.assign(d_lam, emit.zeros(emit.dims(d_lam)))
    with reads.nearest_first(place):
        # programs for other columns write the same
        line(f"tl.store({blocks.rows_at(arrived, 'read')}, {pulled})")
        with reads.another():
            reads.pull(pulled)
    back = emit.assign(d_queries, emit.zeros(emit.dims(d_queries)))

    def read(queries: str, factor: str, state: str, level: str) -> None:
        """Take a read back, through the gradient of its queries: one product for these and for the weights."""
        line(f"found = {emit.dot(d, f'tl.trans({state})')}")
        line(f"{d_weights} += tiles.place_column(tl.sum(found * {queries}, 1), {level}, {emit.tiling.levels})")
        line(f"{back} += {factor}[:, None] * found")

    for each in initial:
        line(f"tl.store({blocks.rows_at(arrived, reads.beyond)}, {pulled})")
        with levels_read(emit, reads.shape, each, place) as (state, level):
            read(f"{pulled}.to(tl.float32)", emit.column(lam, place, level, by_row=True), state, f"{level}[:, None]")
    line("tl.debug_barrier()")
    with reads.farthest_first(place):
        with reads.another():
            address = blocks.rows_at(returned, "read" if emit.kernel.laid else f"(read - {place.chunk} + 1)")
            part = emit.buffers.part(returned.parts)
            if part != "0":
                address += f" + {part} * {emit.buffers.part_step(emit.kernel, returned)}"
            line(f"tl.store({address}, {back})")
            operator = blocks.load(blocks.operator_at(blocks.operators, "row"))
            line(f"{back} = {emit.dot(blocks.operand(back), f'tl.trans({operator})')}")
        line(f"came = tl.load({blocks.rows_at(arrived, 'read')}).to(tl.float32)")
        state = blocks.load(blocks.state_at(blocks.states, "row"))
        read("came", emit.column(lam, place, reads.level), state, reads.level)
    parts = frozenset({"V"} if emit.tiling.parts > 1 else ())
    place.tiles[d_queries] = Tile(back, emit.dims(d_queries), parts)
    place.tiles[d_lam] = Tile(d_weights, emit.dims(d_lam), parts)
