"""The PyTorch backend on a GPU: the same programs, verified there."""

from __future__ import annotations

import pytest
import torch

import maskdsl
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.verification import verify

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("name", maskdsl.library.names())
def test_a_library_definition_verifies(name: str) -> None:
    report = verify(maskdsl.compile(name).spec, 5, device="cuda")
    assert report.passed, report.counterexample


@pytest.mark.parametrize("name", ["log_linear_mamba2", "log_linear_kda"])
def test_two_runs_give_the_same_bits(name: str) -> None:
    attention = maskdsl.compile(name)
    inputs = random_inputs(attention.spec, Shape(2, 3000, 4, 48, 80, 13), dtype=torch.bfloat16, device="cuda")
    leaves = {each: x.requires_grad_() for each, x in inputs.items()}

    def run() -> list[torch.Tensor]:
        output = attention(**leaves)
        return [output, *torch.autograd.grad(output, list(leaves.values()), torch.ones_like(output))]

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


def test_half_precision_follows_float64() -> None:
    attention = maskdsl.compile("log_linear_gated_deltanet")
    inputs = random_inputs(attention.spec, Shape(1, 4096, 2, 64, 64, 13), dtype=torch.bfloat16, device="cuda")
    output = attention(**inputs)
    exact = attention.reference(**{name: x.cpu() for name, x in inputs.items()}, oracle="recurrent")
    # the inputs are the same numbers, so only the rounding of the output to 8 bits is left
    assert output.dtype == torch.bfloat16
    assert (output.cpu().double() - exact).norm() <= 3e-3 * exact.norm()
