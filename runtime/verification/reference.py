"""What the recurrence makes of a call in float64, and the errors of others against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Relative error ‖x - reference‖ / ‖reference‖ of an output, of one gradient, or of one buffer of a state."""

ROUNDING = 10
"""How many times the error of the recurrence in float32 (the worst of SAMPLES roundings) is allowed where that is more.

Gates and vectors can cancel so far that a precision cannot do better: the gradient of the l2norm of one channel, of
reflections along one direction, or of a gate after a decay of exp(-88). Two such errors are both noise, of few elements
where sizes are small; hence a factor. Float64 is allowed the same in proportion to its unit roundoff.
"""

SAMPLES = 4

VANISHING = {torch.float64: 1e-200, torch.float32: 1e-30}
"""Norms below which a reference counts as this: what is left of it is near or below the smallest normal number."""

Outputs = dict[str, Tensor]
"""The output `o`, and the buffers of a state as `attend_1_1.states`, by memory and buffer."""

Results = dict[str, Tensor]
"""Outputs, and the gradients `d_<input>` of a loss on all of them that have a past; on the CPU."""

Kind = Literal["output", "gradient", "state"]

Run = Callable[[Mapping[str, Any]], Outputs]


class Reference:
    """The recurrence on inputs in float32: its results in float64, and the error that rounding alone makes of them.

    Each is computed when it is first asked for.
    """

    def __init__(self, recurrence: Run, inputs: Mapping[str, Tensor]) -> None:
        self.recurrence, self.inputs = recurrence, inputs

    @cached_property
    def results(self) -> Results:
        """Those in float64."""
        return evaluate(self.recurrence, {name: x.to(torch.float64) for name, x in self.inputs.items()})

    @cached_property
    def _samples(self) -> list[Results]:
        samples = []
        for number in range(SAMPLES):
            # the first sample rounds the inputs themselves, the others inputs that differ in their last bit
            generator = torch.Generator().manual_seed(number)
            nudges = {name: torch.randn(x.shape, generator=generator) for name, x in self.inputs.items()}
            unit = torch.finfo(torch.float32).eps / 2 if number else 0.0
            nudged = {name: x * (1 + unit * nudges[name].sign()) for name, x in self.inputs.items()}
            samples.append(evaluate(self.recurrence, nudged))
        return samples

    def errors(self, results: Results, dtype: torch.dtype, kinds: Collection[Kind]) -> dict[str, float]:
        """How far results of these kinds are from the right ones, relative to those; infinite for one that is missing.

        A sum may list its terms, and so an attend its memories, in another order than the recurrence does.
        """
        found = _renamed(results, self.results, dtype)
        return {of: _error(found.get(of), x, dtype) for of, x in self.results.items() if _kind(of) in kinds}

    def rounding(self, of: str, dtype: torch.dtype) -> float:
        """The worst error of the samples, in proportion to the unit roundoff of `dtype`."""
        worst = max(_error(sample[of], self.results[of], torch.float32) for sample in self._samples)
        return worst * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps


def evaluate(run: Run, inputs: Mapping[str, Tensor], device: str = "cpu", gradients: bool = True) -> Results:
    """Outputs of a run on `device`, and its gradients where it has them."""
    leaves = {name: x.to(device, copy=True).requires_grad_() for name, x in inputs.items()}
    outputs = run(leaves)
    results = {name: x.detach().cpu() for name, x in outputs.items()}
    if gradients:
        ends = [x for x in outputs.values() if x.requires_grad]
        found = torch.autograd.grad(ends, list(leaves.values()), [_weights(x) for x in ends], allow_unused=True)
        for (name, x), gradient in zip(leaves.items(), found, strict=True):
            results[f"d_{name}"] = (torch.zeros_like(x) if gradient is None else gradient).cpu()
    return results


def _kind(of: str) -> Kind:
    if "." in of:
        return "state"
    return "gradient" if of.startswith("d_") else "output"


def _weights(output: Tensor) -> Tensor:
    """Those of the loss, the same in every precision and for all outputs of one shape."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    return weights.to(torch.float32).to(output)


def _error(result: Tensor | None, expected: Tensor, dtype: torch.dtype) -> float:
    if result is None or result.shape != expected.shape:
        return math.inf
    difference = (result.to(torch.float64) - expected).norm().item()
    scale = max(expected.norm().item(), VANISHING[dtype])
    return difference / scale if math.isfinite(difference) else math.inf


def _renamed(results: Results, expected: Results, dtype: torch.dtype) -> Results:
    """Results in which every memory has the name of the one among those of its attend that it is nearest to."""
    found, wanted = _by_memory(results), _by_memory(expected)
    named = {of: x for of, x in results.items() if "." not in of}
    for name, buffers in wanted.items():
        distances = {
            other: max(_error(kept.get(buffer), x, dtype) for buffer, x in buffers.items())
            for other, kept in found.items()
            if other.rpartition("_")[0] == name.rpartition("_")[0]
        }
        if distances:
            nearest = found.pop(min(distances, key=distances.__getitem__))
            named |= {f"{name}.{buffer}": x for buffer, x in nearest.items()}
    return named


def _by_memory(results: Results) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for of, x in results.items():
        memory, dot, buffer = of.partition(".")
        if dot:
            found.setdefault(memory, {})[buffer] = x
    return found
