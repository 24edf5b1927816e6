"""Random values for gates: from no decay at all to a decay that forgets everything within a token.

A regime says how large log decays are. An input that declares `<= 0` takes its values from the regime directly. A gate
computed from other inputs only, such as `-exp(A_log) * softplus(a + dt_bias)`, is steered through one of them, the
first of those with the most axes: its values are set around the one for which the gate comes nearest to the regime.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from maskdsl.language.syntax import Assignment, Call, Expression, Name, Range
from maskdsl.runtime.oracle.expressions import Evaluator, Value, arguments, walk
from maskdsl.spec import Input, Spec

Regime = Literal["zero", "tiny", "mild", "strong5", "strong20", "strong88", "mixed"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
MIXTURE: tuple[Regime, ...] = ("zero", "mild", "strong20")
TYPICAL = {"zero": 0.0, "tiny": -1e-8, "mild": -0.1, "strong5": -5.0, "strong20": -20.0, "strong88": -88.0}
PROBES = torch.tensor([0.0, *(sign * 0.1 * 2 ** (j / 4) for j in range(61) for sign in (1, -1))], dtype=torch.float64)


def log_decays(regime: Regime, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Log decays <= 0 in float64.

    "tiny" spreads over -1e-4 ... -1e-12, "mild" over -0.2 ... 0, the strong ones over a quarter to both sides of their
    value, and "mixed" draws each number from "zero", "mild" or "strong20".
    """
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    match regime:
        case "mixed":
            return mixture([log_decays(part, shape, generator) for part in MIXTURE], generator)
        case "tiny":
            return -(10 ** (-4 - 8 * uniform))
        case "mild":
            return -0.2 * uniform
        case _:
            return TYPICAL[regime] * (0.75 + 0.5 * uniform)


def mixture(parts: list[Tensor], generator: torch.Generator) -> Tensor:
    """Each number from one of the parts at random."""
    stacked = torch.stack(parts)
    chosen = torch.randint(len(parts), (1, *stacked.shape[1:]), generator=generator)
    return stacked.gather(0, chosen)[0]


def into(declared: Range, x: Tensor) -> Tensor:
    """Any numbers, carried smoothly into the declared range."""
    low, high = declared.low, declared.high
    if low is not None and high is not None:
        return low + (high - low) * torch.sigmoid(x)
    if low is not None:
        return low + functional.softplus(x)
    return x if high is None else high - functional.softplus(x)


def steered(spec: Spec) -> dict[str, Expression]:
    """For every gate computed from inputs that do not declare `<= 0`: the input that steers it, and the gate."""
    found: dict[str, Expression] = {}
    for call in walk(spec.syntax):
        if isinstance(call, Call) and call.function == "semiseparable":
            gate = arguments(call, ("g",))["g"]
            names = set(_names(spec, gate))
            inputs = [each for each in spec.inputs if each.name in names and each.kind.label != "key"]
            if inputs and not any(declares_decay(each) for each in inputs):
                found.setdefault(max(inputs, key=lambda each: len(each.kind.value)).name, gate)
    return found


def declares_decay(each: Input) -> bool:
    """Whether the input promises never to be positive."""
    return each.range.high is not None and each.range.high <= 0


def steering(spec: Spec, name: str, gate: Expression, regime: Regime) -> float:
    """The number which, carried into the range of input `name`, brings the gate nearest to the regime's log decay.

    Every other input is held at a typical value, and an `attend` within the gate at 0.
    """
    count = len(PROBES)
    size = {"B": 1, "T": count, "H": count, "Hk": count, "K": 1, "V": 1, "L": 1}
    trial = {}
    for each in spec.inputs:
        shape = [size[axis] for axis in each.kind.value]
        if each.name == name:
            along = each.kind.value.index("T" if "T" in each.kind.value else "H")
            view = [count if axis == along else 1 for axis in range(len(shape))]
            trial[each.name] = into(each.range, PROBES).view(view).expand(shape)
        else:
            trial[each.name] = into(each.range, torch.zeros(shape, dtype=torch.float64))
    evaluator = Evaluator(spec, trial, lambda _, __: Value(torch.zeros(1, 1, 1, 1, dtype=torch.float64), "V"))
    response = evaluator.full(gate).reshape(count, count).diagonal()
    distance = (_magnitude(response) - _magnitude(response.new_tensor(TYPICAL[regime]))).abs()
    return PROBES[distance.nan_to_num(nan=math.inf).argmin()].item()


def _magnitude(log_decay: Tensor) -> Tensor:
    """How strong a decay is, on a logarithmic scale that ends where no decay is left."""
    return (-log_decay).clamp(min=1e-30).log()


def _names(spec: Spec, expression: Expression) -> Iterator[str]:
    """All names that an expression is computed from."""
    assigned = {line.name: line.value for line in spec.syntax.body if isinstance(line, Assignment)}
    for node in walk(expression):
        if isinstance(node, Name):
            yield node.name
            if node.name in assigned:
                yield from _names(spec, assigned[node.name])
