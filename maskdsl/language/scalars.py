"""Elementwise expressions: kinds broadcast, sympy computes, and what is no finite real number is refused."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import sympy

from maskdsl.language.kinds import union_all
from maskdsl.language.report import Report, Value, function_span
from maskdsl.language.syntax import Binary, Call, Expression
from maskdsl.mask.nodes import Kind, Mask, Scalar
from maskdsl.mask.scalars import union
from maskdsl.scalar.build import FUNCTIONS

_OPERATIONS: Mapping[str, Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}

_NOT_REAL = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I)

_LARGEST_POWER_BITS = 1024


def constant(value: int | float) -> Scalar:
    """A number of the text."""
    return Scalar(sympy.Integer(value) if isinstance(value, int) else sympy.Float(value), Kind.CONST)


def binary(node: Binary, left: Scalar, right: Scalar, report: Report) -> Scalar | None:
    """`left operator right`, elementwise; None, with the mistake noted, where it does not exist."""
    if node.operator == "@":
        message = "'@' composes masks, not expressions."
        report.add("kind-mismatch", message, node.span, "expected two path masks", "Write '*' to multiply elementwise.")
        return None
    kind = union(left.kind, right.kind)
    if kind is None:
        _different(node, [left.kind, right.kind], report)
        return None
    if node.operator == "**" and _is_huge(left.expr, right.expr):
        report.add("not-finite", "The power is too large.", node.span, "larger than a float64 can be")
        return None
    return _finite(node, _OPERATIONS[node.operator](left.expr, right.expr), kind, report)


def function(call: Call, values: Sequence[Value | None], report: Report) -> Scalar | None:
    """A scalar function of the values of its arguments, in order; None, with the mistake noted, where it has none."""
    least, most = FUNCTIONS[call.function].arity
    count = len(call.arguments)
    for keyword in call.keywords:
        message = f"'{call.function}' has no argument '{keyword.name}'."
        report.add("argument-name", message, keyword.span, "a named argument", "Write the value without a name.")
    if not call.keywords and not (least <= count and (most is None or count <= most)):
        span = call.arguments[most].span if most is not None and count > most else function_span(call)
        takes = f"{least} argument{'s' if least > 1 else ''}{' or more' if most is None else ''}"
        report.add("argument-count", f"'{call.function}' takes {takes}.", span, f"given {count}")
        return None
    operands: list[Scalar] = []
    for node, value in zip(call.arguments, values, strict=False):
        if isinstance(value, Mask):
            message = f"'{call.function}' takes expressions, not masks."
            report.add("kind-mismatch", message, node.span, "this is a mask", "Apply it to the result of 'attend'.")
        elif value is not None:
            operands.append(value)
    if call.keywords or len(operands) < count:
        return None
    kind = union_all(operand.kind for operand in operands)
    if kind is None:
        _different(call, [operand.kind for operand in operands], report)
        return None
    return _finite(call, FUNCTIONS[call.function].build(*(operand.expr for operand in operands)), kind, report)


def _different(node: Expression, kinds: Sequence[Kind], report: Report) -> None:
    """Two kinds with different last axes."""
    shown = [kind for kind in kinds if kind.feature]
    first = shown[0]
    second = next(kind for kind in shown if kind.feature != first.feature)
    shapes = [f"[{', '.join(kind.value)}]" for kind in (first, second)]
    message = f"'{first.label}' and '{second.label}' do not broadcast."
    label = f"shapes {shapes[0]} and {shapes[1]}"
    report.add("kind-mismatch", message, node.span, label, f"One side has to have no axis '{second.feature}'.")


def _is_huge(base: sympy.Expr, exponent: sympy.Expr) -> bool:
    """Whether the exact power of two numbers has more bits than a float64 can express."""
    if not (base.is_Rational and exponent.is_Rational) or base in (-1, 0, 1):
        return False
    bits = max(int(base.p).bit_length(), int(base.q).bit_length())
    return bool(abs(exponent) * bits > _LARGEST_POWER_BITS)


def _finite(node: Expression, expr: sympy.Expr, kind: Kind, report: Report) -> Scalar | None:
    if expr.has(*_NOT_REAL):
        hint = "Look for a division by zero, or a root or logarithm of a number below zero."
        report.add("not-finite", "The expression is no finite real number.", node.span, "never finite and real", hint)
        return None
    return Scalar(expr, kind)
