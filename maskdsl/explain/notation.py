"""Names and indices for written mathematics: which letter stands for an expression, and where a `[t]` belongs."""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy

from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.scalar.printers import to_math
from maskdsl.scalar.symbols import Ranged, symbol
from maskdsl.spec import Spec

PARAMETERS = (Kind.CONST, Kind.HEAD, Kind.HEAD_CHANNEL)


@dataclass
class Notation:
    """Writes the expressions of one spec; an expression that is not a single name gets a letter and a `where` line."""

    spec: Spec
    where: list[str] = field(default_factory=list)
    _letters: dict[tuple[str, Scalar], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Collect the kinds of all names, which decide their indices."""
        self._kinds = {given.name: given.kind for given in self.spec.inputs}
        self._kinds |= {definition.name: definition.kind for definition in self.spec.definitions}
        self._taken = set(self._kinds)

    def letter(self, scalar: Scalar, suggestion: str) -> str:
        """The indexed name of `scalar`, its own where it is one name, else a free one like `suggestion`, explained."""
        if isinstance(scalar.expr, Ranged) or scalar.expr.is_number:
            return self.written(scalar.expr)
        if (suggestion, scalar) not in self._letters:
            name = self._indexed(self.free(suggestion), scalar.kind)
            self._letters[suggestion, scalar] = name
            self.where.append(f"{name} = {self.written(scalar.expr)}")
        return self._letters[suggestion, scalar]

    def written(self, expr: sympy.Expr) -> str:
        """The expression in mathematical notation, every name with its index."""
        names = {each: self._with_index(each) for each in expr.free_symbols if isinstance(each, Ranged)}
        return to_math(expr.xreplace(names))

    def indexed(self, name: str) -> str:
        """The name of an input or a definition with its index."""
        return self._indexed(name, self._kinds[name])

    def free(self, suggestion: str) -> str:
        """A name that nothing else has, `suggestion` itself if possible; it is taken from then on."""
        tries = (suggestion, *(f"{suggestion}{number}" for number in range(1, len(self._taken) + 2)))
        name = next(each for each in tries if each not in self._taken)
        self._taken.add(name)
        return name

    def _with_index(self, each: Ranged) -> Ranged:
        return symbol(self.indexed(each.name), each.low, each.high)

    @staticmethod
    def _indexed(name: str, kind: Kind) -> str:
        if kind in PARAMETERS:
            return name
        return f"{name}[t, l]" if kind is Kind.LEVEL else f"{name}[t]"
