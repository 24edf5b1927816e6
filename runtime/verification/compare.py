"""One random call, through both oracles and the compiled programs, at once and in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.diagnostics import CallError
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import dense
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Parts, Shape, random_inputs
from maskdsl.runtime.verification.parts import InParts
from maskdsl.runtime.verification.reference import (
    ALLOWED,
    ROUNDING,
    Kind,
    Reference,
    Results,
    Run,
    evaluate,
)

LARGEST_DENSE = 1 << 22
"""Elements of the operators M[t, s] up to which the dense oracle is run."""

WAYS = ("at once", "pieces", "packed", "steps")
"""How a call is computed: see `InParts` for all but the first."""

AT_ONCE: tuple[Kind, ...] = ("output", "gradient")
"""What a call leaves that asks for no state."""


@dataclass(frozen=True)
class Case:
    """One call: sizes, the regime of its gates, the seed of its values, and the parts that it is also computed in."""

    shape: Shape
    regime: Regime
    seed: int
    parts: Parts | None = None


@dataclass(frozen=True)
class Comparison:
    """An error and what is allowed.

    `way` is how the call was computed: at once, in pieces, packed, or in steps; `what` names the two sides, `of` the
    output, the gradient or the buffer of the final state.
    """

    way: str
    what: str
    of: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within bounds."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return f"{verdict:6} {self.way:9} {self.what:32} {self.of:20} error {self.error:.1e}"


@dataclass(frozen=True)
class Skipped:
    """A way for which the backend has nothing that could be compared."""

    way: str
    why: str

    def __str__(self) -> str:
        return f"skipped {self.way}: {self.why}"


class Mismatch(AssertionError):
    """A comparison that failed."""

    def __init__(self, comparison: Comparison) -> None:
        c = comparison
        super().__init__(f"{c.way}, {c.what}, {c.of}: relative error {c.error:.1e}, allowed {c.allowed:.1e}")


def compare(
    attention: Attention, case: Case, device: str = "cpu", ways: Collection[str] = WAYS
) -> Iterator[Comparison | Skipped]:
    """All comparisons of a call, or those of some ways; the compiled programs run on `device`, the oracles on the CPU.

    Inputs are rounded to float32, so that both precisions see the same numbers. The backend "triton" has no float64,
    and what it has no kernels for is skipped.
    """
    spec = attention.spec
    inputs = random_inputs(spec, case.shape, seed=case.seed, dtype=torch.float32, regime=case.regime)
    parts = InParts(attention, case.shape, case.parts or Parts())
    whole, alone = Reference(parts.whole, inputs), Reference(parts.alone, inputs)
    if "at once" in ways and _dense_elements(case.shape) <= LARGEST_DENSE:
        double = {name: x.to(torch.float64) for name, x in inputs.items()}
        exact = evaluate(lambda x: {"o": dense(spec, x)}, double)
        yield from _against("at once", "dense = recurrent, float64", exact, whole, torch.float64, AT_ONCE)
    compiled = _Compiled(attention, inputs, device)
    if "at once" in ways:
        yield from compiled.against("at once", lambda x: {"o": attention(**x)}, whole, AT_ONCE)
    in_parts: tuple[tuple[str, Run, Reference, tuple[Kind, ...]], ...] = (
        ("pieces", parts.pieces, whole, ("output", "gradient", "state")),
        ("packed", parts.packed, alone, ("output", "gradient", "state")),
        ("steps", parts.steps, alone, ("output", "state")),
    )
    for way, run, reference, kinds in in_parts if case.parts is not None else ():
        if way in ways:
            yield from compiled.unless_missing(way, run, reference, kinds)


@dataclass(frozen=True)
class _Compiled:
    """The compiled programs on inputs in float32."""

    attention: Attention
    inputs: Mapping[str, Tensor]
    device: str

    def against(self, way: str, run: Run, reference: Reference, kinds: Collection[Kind]) -> Iterator[Comparison]:
        """The comparisons of a run in every precision that the backend has."""
        for dtype in (torch.float64, torch.float32):
            if dtype != torch.float64 or self.attention.backend != "triton":
                what = f"compiled = recurrent, {str(dtype).removeprefix('torch.')}"
                given = {name: x.to(dtype) for name, x in self.inputs.items()}
                results = evaluate(run, given, self.device, "gradient" in kinds)
                yield from _against(way, what, results, reference, dtype, kinds)

    def unless_missing(
        self, way: str, run: Run, reference: Reference, kinds: Collection[Kind]
    ) -> Iterator[Comparison | Skipped]:
        """The same where the backend has the programs for it."""
        try:
            yield from self.against(way, run, reference, kinds)
        except CallError as error:
            if self.attention.backend != "triton":
                raise
            yield Skipped(way, str(error))


def _against(
    way: str, what: str, results: Results, reference: Reference, dtype: torch.dtype, kinds: Collection[Kind]
) -> Iterator[Comparison]:
    for of, error in reference.errors(results, dtype, kinds).items():
        allowed = ALLOWED[dtype]
        if not error <= allowed:
            allowed = max(allowed, ROUNDING * reference.rounding(of, dtype))
        yield Comparison(way, what, of, error, allowed)


def _dense_elements(shape: Shape) -> int:
    return shape.B * shape.H * shape.T**2 * shape.K**2


def script(attention: Attention, text: str, case: Case, device: str) -> str:
    """A program that runs one call again and prints every comparison."""
    quoted = text.replace("\\", "\\\\").replace("'''", r"\'\'\'")
    return f'''"""A call for which '{attention.spec.name}' does not compute what it means."""

import maskdsl
from maskdsl.runtime.sampling import Parts, Shape
from maskdsl.runtime.verification import Case, compare

SPEC = \'\'\'
{quoted}\'\'\'


def main() -> None:
    attention = maskdsl.compile(SPEC, "{attention.backend}")
    case = {case!r}
    for found in compare(attention, case, "{device}"):
        print(found)


if __name__ == "__main__":
    main()
'''
