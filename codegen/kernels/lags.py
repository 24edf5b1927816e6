"""The chunks that a chunk meets in a band, before it, after it and among what came before a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import kept
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place


@dataclass(frozen=True)
class Other:
    """A chunk that another one meets, and what writes its keys and values as operands.

    What came `before` a call lies in chunks 0 and before; those, of whole sequences, are no places of values.
    """

    place: Place
    keys: Callable[[], str]
    values: Callable[[], str]
    before: bool = False


class Lags:
    """The chunks that a chunk meets, nearest first, and the decays of the chunks `between` the two."""

    def __init__(self, emit: Evaluator, instruction: Instruction) -> None:
        assert isinstance(instruction.op, ops.Band | ops.BandAdjoint)
        self.emit, self.kernel, self.op = emit, emit.kernel, instruction.op
        operands = instruction.operands[isinstance(instruction.op, ops.BandAdjoint) :]
        _, self.operator, self.pushed, self.v, *_ = operands
        self.lam, self.memories = band_of(instruction.op).rest(operands)
        self.lag, self.between = emit.kernel.fresh("lag"), kept.Between(emit, self.operator)

    @property
    def decay(self) -> str:
        """The decays between, beside queries [C, K]."""
        return self.between.decay

    def evaluate(self, place: Place, *values: str) -> None:
        """Make what every lag needs of the chunk itself before the loop."""
        for value in (*values, *([self.lam] if self.lam else ())):
            self.emit.value(value, place)
            self.emit.operand(value, place)

    def backwards(self, place: Place) -> Iterator[AbstractContextManager[Other]]:
        """The loops over all that a chunk sees of keys: those of earlier chunks, and those from before."""
        yield self.before(place)
        if self.op.initial:
            yield self.remembered(place)

    @contextmanager
    def before(self, place: Place) -> Iterator[Other]:
        """Earlier chunks."""
        with self._loop(f"tl.minimum({place.chunk}, {self.op.lags})", f"{place.chunk} - {self.lag}") as other:
            emit = self.emit
            yield Other(other, lambda: emit.operand(self.pushed, other), lambda: emit.operand(self.v, other))

    @contextmanager
    def after(self, place: Place) -> Iterator[Place]:
        """Later chunks."""
        left = f"{self.kernel.size('N')} - 1 - {place.chunk}"
        with self._loop(f"tl.minimum({left}, {self.op.lags})", f"{place.chunk} + {self.lag}") as other:
            yield other

    @contextmanager
    def remembered(self, place: Place) -> Iterator[Other]:
        """What came before, from behind the decays of all earlier chunks, which `before` has left; near ones see it."""
        line = self.kernel.line
        with self.kernel.block(f"for {self.lag} in range({place.chunk}, {self.op.lags} + 1):"):
            chunk = self.kernel.fresh("other")
            line(f"{chunk} = {place.chunk} - {self.lag}")
            yield self.recalled(chunk)

    def recalled(self, chunk: str) -> Other:
        """The tokens from before in chunk 0 or one before it, loaded."""
        assert self.op.width is not None
        emit, operand = self.emit, self.emit.tiling.operand
        rows = kept.coming_in(emit, chunk, self.op.width)
        keys, values = (
            emit.assign(name, f"{kept.load(emit, emit.buffers.name(name), letter, rows)}.to({operand})")
            for name, letter in zip(self.memories, "KV", strict=True)
        )
        return Other(Place(chunk), lambda: keys, lambda: values, before=True)

    @contextmanager
    def readers(self, count: str, chunk: str) -> Iterator[Place]:
        """A loop over the chunks that may see what came before in a `chunk`, -lag for the first; `count` in all."""
        line = self.kernel.line
        line(f"{self.between.log} = {self.between.nothing}")
        place = Place(self.kernel.fresh("reader"))
        with self.kernel.block(f"for {place.chunk} in range(0, {count}):"):
            line(f"{self.lag} = {place.chunk} - {chunk}")
            yield place
            line(f"{self.between.log} += {self.emit.value(self.operator, place).name}")

    @contextmanager
    def _loop(self, count: str, chunk: str) -> Iterator[Place]:
        self.kernel.line(f"{self.between.log} = {self.between.nothing}")
        with self.kernel.block(f"for {self.lag} in range(1, {count} + 1):"):
            other = Place(self.kernel.fresh("other"))
            self.kernel.line(f"{other.chunk} = {chunk}")
            yield other
            self.kernel.line(f"{self.between.log} += {self.emit.value(self.operator, other).name}")

    def operand(self, text: str) -> str:
        """A float32 tile as an operand of a product."""
        operand = self.emit.tiling.operand
        return text if operand == "tl.float32" else f"({text}).to({operand})"

    def near(self, pairs: str) -> str:
        """Pairs of positions, those beyond the window zero."""
        if self.op.width is None:
            return pairs
        return f"tiles.near({pairs}, {self.op.width} - {self.lag} * {self.emit.tiling.chunk})"

    def weighted(self, pairs: str, late: Place, early: Place, weights: str | None = None) -> str:
        """Pairs of positions times their factors, for queries of one chunk and keys of an earlier one.

        `weights` are those of the levels where they are known, as `weights` has written them.
        """
        near = self.near(pairs)
        if self.lam is None:
            return near
        return f"{near} * {weights or self._pair_weights(late, early)}"

    def weights(self, late: Place, other: Other) -> str | None:
        """Write the weights by level for what came before, which may lie in the same chunk; None where others do."""
        if self.lam is None or not other.before:
            return None
        name, line = self.kernel.fresh("weights"), self.kernel.line
        lam = self.emit.value(self.lam, late).name
        with self.kernel.block(f"if {self.lag} == 0:"):
            line(f"{name} = tiles.select({lam}, {self._constants})")
        with self.kernel.block("else:"):
            line(f"{name} = {self._pair_weights(late, other.place)}")
        return name

    def _pair_weights(self, late: Place, early: Place) -> str:
        weights = self.emit.value(self.lam or "", late).name
        return f"tiles.pair_weights({weights}, {self._numbers(late, early)}, {self._hierarchy})"

    def add_weights_adjoint(self, target: str, pairs: str, late: Place, other: Other) -> None:
        """Add up the gradient of level weights [C, L] from that of the factors."""
        levels, line = self.emit.tiling.levels, self.kernel.line
        numbers = self._numbers(late, other.place)
        apart = f"{target} += tiles.pair_weights_adjoint({pairs}, {numbers}, {levels}, {self._hierarchy})"
        if not other.before:
            line(apart)
            return
        with self.kernel.block(f"if {self.lag} == 0:"):
            line(f"{target} += tiles.select_adjoint({pairs}, {levels}, {self._constants})")
        with self.kernel.block("else:"):
            line(apart)

    def _numbers(self, late: Place, early: Place) -> str:
        """The numbers of two chunks in their sequence, by which levels are told."""
        return f"{self.kernel.absolute(late.chunk)}, {self.kernel.absolute(early.chunk)}"

    @property
    def _constants(self) -> str:
        return f"{self.op.base}, {self.op.admissibility == 'strong'}"

    @property
    def _hierarchy(self) -> str:
        return f"{self.emit.tiling.chunk}, {self._constants}"

    def share_at(self, buffer: Buffer, rank: str) -> str:
        """Where a share of chunk n is kept: of the decays between it and one before it, or what came before."""
        buffers, kernel = self.emit.buffers, self.kernel
        address = buffers.address(kernel, buffer, f"(n * {shares_of(self.op)} + {rank})", self.emit.head)
        part = buffers.part(buffer.parts)
        if part != "0":
            address += f" + {part} * {buffers.part_step(kernel, buffer)}"
        return address + (f" + {self.emit.lane('K')}" if self.between.diagonal else "")


def band_of(op: ops.Band | ops.BandAdjoint) -> ops.Band:
    """The band itself."""
    return ops.Band(op.lags, op.width, op.base, op.admissibility, op.initial)


def shares_of(op: ops.Band | ops.BandAdjoint) -> int:
    """How many shares of decays a chunk has: one a lag, and the last for what came before the call."""
    return op.lags + op.initial
