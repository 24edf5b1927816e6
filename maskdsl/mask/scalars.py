"""Arithmetic of scalars: sympy does the expressions, this the kinds."""

from __future__ import annotations

import sympy

from maskdsl.mask.nodes import Kind, Scalar

ONE = Scalar(sympy.S.One, Kind.CONST)

_BY_AXES = {(kind.feature, "T" in kind.value, "H" in kind.value): kind for kind in Kind if kind is not Kind.KEY}


def union(left: Kind, right: Kind) -> Kind:
    """The kind of an elementwise result: the union of the axes, where `KEY` wins over `CHANNEL`.

    Raises ValueError where the two have different features, as K and V.
    """
    features = {kind.feature for kind in (left, right)} - {None}
    if len(features) > 1:
        raise ValueError(f"'{left.label}' and '{right.label}' do not broadcast.")
    if Kind.KEY in (left, right):
        return Kind.KEY
    axes = left.value + right.value
    return _BY_AXES[features.pop() if features else None, "T" in axes, "H" in axes]


def add(left: Scalar, right: Scalar) -> Scalar:
    """left + right."""
    return Scalar(left.expr + right.expr, union(left.kind, right.kind))


def multiply(left: Scalar, right: Scalar) -> Scalar:
    """left * right."""
    return Scalar(left.expr * right.expr, union(left.kind, right.kind))


def negate(scalar: Scalar) -> Scalar:
    """-scalar."""
    return Scalar(-scalar.expr, scalar.kind)


def equals(scalar: Scalar, number: int) -> bool:
    """Whether `scalar` is exactly `number`, written as an integer or as a float."""
    return bool(scalar.expr == number or scalar.expr == float(number))
