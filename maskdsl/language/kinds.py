"""How kinds combine, and which kinds each place of a spec takes."""

from __future__ import annotations

from collections.abc import Iterable

from maskdsl.mask.nodes import Kind
from maskdsl.mask.scalars import union

SCALARS = (Kind.TOKEN, Kind.HEAD, Kind.CONST)
"""One number a token, head or spec."""

KEY_VECTORS = (Kind.KEY, Kind.CHANNEL, Kind.HEAD_CHANNEL)
"""Vectors on the key side."""

VECTORS = (*KEY_VECTORS, Kind.VALUE)
"""All vectors."""


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
