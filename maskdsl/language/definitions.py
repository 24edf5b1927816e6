"""The vectors of a spec that are no elementwise expressions, each computed once."""

from __future__ import annotations

from collections.abc import Iterable

from maskdsl.language.signatures import BUILT_IN
from maskdsl.mask.nodes import Kind, Scalar
from maskdsl.scalar.build import symbol
from maskdsl.spec import Attend, Definition, L2Norm


class Definitions:
    """A pool of definitions in order of evaluation; equal nodes share one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._taken = {*names, *BUILT_IN}
        self._by_node: dict[L2Norm | Attend, Definition] = {}

    def refer(self, node: L2Norm | Attend, kind: Kind, function: str, name: str | None) -> Scalar:
        """The symbol of the definition of `node`, made on first use and named `name`, or after `function`."""
        if node not in self._by_node:
            self._by_node[node] = Definition(name or self._fresh(function), node, kind)
        return Scalar(symbol(self._by_node[node].name), kind)

    def all(self) -> tuple[Definition, ...]:
        """The definitions, each after those it refers to."""
        return tuple(self._by_node.values())

    def _fresh(self, prefix: str) -> str:
        number = 1
        while f"{prefix}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{prefix}_{number}")
        return f"{prefix}_{number}"
