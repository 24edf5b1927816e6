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
    terms = _terms(spec)
    bases = [each.hierarchy.base for each in terms if each.hierarchy and each.hierarchy.lam.kind is Kind.LEVEL]
    sizes = set.intersection(*(_powers(base) for base in bases)) if bases else {USUAL, REFLECTING}
    usual = REFLECTING if mode == "fp32" and reflects(spec) else USUAL
    return usual if usual in sizes else max(sizes, default=None)


def reflects(spec: Spec) -> bool:
    """Whether a path of the spec has rank-one steps."""
    return any(isinstance(step, RankOne) for term in _terms(spec) for step in term.path)


def _terms(spec: Spec) -> list[Term]:
    attends = [each.node for each in spec.definitions if isinstance(each.node, Attend)]
    return [term for node in attends for term in normalize(node.mask).terms]


def _powers(base: int) -> set[int]:
    """The powers of a base up to the largest tile, at least the base itself."""
    powers = {base}
    while max(powers) * base <= LARGEST:
        powers.add(max(powers) * base)
    return powers
