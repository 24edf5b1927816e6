"""One random call, through both oracles and the compiled programs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import dense, recurrent
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.spec import Spec

ALLOWED = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Relative error ‖x - reference‖ / ‖reference‖ of an output or of one gradient."""

ROUNDING = 10
"""How many times the error of the recurrence in float32 (the worst of SAMPLES roundings) is allowed where that is more.

Gates and vectors can cancel so far that a precision cannot do better: the gradient of the l2norm of one channel, of
reflections along one direction, or of a gate after a decay of exp(-88). Two such errors are both noise, of few elements
where sizes are small; hence a factor. Float64 is allowed the same in proportion to its unit roundoff.
"""

SAMPLES = 4

VANISHING = {torch.float64: 1e-200, torch.float32: 1e-30}
"""Norms below which a reference counts as this: what is left of it is near or below the smallest normal number."""

LARGEST_DENSE = 1 << 22
"""Elements of the operators M[t, s] up to which the dense oracle is run."""


@dataclass(frozen=True)
class Case:
    """One call: sizes, the regime of its gates, and the seed of its values."""

    shape: Shape
    regime: Regime
    seed: int


@dataclass(frozen=True)
class Comparison:
    """An error and what is allowed; `what` names the two sides, `of` the output or the gradient."""

    what: str
    of: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within bounds."""
        return self.error <= self.allowed


class Mismatch(AssertionError):
    """A comparison that failed."""

    def __init__(self, comparison: Comparison) -> None:
        c = comparison
        super().__init__(f"{c.what}, {c.of}: relative error {c.error:.1e}, allowed {c.allowed:.1e}")


Results = dict[str, Tensor]
"""The output `o` and the gradients `d_<input>`."""


def compare(attention: Attention, case: Case, device: str = "cpu") -> Iterator[Comparison]:
    """All comparisons of a call; the compiled programs run on `device`, the oracles on the CPU.

    Inputs are rounded to float32, so that both precisions see the same numbers. The backend "triton" has no float64.
    """
    spec = attention.spec
    single = random_inputs(spec, case.shape, seed=case.seed, dtype=torch.float32, regime=case.regime)
    double = {name: x.to(torch.float64) for name, x in single.items()}
    reference = _run(lambda x: recurrent(spec, x), double)
    rounded = _Rounding(spec, single, reference)
    if _dense_elements(case.shape) <= LARGEST_DENSE:
        exact = _run(lambda x: dense(spec, x), double)
        yield from _against("dense = recurrent, float64", exact, reference, torch.float64, rounded)
    if attention.backend != "triton":
        wide = _run(lambda x: attention(**x), double, device)
        yield from _against("compiled = recurrent, float64", wide, reference, torch.float64, rounded)
    narrow = _run(lambda x: attention(**x), single, device)
    yield from _against("compiled = recurrent, float32", narrow, reference, torch.float32, rounded)


class _Rounding:
    """The error that rounding alone makes, measured on the recurrence when it is first asked for."""

    def __init__(self, spec: Spec, inputs: Mapping[str, Tensor], reference: Results) -> None:
        self.spec, self.inputs, self.reference = spec, inputs, reference

    @functools.cached_property
    def _samples(self) -> list[Results]:
        samples = []
        for number in range(SAMPLES):
            # the first sample rounds the inputs themselves, the others inputs that differ in their last bit
            generator = torch.Generator().manual_seed(number)
            nudges = {name: torch.randn(x.shape, generator=generator) for name, x in self.inputs.items()}
            unit = torch.finfo(torch.float32).eps / 2 if number else 0.0
            nudged = {name: x * (1 + unit * nudges[name].sign()) for name, x in self.inputs.items()}
            samples.append(_run(lambda x: recurrent(self.spec, x), nudged))
        return samples

    def error(self, of: str, dtype: torch.dtype) -> float:
        """The worst error of the samples, in proportion to the unit roundoff of `dtype`."""
        worst = max(_error(sample[of], self.reference[of], torch.float32) for sample in self._samples)
        return worst * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def _run(function: Callable[[Mapping[str, Any]], Tensor], inputs: Mapping[str, Tensor], device: str = "cpu") -> Results:
    leaves = {name: x.to(device, copy=True).requires_grad_() for name, x in inputs.items()}
    output = function(leaves)
    # the weights of the loss are the same in every precision
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(torch.float32).to(output.dtype)
    gradients = torch.autograd.grad(output, list(leaves.values()), weights.to(device), allow_unused=True)
    found = {
        f"d_{name}": (torch.zeros_like(x) if gradient is None else gradient).cpu()
        for (name, x), gradient in zip(leaves.items(), gradients, strict=True)
    }
    return {"o": output.detach().cpu(), **found}


def _against(
    what: str, results: Results, reference: Results, dtype: torch.dtype, rounding: _Rounding
) -> Iterator[Comparison]:
    for of, expected in reference.items():
        error, allowed = _error(results[of], expected, dtype), ALLOWED[dtype]
        if not error <= allowed:
            allowed = max(allowed, ROUNDING * rounding.error(of, dtype))
        yield Comparison(what, of, error, allowed)


def _error(result: Tensor, expected: Tensor, dtype: torch.dtype) -> float:
    difference = (result.to(torch.float64) - expected).norm().item()
    scale = max(expected.norm().item(), VANISHING[dtype])
    return difference / scale if math.isfinite(difference) else math.inf


def _dense_elements(shape: Shape) -> int:
    return shape.B * shape.H * shape.T**2 * shape.K**2


def script(attention: Attention, text: str, case: Case, device: str) -> str:
    """A program that runs one call again and prints every comparison."""
    quoted = text.replace("\\", "\\\\").replace("'''", r"\'\'\'")
    return f'''"""A call for which '{attention.spec.name}' does not compute what it means."""

import maskdsl
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.verification import Case, compare

SPEC = \'\'\'
{quoted}\'\'\'


def main() -> None:
    attention = maskdsl.compile(SPEC, "{attention.backend}")
    case = {case!r}
    for comparison in compare(attention, case, "{device}"):
        verdict = "ok" if comparison.passed else "FAILED"
        print(f"{{verdict:6}} {{comparison.what:32}} {{comparison.of:12}} error {{comparison.error:.1e}}")


if __name__ == "__main__":
    main()
'''
