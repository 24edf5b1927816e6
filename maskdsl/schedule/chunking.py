"""The chunk size of kernels: one for all terms of a spec, so that tiles of one extent serve them."""

from __future__ import annotations

from maskdsl.mask.nodes import Kind
from maskdsl.mask.normal import RankOne, Term
from maskdsl.mask.normalize import normalize
from maskdsl.schedule.configuration import Mode
from maskdsl.spec import Attend, Spec

USUAL = 64
"""Rows of a tile that registers hold, and that keep matrix units busy."""

REFLECTING = 32
"""The same for paths with rank-one steps in float32, whose triangular systems lose digits with their size."""

LARGEST = 128
"""Rows of a tile beyond which a smaller power of a hierarchy's base is better, if there is one."""


def tile_size(spec: Spec, mode: Mode) -> int | None:
    """The positions of a chunk, a power of the base of every hierarchy; None where no size is one of all."""
    attends = [each.node for each in spec.definitions if isinstance(each.node, Attend)]
    terms = [term for node in attends for term in normalize(node.mask).terms]
    bases = [each.hierarchy.base for each in terms if each.hierarchy and each.hierarchy.lam.kind is Kind.LEVEL]
    sizes = set.intersection(*(_powers(base) for base in bases)) if bases else {USUAL, REFLECTING}
    usual = min(USUAL, REFLECTING) if mode == "fp32" and any(_reflects(term) for term in terms) else USUAL
    return usual if usual in sizes else max(sizes, default=None)


def _reflects(term: Term) -> bool:
    return any(isinstance(step, RankOne) for step in term.path)


def _powers(base: int) -> set[int]:
    """The powers of a base up to the largest tile, at least the base itself."""
    powers = {base}
    while max(powers) * base <= LARGEST:
        powers.add(max(powers) * base)
    return powers
