"""Masks and terms in the language's own notation."""

from __future__ import annotations

from maskdsl.mask.nodes import Causal, Compose, Delta, Fenwick, Mask, Plus, Rank1, Scalar, Semiseparable, Times, Window
from maskdsl.mask.normal import NormalForm, Term
from maskdsl.mask.normalize import to_mask
from maskdsl.scalar.printers import to_dsl

_TIGHTNESS = {Plus: 1, Times: 2, Compose: 3}
_SYMBOL = {Plus: "+", Times: "*", Compose: "@"}


def mask_text(mask: Mask) -> str:
    """The mask as a spec would write it."""
    match mask:
        case Causal():
            return "causal"
        case Semiseparable(g):
            return f"semiseparable({_scalar(g)})"
        case Delta(k, beta):
            return f"delta({_scalar(k)}, {_scalar(beta)})"
        case Rank1(a, b):
            return f"rank1({_scalar(a)}, {_scalar(b)})"
        case Fenwick(lam, base, admissibility):
            options = f", base={base}" if base != 2 else ""
            options += ', admissibility="strong"' if admissibility == "strong" else ""
            return f"fenwick({_scalar(lam)}{options})"
        case Window(width):
            return f"window({width})"
        case Plus(left, right) | Times(left, right) | Compose(left, right):
            own = _TIGHTNESS[type(mask)]
            return f"{_operand(left, own)} {_SYMBOL[type(mask)]} {_operand(right, own + 1)}"
    raise TypeError(f"{mask} is no mask")


def term_text(term: Term) -> str:
    """A term of a normal form as a spec would write it."""
    return mask_text(to_mask(NormalForm((term,))))


def _operand(mask: Mask, tightness: int) -> str:
    text = mask_text(mask)
    return f"({text})" if _TIGHTNESS.get(type(mask), 4) < tightness else text


def _scalar(scalar: Scalar) -> str:
    return to_dsl(scalar.expr)
