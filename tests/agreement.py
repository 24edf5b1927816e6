"""A compiled attention against the float64 recurrent oracle: output and every gradient, each relative to its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import recurrent
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs

FLOOR = 1e-30
"""What counts as nothing: the smallest norm that an error is held against."""


@dataclass(frozen=True)
class Outcome:
    """What a run of forward and backward gave, by name; the output is `o`."""

    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def errors(self, truth: Outcome) -> dict[str, float]:
        """‖x - truth‖ / ‖truth‖ of each tensor; infinite where x is not finite."""
        return {name: _error(self.tensors[name], exact) for name, exact in truth.tensors.items()}


def _error(actual: Tensor, exact: Tensor) -> float:
    assert actual.shape == exact.shape
    if not actual.isfinite().all():
        return float("inf")
    difference = (actual.to(torch.float64) - exact.to(torch.float64)).norm().item()
    return difference / max(exact.to(torch.float64).norm().item(), FLOOR)


def compiled(*lines: str, chunk: int | None = None) -> Attention:
    """The attention whose block has these lines."""
    text = "attention test:\n" + "".join(f"    {line}\n" for line in lines)
    return maskdsl.compile(text, chunk=chunk)


def inputs_of(
    attention: Attention,
    T: int,
    *,
    B: int = 1,
    H: int = 2,
    K: int = 4,
    V: int = 3,
    key_heads: tuple[tuple[str, int], ...] = (),
    regime: Regime = "mild",
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """Random inputs of a small call, with as many levels as it needs."""
    shape = Shape(B, T, H, K, V, max(1, needed_levels(attention.spec, T)), key_heads)
    return random_inputs(attention.spec, shape, regime=regime, dtype=dtype)


def outcome(
    run: Callable[..., Tensor], inputs: Mapping[str, Tensor], narrowest: torch.dtype = torch.float64
) -> Outcome:
    """The output of `run(**inputs)` and the gradient of every input, for a cotangent that every run shares.

    Runs of different precision see the same numbers where these are of the `narrowest`.
    """
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    output = run(**leaves)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    given = cotangent.to(narrowest).to(output.dtype)
    gradients = torch.autograd.grad(output, list(leaves.values()), given, allow_unused=True)
    found = {"o": output.detach()}
    for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
        found[f"d{name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return Outcome(found)


def exact(attention: Attention, inputs: Mapping[str, Tensor]) -> Outcome:
    """What the oracle says, in float64, of exactly these inputs."""
    return in_dtype(attention, inputs, torch.float64)


def in_dtype(attention: Attention, inputs: Mapping[str, Tensor], dtype: torch.dtype) -> Outcome:
    """The recurrent oracle run in a dtype of its own."""
    return outcome(lambda **x: recurrent(attention.spec, x), {name: x.to(dtype) for name, x in inputs.items()})


def assert_right(attention: Attention, inputs: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    """Output and gradients within `tolerance` of the oracle, each relative to its own norm."""
    errors = outcome(attention, inputs).errors(exact(attention, inputs))
    assert max(errors.values()) <= tolerance, errors


def assert_as_good_as_the_recurrence(attention: Attention, inputs: Mapping[str, Tensor], floor: float = 1e-5) -> None:
    """Output and gradients of float32 inputs within `floor`, or 3 times what the float32 recurrence loses itself."""
    truth = exact(attention, inputs)
    errors = outcome(attention, inputs).errors(truth)
    allowed = {name: max(floor, 3 * e) for name, e in in_dtype(attention, inputs, torch.float32).errors(truth).items()}
    assert all(errors[name] <= allowed[name] for name in allowed), (errors, allowed)
