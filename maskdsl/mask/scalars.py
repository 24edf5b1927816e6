"""Arithmetic of scalars: sympy does the expressions, this the kinds."""

from __future__ import annotations

import sympy

from maskdsl.mask.nodes import Kind, Scalar

ONE = Scalar(sympy.S.One, Kind.CONST)

_BY_AXES = {frozenset(kind.value): kind for kind in Kind}


def union(left: Kind, right: Kind) -> Kind | None:
    """The kind of an elementwise operation, with the axes of both; None where the last axes differ.

    A key-side head is shared by a group of heads, so `Hk` takes part as the heads of a `key` result.
    """
    if left.feature and right.feature and left.feature != right.feature:
        return None
    if Kind.KEY in (left, right):
        return Kind.KEY
    return _BY_AXES[frozenset(left.value) | frozenset(right.value)]


def add(left: Scalar, right: Scalar) -> Scalar:
    """left + right; raises ValueError where the kinds do not broadcast."""
    return Scalar(left.expr + right.expr, _joint(left, right))


def multiply(left: Scalar, right: Scalar) -> Scalar:
    """left * right; raises ValueError where the kinds do not broadcast."""
    return Scalar(left.expr * right.expr, _joint(left, right))


def _joint(left: Scalar, right: Scalar) -> Kind:
    kind = union(left.kind, right.kind)
    if kind is None:
        raise ValueError(f"'{left.kind.label}' and '{right.kind.label}' do not broadcast.")
    return kind


def negate(scalar: Scalar) -> Scalar:
    """-scalar."""
    return Scalar(-scalar.expr, scalar.kind)


def equals(scalar: Scalar, number: int) -> bool:
    """Whether `scalar` is exactly `number`, written as an integer or as a float."""
    return bool(scalar.expr == number or scalar.expr == float(number))
