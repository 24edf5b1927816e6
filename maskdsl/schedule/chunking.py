"""The chunk size of kernels: one for all terms of a spec, so that tiles of one extent serve them."""

from __future__ import annotations

from maskdsl.mask.nodes import Kind
from maskdsl.mask.normalize import normalize
from maskdsl.spec import Attend, Spec

USUAL = 64
"""Rows of a tile that registers hold, and that keep matrix units busy."""

LARGEST = 128
"""Rows of a tile beyond which a smaller power of a hierarchy's base is better, if there is one."""


def tile_size(spec: Spec) -> int | None:
    """The positions of a chunk, a power of the base of every hierarchy; None where no size is one of all."""
    bases = [
        term.hierarchy.base
        for definition in spec.definitions
        if isinstance(definition.node, Attend)
        for term in normalize(definition.node.mask).terms
        if term.hierarchy is not None and term.hierarchy.lam.kind is Kind.LEVEL
    ]
    sizes = set.intersection(*(_powers(base) for base in bases)) if bases else {USUAL}
    return USUAL if USUAL in sizes else max(sizes, default=None)


def _powers(base: int) -> set[int]:
    """The powers of a base up to the largest tile, at least the base itself."""
    powers = {base}
    while max(powers) * base <= LARGEST:
        powers.add(max(powers) * base)
    return powers
