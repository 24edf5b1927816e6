"""Scalar expressions, l2norm and declared inputs at token level."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.lowering.emit import TOKEN_HEADS, Emitter
from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.mask.scalars import ONE
from maskdsl.scalar.simplify import simplify
from maskdsl.scalar.symbols import dimension
from maskdsl.spec import Input, L2Norm

X0, X1 = ops.argument(0), ops.argument(1)


class Expressions:
    """The values that symbols stand for, [B, T, h] or [B, T, h, X], and expressions over them.

    `token` is the token axis of inputs: "1" in a program for one token.
    """

    def __init__(self, emit: Emitter, token: str = "T") -> None:
        self.emit, self.token = emit, token
        self.values: dict[str, str] = {}
        self.features: dict[str, str | None] = {}
        self.key_heads: sympy.Expr = dimension("H")

    def load(self, declared: Input, ratios: Mapping[str, int]) -> None:
        """Make an input available; its heads are those of the call (`ratios`: heads a key-side head)."""
        axes = tuple(self.token if axis == "T" else axis for axis in declared.kind.value)
        if declared.kind is Kind.KEY:
            axes = ("B", self.token, ax.heads(ratios[declared.name]), "K")
            self.key_heads = dimension("H") / ratios[declared.name]
        value = self.emit(ops.Load(declared.name, axes), name=declared.name)
        if axes[0] == "H":
            value = self.emit(ops.Align(("1", "1", *axes)), value, name=declared.name)
        self.define(declared.name, value, declared.kind)

    def define(self, name: str, value: str, kind: Kind) -> None:
        """Let a symbol stand for a value."""
        self.values[name], self.features[name] = value, kind.feature

    def value(self, scalar: Scalar, name: str) -> str:
        """The value of an expression, over its own axes ("1" where it does not vary)."""
        feature = scalar.kind.feature
        bindings = {}
        for symbol in scalar.expr.free_symbols:
            if symbol.name in self.values:
                value = self.values[symbol.name]
                if feature and not self.features[symbol.name]:
                    value = self.emit(ops.Align((*self.emit.type(value), "1")), value, name=f"{value}_wide")
                bindings[symbol] = self.emit.ref(value)
        made = self.emit.map(self.constant(simplify(scalar.expr)).xreplace(bindings), TOKEN_HEADS, name)
        return self.over(feature, made) if feature else made

    def constant(self, expr: sympy.Expr) -> sympy.Expr:
        """An expression in the dimensions that programs know; `Hk`, where used, is the same for all key inputs."""
        return expr.xreplace({dimension("Hk"): self.key_heads})

    def split(self, vector: Scalar) -> tuple[Scalar, Scalar]:
        """A K vector as (coefficient, vector): factors that no channel changes stand apart, so that dots are shared."""
        wide = [s for s in vector.expr.free_symbols if self.features.get(s.name)]
        coefficient, rest = vector.expr.as_independent(*wide, as_Add=False)
        if coefficient == 0:
            return ONE, vector
        moving = any(
            "T" in self.emit.type(self.values[s.name]) for s in coefficient.free_symbols if s.name in self.values
        )
        number = not any(s.name in self.values for s in coefficient.free_symbols)
        kind = Kind.CONST if number else Kind.TOKEN if moving else Kind.HEAD
        return Scalar(coefficient, kind), Scalar(rest, vector.kind)

    def over(self, feature: str, value: str) -> str:
        """A value with its last axis at full length, even where simplification left nothing that varies along it."""
        axes = (*self.emit.type(value)[:3], feature)
        if self.emit.type(value) == axes:
            return value
        wide = self.emit(ops.Align((*axes[:3], "1")), value, name=f"{value}_wide")
        return self.emit(ops.Expand(axes), wide, name=f"{value}_whole")

    def l2norm(self, node: L2Norm, name: str) -> str:
        """x / sqrt(sum of x**2 + eps) over the last axis."""
        x = self.value(node.x, name=f"{name}_of")
        square = self.emit(ops.Map(X0**2), x, name=f"{name}_square")
        total = self.emit(ops.Sum((3,)), square, name=f"{name}_total")
        return self.emit(ops.Map(X0 / sympy.sqrt(X1 + node.eps)), x, total, name=name)
