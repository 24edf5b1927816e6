"""How kinds combine, and which kinds each place of a spec takes."""

from __future__ import annotations

from collections.abc import Iterable

from maskdsl.mask.nodes import Kind

SCALARS = (Kind.TOKEN, Kind.HEAD, Kind.CONST)
"""One number a token, head or spec."""

KEY_VECTORS = (Kind.KEY, Kind.CHANNEL, Kind.HEAD_CHANNEL)
"""Vectors on the key side."""

VECTORS = (*KEY_VECTORS, Kind.VALUE)
"""All vectors."""

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


def union_all(kinds: Iterable[Kind]) -> Kind | None:
    """The kind of an elementwise function of several arguments."""
    total: Kind | None = Kind.CONST
    for kind in kinds:
        total = total and union(total, kind)
    return total


def listed(kinds: Iterable[Kind]) -> str:
    """`'a', 'b' or 'c'`, empty for no kinds."""
    words = [f"'{kind.label}'" if kind.value else "a constant" for kind in kinds]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
