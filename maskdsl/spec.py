"""A checked spec: what the language stage hands to the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from maskdsl.language.syntax import Attention, Range
from maskdsl.mask.nodes import Kind, Mask, Scalar


@dataclass(frozen=True)
class Input:
    """One declared input, in declared order, and the range its values promise to keep."""

    name: str
    kind: Kind
    range: Range


@dataclass(frozen=True)
class L2Norm:
    """x / sqrt(sum over the last axis of x**2 + eps)."""

    x: Scalar
    eps: float


@dataclass(frozen=True)
class Attend:
    """o[t] = scale * sum over s <= t of (q[t]' M[t, s] k[s]) v[s]."""

    q: Scalar
    k: Scalar
    v: Scalar
    mask: Mask
    scale: Scalar


@dataclass(frozen=True)
class Definition:
    """A vector that is no elementwise expression; other expressions refer to it by a symbol of this name."""

    name: str
    node: L2Norm | Attend
    kind: Kind


@dataclass(frozen=True)
class Spec:
    """One attention block, every name resolved and every kind checked.

    `definitions` are in order of evaluation; `output` has kind VALUE; `syntax` is what the oracles walk, so that
    they share nothing with the compiler.
    """

    name: str
    doc: str
    inputs: tuple[Input, ...]
    definitions: tuple[Definition, ...]
    output: Scalar
    syntax: Attention

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Worked out once: that of all expressions takes longer than what a call looks up by it should."""
        return hash((self.name, self.doc, self.inputs, self.definitions, self.output, self.syntax))

    def __getstate__(self) -> dict[str, object]:
        # hashes differ from process to process
        return {name: value for name, value in vars(self).items() if name != "_hash"}
