"""Precisions: float32 that is float32, half inputs beside float32 gates, autocast."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from agreement import assert_as_good_as_the_recurrence, compiled, exact, inputs_of, outcome
from torch import Tensor
from variants import VARIANTS

import maskdsl

HALVES = (torch.float16, torch.bfloat16)
NAMES = ["number", "diagonal and operator", "operator, weak hierarchy", "number, window"]


@pytest.fixture
def coarse_products() -> Iterator[None]:
    """The user allows TF32 and bf16 in float32 products."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name", VARIANTS)
def test_float32_is_float32(name: str) -> None:
    """Float32 inputs keep float32's digits (batch_invariant_ops#23)."""
    attention = compiled(*VARIANTS[name])
    assert_as_good_as_the_recurrence(attention, inputs_of(attention, 150, K=16, V=8, dtype=torch.float32))


@pytest.mark.usefixtures("coarse_products")
def test_coarse_products_stay_outside() -> None:
    """TF32 or bf16 products that the user allows elsewhere reach no generated program, and come back after it."""
    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision))
            return function(*args, **(kwargs or {}))

    attention = compiled(*VARIANTS["operator"])
    inputs = inputs_of(attention, 70, dtype=torch.float32)
    with Watch():
        outcome(attention, inputs)
    assert ("ieee", "ieee") in seen
    assert torch.get_float32_matmul_precision() == "medium"
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.cuda.matmul.allow_tf32


def test_settings_made_with_either_interface_survive() -> None:
    """A process that sets precisions by the newer names gets them back, and no complaint about mixing both."""
    attention = compiled(*VARIANTS["number"])
    inputs = inputs_of(attention, 5, dtype=torch.float32)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        outcome(attention, inputs)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_a_failing_program_gives_the_settings_back() -> None:
    """An error inside (here: out of memory) leaves no setting behind."""
    attention = compiled(*VARIANTS["number"])
    inputs = inputs_of(attention, 5, dtype=torch.float32)
    enormous = {name: x.expand(1 << 40, *x.shape[1:]) for name, x in inputs.items()}
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(RuntimeError):
            attention(**enormous)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_half_vectors_beside_float32_gates(name: str, half: torch.dtype) -> None:
    """Every choice of which of q, k and v are half (fla#70, fla#301, fla#1264): the result is right to one rounding."""
    attention = compiled(*VARIANTS[name])
    wide = inputs_of(attention, 70, dtype=torch.float32)
    for chosen in itertools.product((half, torch.float32), repeat=3):
        inputs = wide | {name: wide[name].to(dtype) for name, dtype in zip("qkv", chosen, strict=True)}
        found, truth = outcome(attention, inputs), exact(attention, inputs)
        result = torch.float32 if torch.float32 in chosen else half
        assert found["o"].dtype == result
        assert all(found[f"d{name}"].dtype == x.dtype for name, x in inputs.items())
        # the cotangent of a half output is rounded as well; the truth's is not
        allowed = 1e-5 if result == torch.float32 else 2 * torch.finfo(half).eps
        errors = found.errors(truth)
        for name, error in errors.items():
            rounded = found[name].dtype != torch.float32
            assert error <= (torch.finfo(half).eps if rounded else 0) + allowed, (name, chosen, errors)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_everything_in_half(name: str, half: torch.dtype) -> None:
    """Half gates and weights too: computed in float32, each gradient in its input's dtype."""
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 70, dtype=half)
    found = outcome(attention, inputs)
    assert {x.dtype for x in found.tensors.values()} == {half}
    errors = found.errors(exact(attention, inputs))
    assert max(errors.values()) <= 3 * torch.finfo(half).eps, errors


def test_the_two_halves_meet_in_float32() -> None:
    """float16 beside bfloat16: neither holds the other's numbers."""
    attention = compiled(*VARIANTS["number"])
    inputs = inputs_of(attention, 5, dtype=torch.float16)
    assert attention(**(inputs | {"v": inputs["v"].bfloat16()})).dtype == torch.float32


def test_one_float64_input_makes_it_all_float64() -> None:
    """Computation in the widest dtype given; the result in that of the vectors."""
    attention = compiled(*VARIANTS["number"])
    inputs = inputs_of(attention, 40, dtype=torch.float32)
    found = outcome(attention, inputs | {"g": inputs["g"].double()})
    assert found["o"].dtype == torch.float32
    assert found["dg"].dtype == torch.float64
    wide = outcome(attention, inputs | {"v": inputs["v"].double()})
    assert wide["o"].dtype == torch.float64
    errors = wide.errors(exact(attention, inputs))
    assert errors["o"] <= 1e-13


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", ["gated_deltanet", "log_linear_mamba2", "kda"])
def test_autocast_changes_nothing(name: str, half: torch.dtype) -> None:
    """Forward and backward under autocast give the same bits (fla#181)."""
    attention = maskdsl.compile(name)
    inputs = inputs_of(attention, 70, dtype=torch.float32)
    inputs |= {name: x.to(half) for name, x in inputs.items() if name in ("q", "k", "v")}
    plain = outcome(attention, inputs)
    with torch.autocast("cpu", dtype=half):
        cast = outcome(attention, inputs)
    assert all(x.equal(cast[name]) for name, x in plain.tensors.items())


def test_a_layer_under_autocast() -> None:
    """Float32 parameters, half activations from autocast's own linear layers: every parameter gets its gradient."""
    attention = maskdsl.compile("gated_deltanet")
    inputs = inputs_of(attention, 20, dtype=torch.float32)
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    mix = torch.nn.Linear(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output: Tensor = attention(**(leaves | {"q": mix(leaves["q"]), "k": mix(leaves["k"])}))
        output.float().square().sum().backward()
    assert mix.weight.grad is not None
    assert mix.weight.grad.isfinite().all()
    assert leaves["A_log"].grad is not None
    assert leaves["A_log"].grad.dtype == torch.float32
