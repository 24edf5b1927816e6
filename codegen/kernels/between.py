"""Operations between chunks inside a kernel: walks over blocks; `band` and `resume` hold what reads neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import matrix_walk
from maskdsl.codegen.kernels.band import band, band_adjoint
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import levels_read
from maskdsl.codegen.kernels.left_adjoint import left_adjoint
from maskdsl.codegen.kernels.resume import resume
from maskdsl.codegen.kernels.tile import Place, Tile
from maskdsl.codegen.kernels.tree import Blocks, rank_of, reads_by, reads_of, shape_of
from maskdsl.codegen.kernels.window_left_adjoint import keep_adjoint


def between(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """Write an operation; its results become tiles of the place."""
    matrices = ops.matrices([emit.types[x] for x in instruction.operands])
    match instruction.op:
        case ops.Walk():
            (matrix_walk.walk if matrices else _walk)(emit, instruction, place)
        case ops.WalkAdjoint():
            (matrix_walk.walk_adjoint if matrices else _walk_adjoint)(emit, instruction, place)
        case ops.Band():
            band(emit, instruction, place)
        case ops.BandAdjoint():
            band_adjoint(emit, instruction, place)
        case ops.Resume():
            resume(emit, instruction, place)
        case ops.LeftAdjoint():
            left_adjoint(emit, instruction, place)
        case ops.KeepAdjoint():
            keep_adjoint(emit, instruction, place)


STAGES = 3
"""How many blocks of a walk in half precision are on their way at once; wider ones take what a kernel has room for."""


class _Reads:
    """The blocks that a chunk reads, as a loop; inside it `state` is a block's, `log` the decays up to the queries."""

    def __init__(self, emit: Evaluator, op: ops.Walk | ops.WalkAdjoint, operators: str, states: str) -> None:
        self.emit, self.kernel = emit, emit.kernel
        self.shape = shape_of(op.base, op.admissibility, emit.tiling.chunk)
        self.blocks = Blocks(emit, self.shape, operators, states)
        self.end, self.p, self.log, self.state = (emit.kernel.fresh(x) for x in ("end", "p", "log", "state"))
        self.level = f"({self.p} + {self.shape.nearest})"

    @contextmanager
    def loop(self, place: Place) -> Iterator[None]:
        """Nearest block first."""
        line, constants = self.kernel.line, self.shape.constants
        line(f"{self.end} = {place.chunk} - {int(self.shape.strong)}")
        line(f"{self.p} = 0")
        line(f"{self.log} = {self.blocks.no_log}")
        count = reads_by(self.kernel, place.chunk, self.shape)
        ahead = f", num_stages={STAGES}" if self.emit.tiling.mode == "bf16" else ""
        with self.kernel.block(f"for _ in tl.range(0, {count}{ahead}):"):
            chunk, end = self.kernel.absolute(place.chunk), self.kernel.absolute(self.end)
            line(f"{self.p} = walks.read_level({chunk}, {end}, {self.p}, {constants})")
            line(f"row = {self.shape.row(self.kernel, self.p, self.end)}")
            line(f"{self.state} = tl.load({self.blocks.state_at(self.blocks.states, 'row')})")
            yield
            line(f"{self.log} += tl.load({self.blocks.log_at(self.p, self.end)})")
            line(f"{self.end} -= walks.power({self.p}, {self.shape.base})")

    def leave(self, buffer: Buffer, text: str, once: bool) -> None:
        """Leave something about a read in memory; `once` where all programs for columns of V find the same."""
        rank_of(self.kernel, self.shape, self.p, self.end)
        self.leave_at("rank", buffer, text, once)

    def leave_at(self, rank: str, buffer: Buffer, text: str, once: bool) -> None:
        """The same about a read of some rank."""
        kernel, store = self.kernel, f"tl.store({self._at(buffer, rank)}, {text})"
        if once and self.emit.tiling.parts > 1:
            with kernel.block("if vt == 0:"):
                kernel.line(store)
        else:
            kernel.line(store)

    @property
    def one_a_level(self) -> bool:
        """Whether a chunk reads no more than one block of a level, so that its rank tells the level."""
        return self.shape.base == 2 and not self.shape.strong and not self.kernel.laid

    def leave_levels(self, buffer: Buffer, text: str) -> None:
        """Leave something [L] about the levels in memory, that of a level where its read is ranked."""
        rank = f"{self.emit.lane('L')} - {self.shape.nearest}"
        read = f"({rank} >= 0) & ({rank} < {reads_of(self.kernel, buffer)})"
        self.kernel.line(f"tl.store({self._at(buffer, rank)}, {text}, mask={read})")

    def _at(self, buffer: Buffer, rank: str) -> str:
        """The address of something about a read, in the part of the program's columns of V."""
        kernel, buffers = self.kernel, self.emit.buffers
        address = self.blocks.at(buffer, f"(n * {reads_of(kernel, buffer)} + {rank})")
        part = buffers.part(buffer.parts)
        return address if part == "0" else f"{address} + {part} * {buffers.part_step(kernel, buffer)}"


def _walk(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    assert isinstance(instruction.op, ops.Walk)
    queries, operators, states, lam, *initial = instruction.operands
    (result,) = instruction.results
    reads = _Reads(emit, instruction.op, operators, states)
    emit.prepare_columns(lam, place)
    diagonal, log, rows = reads.blocks.diagonal, reads.log, None
    if diagonal:
        r = emit.value(queries, place).name
    else:
        # what scales a query scales its row of the result
        r, rows = emit.plain(queries, place), place.tiles[queries].rows
    out = emit.assign(result, emit.zeros(emit.dims(result)))

    def read(factor: str, state: str) -> None:
        if diagonal:
            pulled = f"({r} * tiles.exp({log})[None, :]).to({emit.tiling.operand})"
            emit.kernel.line(f"{out} += {factor}[:, None] * {emit.dot(pulled, state)}")
        else:
            emit.kernel.line(f"{out} += ({factor} * tiles.exp({log}))[:, None] * {emit.dot(r, state)}")

    with reads.loop(place):
        read(emit.column(lam, place, reads.level), reads.state)
    for each in initial:
        with levels_read(emit, reads.shape, each, place) as (state, level):
            read(emit.column(lam, place, level, by_row=True), state)
    place.tiles[result] = Tile(out, emit.dims(result), rows=rows)


def _walk_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dR and dlam; what each read gives to the decays before it, and how far it reached, are left in memory."""
    assert isinstance(instruction.op, ops.WalkAdjoint)
    gradient, queries, operators, states, lam, *initial = instruction.operands
    d_queries, d_operators, _, d_lam, *_ = instruction.results
    reads = _Reads(emit, instruction.op, operators, states)
    emit.prepare_columns(lam, place)
    line, diagonal, log = emit.kernel.line, reads.blocks.diagonal, reads.log
    if diagonal:
        r = emit.value(queries, place).name
    else:
        r, rows = f"{emit.plain(queries, place)}.to(tl.float32)", place.tiles[queries].rows
    operand = emit.operand(gradient, place)
    target = None if diagonal else emit.target(d_queries, place)
    out, scaled = target or (emit.assign(d_queries, emit.zeros(emit.dims(d_queries))), "")
    d_weights = emit.assign(d_lam, emit.zeros(emit.dims(d_lam)))

    def read(factor: str, state: str, level: str) -> str:
        """Take a read back; what its decays owe is returned."""
        line(f"weight = {factor}")
        line(f"found = {emit.dot(operand, f'tl.trans({state})')}{f' * tiles.exp({log})[None, :]' if diagonal else ''}")
        if diagonal:
            line(f"product = found * {r}")
            line("column = tl.sum(product, 1)")
            line(f"{out} += weight[:, None] * found")
            owed = "tl.sum(weight[:, None] * product, 0)"
        else:
            line(f"column = tl.sum(found * {r}, 1) * tiles.exp({log}){f' * {rows}' if rows else ''}")
            line(f"{out} += (weight * tiles.exp({log}){scaled})[:, None] * found")
            owed = "tl.sum(weight * column, 0)"
        line(f"{d_weights} += tiles.place_column(column, {level}, {emit.tiling.levels})")
        return owed

    shares, reach = (emit.buffers.kept[f"{d_operators}.{x}"] for x in ("shares", "reach"))
    apart = reads.one_a_level and not diagonal
    with reads.loop(place):
        owed = read(emit.column(lam, place, reads.level), reads.state, reads.level)
        if not apart:
            reads.leave(shares, owed, once=False)
        reads.leave(reach, reads.log, once=True)
    if apart:
        # a sum over positions in every read would have all warps wait for each other
        reads.leave_levels(shares, f"tl.sum({emit.value(lam, place).name} * {d_weights}, 0)")
    for each in initial:
        line(f"total = {reads.blocks.no_log}")
        with levels_read(emit, reads.shape, each, place) as (state, level):
            line(f"total += {read(emit.column(lam, place, level, by_row=True), state, f'{level}[:, None]')}")
        beyond = f"{reads_of(emit.kernel, shares)} - 1"
        reads.leave_at(beyond, shares, "total", once=False)
        reads.leave_at(beyond, reach, reads.log, once=True)
    parts = frozenset({"V"} if emit.tiling.parts > 1 else ())
    place.tiles[d_queries] = Tile(out, emit.dims(d_queries), parts)
    place.tiles[d_lam] = Tile(d_weights, emit.dims(d_lam), parts)
