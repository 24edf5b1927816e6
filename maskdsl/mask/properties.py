"""What a mask tree is: a path or not, and what it is valued in; and its chains of one operator as lists."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum

from maskdsl.mask.nodes import Causal, Compose, Delta, Mask, Plus, Rank1, Semiseparable, Times

Operator = type[Compose] | type[Times] | type[Plus]


class Valued(IntEnum):
    """What the entries M[t, s] of a mask are; each kind includes those before it."""

    NUMBER = 0
    DIAGONAL = 1
    OPERATOR = 2


def valued(mask: Mask) -> Valued:
    """What the entries of a mask are, as its constructors say."""
    match mask:
        case Delta() | Rank1():
            return Valued.OPERATOR
        case Semiseparable(g) if g.kind.feature:
            return Valued.DIAGONAL
        case Compose(left, right) | Times(left, right) | Plus(left, right):
            return max(valued(left), valued(right))
    return Valued.NUMBER


def is_number_valued(mask: Mask) -> bool:
    """Whether every M[t, s] is a number."""
    return valued(mask) is Valued.NUMBER


def multiplies(left: Mask, right: Mask) -> bool:
    """Whether `*` joins the two: one is number-valued, or both are diagonal."""
    pair = {valued(left), valued(right)}
    return Valued.NUMBER in pair or pair == {Valued.DIAGONAL}


def is_path(mask: Mask) -> bool:
    """Whether M is a product of one step operator a position."""
    match mask:
        case Causal() | Semiseparable() | Delta() | Rank1():
            return True
        case Compose(left, right):
            return is_path(left) and is_path(right)
        case Times(left, right):
            return is_path(left) and is_path(right) and multiplies(left, right)
    return False


def chain(operator: Operator, mask: Mask) -> list[Mask]:
    """The operands of a nest of one operator, from left to right."""
    if isinstance(mask, operator):
        return chain(operator, mask.left) + chain(operator, mask.right)
    return [mask]


def nest(operator: Operator, operands: Sequence[Mask]) -> Mask:
    """`((x . y) . z) ...`, the inverse of `chain`."""
    return functools.reduce(operator, operands)
