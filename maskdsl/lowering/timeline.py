"""The decays of a path inside a chunk: what lies between two points, before one and after one.

A position holds `steps` decays in a row; a point `offset` of a position lies after that many of them (see
`maskdsl.chunk.ops`). Every exponent formed here is a plain sum of log decays between two points, hence <= 0 and free of
cancellation, whatever the gates are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.lowering.emit import CHUNK_HEADS, Emitter


@dataclass(frozen=True)
class Vector:
    """A K vector a position: `coefficient` (a value [B, h, N, C], or a constant) times `value`, [B, h, N, C, K]."""

    value: str
    coefficient: str | sympy.Expr = sympy.S.One

    def rows(self, emit: Emitter) -> sympy.Expr:
        """The coefficient as a factor of rows."""
        return emit.rows(self.coefficient) if isinstance(self.coefficient, str) else self.coefficient

    def columns(self, emit: Emitter) -> sympy.Expr:
        """The coefficient as a factor of columns."""
        return emit.columns(self.coefficient) if isinstance(self.coefficient, str) else self.coefficient


class Timeline:
    """A path without decays; the base of those with numbers and with diagonals."""

    steps = 0

    def __init__(self, emit: Emitter, size: int) -> None:
        self.emit, self.size = emit, size

    def pairs(self, row: Vector, at: int, column: Vector, since: int, diagonal: int, name: str) -> str:
        """S[c, s] = row[c]' D column[s], D the decays from point (s, since) to (c, at), for s <= c + diagonal."""
        dots = self.emit.dot(row.value, column.value, name=f"{name}_dots", ty=True)
        factors = self.between(at, since) * row.rows(self.emit) * column.columns(self.emit)
        scaled = self.emit.map(self.emit.ref(dots) * factors, CHUNK_HEADS, name)
        return self.emit(ops.Tril(diagonal), scaled, name=f"{name}_causal")

    def between(self, at: int, since: int) -> sympy.Expr:
        """The factor of a pair of positions."""
        return sympy.S.One

    def pulled(self, row: Vector, at: int, name: str) -> str:
        """The vectors times the decays from the chunk's start to their point."""
        return self._scale(row, None, name)

    def pushed(self, column: Vector, since: int, name: str) -> str:
        """The vectors times the decays from their point to the chunk's end."""
        return self._scale(column, None, name)

    def total(self) -> str:
        """The log of the decays of the whole chunk, as an operator."""
        return self.emit(ops.Constant(sympy.S.Zero, ("1", "1", ax.chunks(self.size), "1", "1")), name="operator")

    def _scale(self, vector: Vector, exponent: sympy.Expr | None, name: str) -> str:
        factor = sympy.S.One if exponent is None else sympy.exp(exponent)
        return self.emit.map(self.emit.ref(vector.value) * vector.rows(self.emit) * factor, CHUNK_HEADS, name)


class NumberTimeline(Timeline):
    """One log decay a step for all channels; `g` is [B, h, N, C*steps]."""

    def __init__(self, emit: Emitter, size: int, g: str, steps: int) -> None:
        super().__init__(emit, size)
        self.g, self.steps = g, steps

    def between(self, at: int, since: int) -> sympy.Expr:
        """exp of the span between two points."""
        return sympy.exp(self.emit.ref(self.emit(ops.Spans(self.steps, at, since), self.g, name="spans")))

    def pulled(self, row: Vector, at: int, name: str) -> str:
        """The vectors times the decays from the chunk's start to their point."""
        return self._scale(row, self.wide(self.before(at)), name)

    def pushed(self, column: Vector, since: int, name: str) -> str:
        """The vectors times the decays from their point to the chunk's end."""
        return self._scale(column, self.wide(self.after(since)), name)

    def total(self) -> str:
        """[B, h, N, 1, 1]."""
        total = self.emit(ops.Sum((3,)), self.g, name="total")
        return self.emit(ops.Align((*self.emit.type(total), "1")), total, name="operator")

    def before(self, at: int) -> str:
        """The sum of the log decays from the chunk's start to a point of every position."""
        sums = self.emit(ops.Cumsum(exclusive=at == 0), self.g, name="elapsed")
        return self._pick(sums, max(at - 1, 0))

    def after(self, since: int) -> str:
        """The sum of the log decays from a point of every position to the chunk's end."""
        last = since == self.steps
        sums = self.emit(ops.Cumsum(reverse=True, exclusive=last), self.g, name="remaining")
        return self._pick(sums, since - last)

    def wide(self, exponent: str) -> sympy.Expr:
        """A sum of log decays as a factor's exponent beside [.., C, K]."""
        return self.emit.rows(exponent)

    def _pick(self, sums: str, offset: int) -> str:
        return sums if self.steps == 1 else self.emit(ops.Pick(offset, self.steps, 3), sums, name=sums)


class DiagonalTimeline(NumberTimeline):
    """One log decay a step and channel; `g` is [B, h, N, C*steps, K]."""

    def pairs(self, row: Vector, at: int, column: Vector, since: int, diagonal: int, name: str) -> str:
        """As in `Timeline`, the decays inside the dot."""
        x, y, g = self.emit.match(CHUNK_HEADS, row.value, column.value, self.g)
        dots = self.emit(ops.DecayDot(self.steps, at, since, diagonal), x, y, g, name=f"{name}_dots")
        factors = row.rows(self.emit) * column.columns(self.emit)
        return self.emit.map(self.emit.ref(dots) * factors, CHUNK_HEADS, name)

    def total(self) -> str:
        """[B, h, N, K, 1]."""
        return self.emit(ops.Transpose(), self.emit(ops.Sum((3,)), self.g, name="total"), name="operator")

    def wide(self, exponent: str) -> sympy.Expr:
        """A sum of log decays beside [.., C, K], which it already is."""
        return self.emit.ref(exponent)


def timeline(emit: Emitter, size: int, decays: Sequence[str]) -> Timeline:
    """The timeline of a path whose decays, in order, are these values at chunk level (all numbers or all diagonals)."""
    if not decays:
        return Timeline(emit, size)
    g = emit.weave(3, decays)
    kind = DiagonalTimeline if len(emit.type(g)) == 5 else NumberTimeline
    return kind(emit, size, g, len(decays))
