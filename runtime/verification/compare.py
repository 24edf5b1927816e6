"""One random call, through both oracles and the compiled programs."""

from __future__ import annotations

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

ROUNDING = 3
"""How many times the float32 recurrence's own error is allowed where that is more: gates and vectors can cancel so far
that float32 cannot do better (the gradient of l2norm of one channel, or of a gate after a decay of exp(-88))."""

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

    Inputs are rounded to float32, so that both precisions see the same numbers.
    """
    spec = attention.spec
    single = random_inputs(spec, case.shape, seed=case.seed, dtype=torch.float32, regime=case.regime)
    double = {name: x.to(torch.float64) for name, x in single.items()}
    reference = _run(lambda x: recurrent(spec, x), double)
    if _dense_elements(case.shape) <= LARGEST_DENSE:
        yield from _against(
            "dense = recurrent, float64", _run(lambda x: dense(spec, x), double), reference, torch.float64
        )
    yield from _against(
        "compiled = recurrent, float64", _run(lambda x: attention(**x), double, device), reference, torch.float64
    )

    result = _run(lambda x: attention(**x), single, device)
    rough: Results = {}
    for comparison in _against("compiled = recurrent, float32", result, reference, torch.float32):
        if not comparison.passed:
            rough = rough or _run(lambda x: recurrent(spec, x), single)
            unavoidable = _error(rough[comparison.of], reference[comparison.of], torch.float32)
            allowed = max(comparison.allowed, ROUNDING * unavoidable)
            comparison = Comparison(comparison.what, comparison.of, comparison.error, allowed)
        yield comparison


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


def _against(what: str, results: Results, reference: Results, dtype: torch.dtype) -> Iterator[Comparison]:
    for of, expected in reference.items():
        yield Comparison(what, of, _error(results[of], expected, dtype), ALLOWED[dtype])


def _error(result: Tensor, expected: Tensor, dtype: torch.dtype) -> float:
    difference = (result.to(torch.float64) - expected).norm().item()
    scale = max(expected.norm().item(), VANISHING[dtype])
    return difference / scale if math.isfinite(difference) else math.inf


def _dense_elements(shape: Shape) -> int:
    return shape.B * shape.H * shape.T**2 * shape.K**2


def script(spec: Spec, text: str, case: Case) -> str:
    """A program that runs one call again and prints every comparison."""
    return f'''"""A call for which '{spec.name}' does not compute what it means."""

import maskdsl
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.verification import Case, compare

SPEC = """
{text}"""


def main() -> None:
    attention = maskdsl.compile(SPEC)
    case = {case!r}
    for comparison in compare(attention, case):
        verdict = "ok" if comparison.passed else "FAILED"
        print(f"{{verdict:6}} {{comparison.what:32}} {{comparison.of:12}} error {{comparison.error:.1e}}")


if __name__ == "__main__":
    main()
'''
