"""Helpers of lowering: chunk IR written as if it were arithmetic on named values."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder
from maskdsl.lowering.hand import ALONE, Hand
from maskdsl.scalar.symbols import symbol

TOKEN_HEADS, CHUNK_HEADS = 2, 1
"""The head axis at token level and at chunk level."""

_MARK = "%"


class Emitter:
    """A builder with the few idioms that lowering repeats; values are names, expressions mention them by `ref`.

    `hand` says what memories the program takes and hands out, and `final` are those that it hands out, by name.
    """

    def __init__(self, builder: Builder, hand: Hand = ALONE) -> None:
        self.builder, self.hand = builder, hand
        self.final: dict[str, str] = {}

    def type(self, value: str) -> ops.Axes:
        """The type of a value."""
        return self.builder.types[value]

    def __call__(self, op: ops.Operation, *operands: str, name: str) -> str:
        """The only result of an operation."""
        return self.builder(op, *operands, name=name)

    @staticmethod
    def ref(value: str) -> sympy.Symbol:
        """The symbol by which an expression mentions a value."""
        return symbol(_MARK + value)

    def map(self, expr: sympy.Expr, heads: int, name: str) -> str:
        """The value of an elementwise expression; key-side heads are repeated where heads differ."""
        symbols = sorted((s for s in expr.free_symbols if s.name.startswith(_MARK)), key=lambda s: s.name)
        if expr.is_Symbol and symbols:
            return symbols[0].name[len(_MARK) :]
        operands = self.match(heads, *(s.name[len(_MARK) :] for s in symbols))
        if not operands:
            return self(ops.Constant(expr, ("1", "1", "1")), name=name)
        arguments = {s: ops.argument(i) for i, s in enumerate(symbols)}
        return self(ops.Map(expr.xreplace(arguments)), *operands, name=name)

    def match(self, heads: int, *values: str) -> tuple[str, ...]:
        """The values over the same heads: as they are where they agree, else over all heads."""
        found = {self.type(v)[heads] for v in values} - {"1"}
        if len(found) <= 1:
            return values
        return tuple(
            self(ops.Repeat(heads), v, name=f"{v}_heads") if self.type(v)[heads].startswith("H/") else v for v in values
        )

    def weave(self, dim: int, parts: Sequence[str]) -> str:
        """Values at chunk level interleaved along an axis, broadcast to one type first."""
        if len(parts) == 1:
            return parts[0]
        parts = self.match(CHUNK_HEADS, *parts)
        axes = ax.join(*(self.type(part) for part in parts))
        whole = [p if self.type(p) == axes else self(ops.Expand(axes), p, name=f"{p}_whole") for p in parts]
        return self(ops.Weave(dim), *whole, name=f"{parts[0]}_woven")

    def dot(self, x: str, y: str, name: str, *, tx: bool = False, ty: bool = False) -> str:
        """The matrix product at chunk level."""
        x, y = self.match(CHUNK_HEADS, x, y)
        return self(ops.Dot(tx, ty), x, y, name=name)

    def add(self, x: str, y: str, name: str) -> str:
        """The sum of two values at chunk level."""
        return self.map(self.ref(x) + self.ref(y), CHUNK_HEADS, name)

    def rows(self, value: str) -> sympy.Symbol:
        """A value a position, [B, h, N, C], as a column [B, h, N, C, 1]: it scales rows."""
        return self.ref(self(ops.Align((*self.type(value), "1")), value, name=f"{value}_rows"))

    def columns(self, value: str) -> sympy.Symbol:
        """A value a position, [B, h, N, C], as a row [B, h, N, 1, C]: it scales columns."""
        batch, head, chunk, position = self.type(value)
        return self.ref(self(ops.Align((batch, head, chunk, "1", position)), value, name=f"{value}_columns"))

    def chunk(self, value: str, size: int) -> str:
        """A value at token level moved to chunk level; one that no position changes stays one for all chunks."""
        batch, token, head, *rest = self.type(value)
        if token == "1":
            return self(ops.Align((batch, head, "1", "1", *rest)), value, name=value)
        if not self.hand.laid:
            return self(ops.Chunk(size), value, name=f"{value}_chunks")
        rows = value if batch == "B" else self(ops.Expand(("B", token, head, *rest)), value, name=f"{value}_rows")
        return self(ops.Lay(size), rows, name=f"{value}_slots")

    def unchunk(self, value: str, size: int, name: str) -> str:
        """A value at chunk level moved to token level."""
        return self(ops.Unlay(size) if self.hand.laid else ops.Unchunk(size), value, name=name)

    def every_token(self, value: str) -> str:
        """A value at token level with a token axis of its own."""
        batch, token, *rest = self.type(value)
        return value if token == "T" else self(ops.Expand((batch, "T", *rest)), value, name=f"{value}_tokens")
