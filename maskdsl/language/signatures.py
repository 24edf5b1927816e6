"""The functions of the language that are no plain scalar functions: their parameters and what each one takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from maskdsl.language.kinds import KEY_VECTORS, SCALARS, VECTORS
from maskdsl.language.printer import to_text
from maskdsl.language.syntax import Expression, Number, Text
from maskdsl.mask.nodes import Kind
from maskdsl.scalar.build import DIMENSIONS, FUNCTIONS


class Takes(Enum):
    """What an argument has to be."""

    EXPRESSION = auto()
    MASK = auto()
    WHOLE = auto()  # a whole number known from the text
    NUMBER = auto()  # a number known from the text
    WORD = auto()


@dataclass(frozen=True)
class Parameter:
    """One parameter; `kinds` are those an EXPRESSION may have, `least` and `words` bound the other ones."""

    name: str
    kinds: tuple[Kind, ...] = ()
    takes: Takes = Takes.EXPRESSION
    default: Expression | None = None
    least: int = 0
    words: tuple[str, ...] = ()


SIGNATURES: Mapping[str, tuple[Parameter, ...]] = {
    "l2norm": (
        Parameter("x", VECTORS),
        Parameter("eps", takes=Takes.NUMBER, default=Number(1e-6)),
    ),
    "attend": (
        Parameter("q", KEY_VECTORS),
        Parameter("k", KEY_VECTORS),
        Parameter("v", (Kind.VALUE,)),
        Parameter("mask", takes=Takes.MASK),
        Parameter("scale", SCALARS, default=Number(1)),
    ),
    "semiseparable": (Parameter("g", (Kind.TOKEN, Kind.HEAD, Kind.CHANNEL, Kind.HEAD_CHANNEL, Kind.CONST)),),
    "delta": (Parameter("k", KEY_VECTORS), Parameter("beta", SCALARS)),
    "rank1": (Parameter("a", KEY_VECTORS), Parameter("b", KEY_VECTORS)),
    "fenwick": (
        Parameter("lam", (Kind.LEVEL, *SCALARS)),
        Parameter("base", takes=Takes.WHOLE, default=Number(2), least=2),
        Parameter("admissibility", takes=Takes.WORD, default=Text("weak"), words=("weak", "strong")),
    ),
    "window": (Parameter("w", takes=Takes.WHOLE, least=1),),
}

MASK_NAMES = ("causal",)
"""Masks that take no arguments."""

CALLABLE = (*FUNCTIONS, *SIGNATURES)
"""All names that can be called."""

BUILT_IN = (*CALLABLE, *MASK_NAMES, *DIMENSIONS)
"""All names that a spec cannot give a new meaning."""


def usage(function: str) -> str:
    """How a call is written, as in `fenwick(lam, base=2, admissibility="weak")`."""
    words = [p.name if p.default is None else f"{p.name}={to_text(p.default)}" for p in SIGNATURES[function]]
    return f"{function}({', '.join(words)})"
