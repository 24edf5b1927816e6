"""The least time a call can take: what it must move and compute, over what the device was measured to do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from maskdsl.explain import costs
from maskdsl.explain.report import normal_forms
from maskdsl.runtime.benchmark.meter import Meter, median
from maskdsl.runtime.benchmark.problem import Problem, Tensors

WARMUP, REPEATS = 3, 9


@dataclass(frozen=True)
class Ceilings:
    """Bytes a second of a large copy, read and written, and operations a second of a large matrix product."""

    bandwidth: float
    rate: float


@dataclass(frozen=True)
class Floor:
    """Milliseconds of the forward pass, and of the forward and backward pass."""

    forward: float
    training: float


def ceilings(meter: Meter, dtype: torch.dtype, device: str) -> Ceilings:
    """Measured now: a copy of 1 GiB and a product of 8192-cubes in `dtype`; smaller ones on a CPU."""
    count, side = (1 << 26, 1024) if device == "cpu" else (1 << 30, 8192)
    source = torch.ones(count, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    x, y = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    copying = median(meter.milliseconds, [partial(target.copy_, source)], WARMUP, REPEATS)
    multiplying = median(meter.milliseconds, [partial(torch.mm, x, y)], WARMUP, REPEATS)
    return Ceilings(1000 * 2 * count / copying, 1000 * 2 * side**3 / multiplying)


def floor(problem: Problem, inputs: Tensors, limits: Ceilings) -> Floor:
    """The larger of bytes over bandwidth and operations over rate.

    Bytes: forward reads the inputs and writes the output; backward reads both sides again (inputs and the output's
    gradient) and writes the gradients. Operations are those of a chunkwise program, as `maskdsl.explain.costs` counts.
    """
    shape = problem.shape
    read = sum(x.nbytes for x in inputs.values())
    written = torch.empty(problem.output, dtype=problem.dtype, device="meta").nbytes
    forms = tuple(normal_forms(problem.spec).values())
    counted = costs.training(problem.spec, forms, shape.T, costs.Sizes(shape.H, shape.K, shape.V))
    flops = shape.B * counted.flops
    forward = max((read + written) / limits.bandwidth, flops / 3 / limits.rate)
    training = max((3 * read + 2 * written) / limits.bandwidth, flops / limits.rate)
    return Floor(1000 * forward, 1000 * training)
