"""Bands of neighbouring chunks: a loop over lags inside a kernel over chunks, and what the decays between are owed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place, Tile


def band(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """o of a chunk, from the chunks before it."""
    queries, operator, pushed, v, *lam = instruction.operands
    (result,) = instruction.results
    lags = _Lags(emit, instruction, operator, lam)
    lags.evaluate(place, queries)
    out = emit.assign(result, emit.zeros(emit.dims(result)))
    with lags.before(place) as other:
        pulled = lags.operand(f"{emit.value(queries, place).name} * {lags.decay}")
        scores = lags.weighted(emit.dot(pulled, f"tl.trans({emit.operand(pushed, other)})"), place, other)
        emit.kernel.line(f"{out} += {emit.dot(lags.operand(scores), emit.operand(v, other))}")
    place.tiles[result] = Tile(out, emit.dims(result))


def band_adjoint(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    """dR and dlam from the chunks before, dP and dv from those after; shares of the decays between stay in memory."""
    _looking_back(emit, instruction, place)
    _looking_ahead(emit, instruction, place)


def _looking_back(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    gradient, queries, operator, pushed, v, *lam = instruction.operands
    d_queries, d_operator = instruction.results[:2]
    lags = _Lags(emit, instruction, operator, lam)
    lags.evaluate(place, queries, gradient)
    out = emit.assign(d_queries, emit.zeros(emit.dims(d_queries)))
    (d_lam,) = instruction.results[4:] or (None,)
    d_weights = emit.assign(d_lam, emit.zeros(emit.dims(d_lam))) if d_lam else ""
    shares = emit.buffers.kept.get(f"{d_operator}.shares")
    line, parts = emit.kernel.line, frozenset({"V"} if emit.tiling.parts > 1 else ())
    with lags.before(place) as other:
        pulled = emit.assign("far", f"{emit.value(queries, place).name} * {lags.decay}")
        keys = emit.operand(pushed, other)
        met = emit.dot(emit.operand(gradient, place), f"tl.trans({emit.operand(v, other)})")
        met = emit.assign("met", lags.near(met))
        if d_lam:
            scores = emit.dot(lags.operand(pulled), f"tl.trans({keys})")
            line(f"{d_weights} += {lags.weights_adjoint(f'{met} * {scores}', place, other)}")
        found = emit.assign("found", emit.dot(lags.operand(lags.weighted(met, place, other)), keys))
        line(f"{out} += {found} * {lags.decay}")
        if shares is not None:
            share = f"tl.sum({found} * {pulled}, 0)"
            line(f"tl.store({lags.share_at(shares)}, {share if lags.diagonal else f'tl.sum({share}, 0)'})")
    place.tiles[d_queries] = Tile(out, emit.dims(d_queries), parts)
    if d_lam:
        place.tiles[d_lam] = Tile(d_weights, emit.dims(d_lam), parts)


def _looking_ahead(emit: Evaluator, instruction: Instruction, place: Place) -> None:
    gradient, queries, operator, pushed, v, *lam = instruction.operands
    _, _, d_pushed, d_v, *_ = instruction.results
    lags = _Lags(emit, instruction, operator, lam)
    lags.evaluate(place, pushed, v)
    keys = emit.assign(d_pushed, emit.zeros(emit.dims(d_pushed)))
    values = emit.assign(d_v, emit.zeros(emit.dims(d_v)))
    line = emit.kernel.line
    with lags.after(place) as other:
        pulled = emit.assign("far", lags.operand(f"{emit.value(queries, other).name} * {lags.decay}"))
        d = emit.operand(gradient, other)
        met = lags.weighted(emit.dot(d, f"tl.trans({emit.operand(v, place)})"), other, place)
        line(f"{keys} += {emit.dot(f'tl.trans({lags.operand(met)})', pulled)}")
        scores = lags.weighted(emit.dot(pulled, f"tl.trans({emit.operand(pushed, place)})"), other, place)
        line(f"{values} += {emit.dot(f'tl.trans({lags.operand(scores)})', d)}")
    parts = frozenset({"V"} if emit.tiling.parts > 1 else ())
    place.tiles[d_pushed] = Tile(keys, emit.dims(d_pushed), parts)
    place.tiles[d_v] = Tile(values, emit.dims(d_v))


class _Lags:
    """The chunks that a chunk meets, nearest first; `log` are the decays of the chunks between the two."""

    def __init__(self, emit: Evaluator, instruction: Instruction, operator: str, lam: list[str]) -> None:
        assert isinstance(instruction.op, ops.Band | ops.BandAdjoint)
        self.emit, self.kernel, self.op, self.operator = emit, emit.kernel, instruction.op, operator
        self.lam = lam[0] if lam else None
        self.lag, self.log = (emit.kernel.fresh(x) for x in ("lag", "log"))
        self.diagonal = emit.types[operator][-2] == "K"

    @property
    def decay(self) -> str:
        """The decays between, beside queries [C, K]."""
        return f"tiles.exp({self.log})[None, :]" if self.diagonal else f"tiles.exp({self.log})"

    def evaluate(self, place: Place, *values: str) -> None:
        """Make what every lag needs of the chunk itself before the loop."""
        for value in (*values, *([self.lam] if self.lam else ())):
            self.emit.value(value, place)
            self.emit.operand(value, place)

    @contextmanager
    def before(self, place: Place) -> Iterator[Place]:
        """Earlier chunks."""
        with self._loop(f"tl.minimum({place.chunk}, {self.op.lags})", f"{place.chunk} - {self.lag}") as other:
            yield other

    @contextmanager
    def after(self, place: Place) -> Iterator[Place]:
        """Later chunks."""
        left = f"{self.kernel.size('N')} - 1 - {place.chunk}"
        with self._loop(f"tl.minimum({left}, {self.op.lags})", f"{place.chunk} + {self.lag}") as other:
            yield other

    @contextmanager
    def _loop(self, count: str, chunk: str) -> Iterator[Place]:
        nothing = self.emit.zeros(((0, "K"),)) if self.diagonal else "tl.zeros((), tl.float32)"
        self.kernel.line(f"{self.log} = {nothing}")
        with self.kernel.block(f"for {self.lag} in range(1, {count} + 1):"):
            other = Place(self.kernel.fresh("other"))
            self.kernel.line(f"{other.chunk} = {chunk}")
            yield other
            self.kernel.line(f"{self.log} += {self.emit.value(self.operator, other).name}")

    def operand(self, text: str) -> str:
        """A float32 tile as an operand of a product."""
        operand = self.emit.tiling.operand
        return text if operand == "tl.float32" else f"({text}).to({operand})"

    def near(self, pairs: str) -> str:
        """Pairs of positions, those beyond the window zero."""
        if self.op.width is None:
            return pairs
        return f"tiles.near({pairs}, {self.op.width} - {self.lag} * {self.emit.tiling.chunk})"

    def weighted(self, pairs: str, late: Place, early: Place) -> str:
        """Pairs of positions times their factors, for queries of one chunk and keys of an earlier one."""
        near = self.near(pairs)
        if self.lam is None:
            return near
        weights = f"{self.emit.value(self.lam, late).name}, {late.chunk}, {early.chunk}"
        return f"{near} * tiles.pair_weights({weights}, {self._hierarchy})"

    def weights_adjoint(self, pairs: str, late: Place, early: Place) -> str:
        """The gradient of level weights [C, L] from that of the factors."""
        levels = self.emit.tiling.levels
        return f"tiles.pair_weights_adjoint({pairs}, {late.chunk}, {early.chunk}, {levels}, {self._hierarchy})"

    @property
    def _hierarchy(self) -> str:
        return f"{self.emit.tiling.chunk}, {self.op.base}, {self.op.admissibility == 'strong'}"

    def share_at(self, buffer: Buffer) -> str:
        """Where the share of the decays between chunk n and the one `lag` before it is kept."""
        buffers, kernel = self.emit.buffers, self.kernel
        address = buffers.address(kernel, buffer, f"(n * {self.op.lags} + {self.lag} - 1)", self.emit.head)
        part = buffers.part(buffer.parts)
        if part != "0":
            address += f" + {part} * {buffers.part_step(kernel, buffer)}"
        return address + (f" + {self.emit.lane('K')}" if self.diagonal else "")


def passed(emit: Evaluator, instruction: Instruction, shares: Buffer) -> None:
    """The gradient of each chunk's log decay: the shares of all pairs of chunks that it lies between."""
    assert isinstance(instruction.op, ops.BandAdjoint)
    kernel, buffers, line, lags = emit.kernel, emit.buffers, emit.kernel.line, instruction.op.lags
    result = instruction.results[1]
    diagonal = emit.types[result][-2] == "K"
    lanes = f" + {emit.lane('K')}" if diagonal else ""
    line(f"total = {emit.zeros(((0, 'K'),)) if diagonal else 'tl.zeros((), tl.float32)'}")
    with (
        kernel.block(f"for late in range(n + 1, tl.minimum(n + {lags}, {kernel.size('N')})):"),
        kernel.block(f"for lag in range(late - n + 1, tl.minimum(late, {lags}) + 1):"),
        kernel.block(f"for part in range({shares.count}):"),
    ):
        step = buffers.part_step(kernel, shares)
        address = buffers.address(kernel, shares, f"(late * {lags} + lag - 1)", emit.head)
        line(f"total += tl.load({address} + part * {step}{lanes})")
    line(f"tl.store({buffers.base(kernel, result, 'n', emit.head)}{lanes}, total)")
