"""Generated kernels on bfloat16 vectors, in Triton's interpreter told to round as a GPU, against float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor

import pytest
import rounding
import tile_kernels
import torch
from agreement import Outcome, outcome
from compilation import library_spec
from kernel_calls import outcome_of, supported
from tile_kernels import triton_process
from torch import Tensor

import maskdsl
from maskdsl import library
from maskdsl.language.printer import to_text
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs

Run = Callable[[str, Mapping[str, Tensor]], Outcome]

T, K = 130, 64
"""Three chunks, the last ragged, so that states are written, carried and read."""

TEXTS = {name: to_text(library_spec(name).syntax) for name in library.names()}
KERNELS = [name for name in TEXTS if supported(TEXTS[name])]
STRENGTHS = {
    name: "a" if name == "rwkv7" else "b" for name in KERNELS if "delta(" in TEXTS[name] or "rank1(" in TEXTS[name]
}
"""The input of which the strength of a definition's rank-one steps is the sigmoid."""


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """A process in which Triton is the interpreter and rounds as a GPU."""
    with triton_process(interpret=True) as pool:
        pool.submit(rounding.round_as_a_gpu).result()
        yield pool


@pytest.fixture
def run(process: ProcessPoolExecutor) -> Run:
    """Output and gradients of a call of kernels."""
    return lambda name, inputs: process.submit(outcome_of, TEXTS[name], inputs).result(timeout=240)


def inputs_of(name: str, regime: Regime) -> dict[str, Tensor]:
    """Two heads; vectors in bfloat16, gates and weights in float32."""
    spec = library_spec(name)
    made = random_inputs(spec, Shape(1, T, 2, K, K, max(1, needed_levels(spec, T))), regime=regime)
    vectors = {each.name for each in spec.inputs if each.kind in (Kind.KEY, Kind.VALUE)}
    return {name: x.bfloat16() if name in vectors else x for name, x in made.items()}


def assert_near(name: str, inputs: Mapping[str, Tensor], found: Outcome, allowed: float, summed: float) -> None:
    """Relative errors of at most `allowed`, or `summed` of parameters."""
    exact = outcome(maskdsl.compile(name, "torch"), {of: x.double() for of, x in inputs.items()}, torch.bfloat16)
    errors = found.errors(exact)
    assert all(errors[of] <= (allowed if x.ndim > 2 else summed) for of, x in exact.tensors.items()), errors


@pytest.mark.parametrize("name", KERNELS)
def test_definitions(run: Run, name: str) -> None:
    """Twice what a GPU was seen to lose; gradients of parameters are sums of terms of both signs over all positions."""
    inputs = inputs_of(name, "mild")
    assert_near(name, inputs, run(name, inputs), allowed=1e-2, summed=5e-2)


@pytest.mark.parametrize("name", STRENGTHS)
def test_steps_along_nearly_one_direction(run: Run, name: str) -> None:
    """Keys whose cosine is 0.99, steps that nearly project, states that hardly decay: small sums of large terms.

    Parameters of gates that hardly decay get next to no gradient.
    """
    inputs = inputs_of(name, "tiny")
    direction = torch.full((K,), K**-0.5)
    inputs["k"] = (direction + 0.1 * inputs["k"].float()).bfloat16()
    inputs[STRENGTHS[name]] = 4 + 0.1 * inputs[STRENGTHS[name]]
    if name == "rwkv7":
        inputs["xi"] = torch.ones_like(inputs["xi"])
    assert_near(name, inputs, run(name, inputs), allowed=1e-2, summed=torch.inf)


# -- the interpreter that rounds ----------------------------------------------------------------------------------


def launched(process: ProcessPoolExecutor, kernel: str, *x: Tensor, out: torch.dtype, **constants: object) -> Tensor:
    """The square tile that a kernel of `tile_kernels` makes."""
    outputs = [torch.zeros(16, 16, dtype=out)]
    (found,) = process.submit(tile_kernels.run, kernel, x, outputs, {"C": 16, **constants}).result(timeout=240)
    return found


def noise(seed: int) -> Tensor:
    return torch.randn(16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("precision", ["tf32", "tf32x3", "ieee"])
@pytest.mark.parametrize("operand", ["bf16", "fp32"])
def test_a_product_rounds_its_operands_alone(process: ProcessPoolExecutor, operand: str, precision: str) -> None:
    x, y = noise(0), noise(1)
    constants = {"K": 16, "OPERAND": operand, "PRECISION": precision}
    found = launched(process, "dot", x, y, out=torch.float32, **constants)
    exact = x.double() @ y.double()
    rounded = x.bfloat16().double() @ y.bfloat16().double() if operand == "bf16" else exact
    error, lost = (found - rounded).norm() / exact.norm(), (found - exact).norm() / exact.norm()
    match operand, precision:
        case "bf16", _:
            assert error < 1e-6
            assert lost > 1e-3
        case _, "tf32":
            # cut off after 11 bits
            assert 1e-4 < error < 1e-3
        case _:
            assert error < 1e-6


def test_a_number_is_stored_as_the_nearest(process: ProcessPoolExecutor) -> None:
    x = noise(0)
    found = launched(process, "tril", x, out=torch.bfloat16, DIAGONAL=16)
    assert torch.equal(found, x.bfloat16())
