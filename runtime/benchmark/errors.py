"""Errors of a timed call, output and gradients, on a part of it that the float64 recurrence can follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.runtime.benchmark.measure import System, gradients
from maskdsl.runtime.benchmark.problem import Problem, Tensors
from maskdsl.runtime.compiled import Attention
from maskdsl.spec import Spec

HEADS = 2
"""Value heads in the part, at most."""


@dataclass(frozen=True)
class Probe:
    """The first sequence and heads of a call in float64 on the CPU, and a gradient of their output [1, T, h, V].

    With the gradient zero everywhere else, the gradients of the whole call are those of the part.
    """

    attention: Attention
    inputs: dict[str, Tensor]
    gradient: Tensor

    def exact(self) -> dict[str, Tensor]:
        """The output `o` and each gradient `d_<input>` of the part, by the recurrence."""
        leaves = {name: x.detach().requires_grad_() for name, x in self.inputs.items()}
        system = System("recurrence", lambda x: self.attention.reference(**x, oracle="recurrent"))
        return _named(*gradients(system, leaves, self.gradient))

    def found(self, system: System, inputs: Tensors) -> dict[str, Tensor]:
        """The same by `system`, which computes the whole call."""
        leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
        with torch.no_grad():
            whole = torch.zeros_like(system.run(system.prepare(leaves)))
        heads = self.gradient.shape[2]
        whole[:1, :, :heads] = self.gradient.to(whole)
        composed = System(system.name, lambda x: system.run(system.prepare(x)))
        output, found = gradients(composed, leaves, whole)
        parts = _part(self.attention.spec, found, whole.shape[2])
        return _named(output[:1, :, :heads].cpu(), {name: part.cpu() for name, part in parts.items()})


def probe(attention: Attention, problem: Problem, inputs: Tensors) -> Probe:
    """The part of a call: one sequence and up to two heads, which share a key head or have one each."""
    _, length, heads, features = problem.output
    part = {name: x.to("cpu", torch.float64) for name, x in _part(problem.spec, inputs, heads).items()}
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(1, length, min(heads, HEADS), features, generator=generator, dtype=torch.float64)
    # rounded, so that what is computed in the dtype of the call gets the same numbers
    return Probe(attention, part, drawn.to(problem.dtype).to(torch.float64))


def relative(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> dict[str, float]:
    """The relative error of everything found; infinite for what is no number."""
    return {name: _relative(x, exact[name]) for name, x in found.items()}


def _relative(found: Tensor, exact: Tensor) -> float:
    difference = float((found.to(torch.float64) - exact).norm())
    size = float(exact.norm()) or 1.0
    return difference / size if math.isfinite(difference) else math.inf


def _named(output: Tensor, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"o": output.detach(), **{f"d_{name}": x for name, x in found.items()}}


def _part(spec: Spec, tensors: Tensors, heads: int) -> dict[str, Tensor]:
    """The first sequence and heads of every tensor; key heads as many as those of all `heads` that are kept need."""
    few = min(heads, HEADS)
    kept: dict[str, Callable[[int], int]] = {
        "B": lambda size: 1,
        "H": lambda size: few,
        "Hk": lambda size: -(-few * size // heads),
    }
    axes = {each.name: each.kind.value for each in spec.inputs}
    return {
        name: x[tuple(slice(kept.get(axis, int)(size)) for axis, size in zip(axes[name], x.shape, strict=True))]
        for name, x in tensors.items()
    }
