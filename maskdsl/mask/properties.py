"""What a mask tree is: a path or not, and what it is valued in; and its chains of one operator as lists."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from maskdsl.mask.nodes import Causal, Compose, Delta, Fenwick, Mask, Plus, Rank1, Semiseparable, Times, Window

Operator = type[Compose] | type[Times] | type[Plus]


def is_number_valued(mask: Mask) -> bool:
    """Whether every M[t, s] is a number."""
    match mask:
        case Causal() | Fenwick() | Window():
            return True
        case Semiseparable(g):
            return g.kind.feature is None
        case Compose(left, right) | Times(left, right) | Plus(left, right):
            return is_number_valued(left) and is_number_valued(right)
    return False


def is_diagonal_valued(mask: Mask) -> bool:
    """Whether every M[t, s] is a diagonal; numbers are diagonals too."""
    match mask:
        case Causal() | Fenwick() | Window() | Semiseparable():
            return True
        case Compose(left, right) | Times(left, right) | Plus(left, right):
            return is_diagonal_valued(left) and is_diagonal_valued(right)
    return False


def is_path(mask: Mask) -> bool:
    """Whether M is a product of one step operator a position."""
    match mask:
        case Causal() | Semiseparable() | Delta() | Rank1():
            return True
        case Compose(left, right):
            return is_path(left) and is_path(right)
        case Times(left, right):
            diagonal = is_diagonal_valued(left) and is_diagonal_valued(right)
            return is_path(left) and is_path(right) and (diagonal or is_number_valued(left) or is_number_valued(right))
    return False


def chain(operator: Operator, mask: Mask) -> list[Mask]:
    """The operands of a nest of one operator, from left to right."""
    if isinstance(mask, operator):
        return chain(operator, mask.left) + chain(operator, mask.right)
    return [mask]


def nest(operator: Operator, operands: Sequence[Mask]) -> Mask:
    """`((x . y) . z) ...`, the inverse of `chain`."""
    return functools.reduce(operator, operands)
