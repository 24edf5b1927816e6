"""Which backend takes a call, and what is said where Triton cannot."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

import maskdsl
from maskdsl import CallError
from maskdsl.runtime.arguments import bind, result_dtype
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.triton import build
from maskdsl.runtime.triton.build import configuration_of
from maskdsl.schedule.configuration import Configuration, DeviceKind, Mode, least_width, padded
from maskdsl.schedule.unsupported import Unsupported


def call(backend: Any, dtype: torch.dtype = torch.float32) -> None:
    attention = maskdsl.compile("log_linear_mamba2", backend)
    attention(**random_inputs(attention.spec, Shape(1, 5, 2, 3, 4, 4), dtype=dtype))


def test_a_cpu_takes_pytorch() -> None:
    call("auto")
    with pytest.raises(CallError, match="Input 'q' is on 'cpu', but Triton needs a GPU"):
        call("triton")


def test_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "device_kind", lambda tensors: "cuda")
    with pytest.raises(CallError, match="Input 'q' is of float64, for which there are no Triton kernels"):
        call("triton", torch.float64)


def test_a_spec_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def text_of(spec: object, configuration: object) -> str:
        raise Unsupported("There are no kernels for this.")

    monkeypatch.setattr(build, "device_kind", lambda tensors: "cuda")
    monkeypatch.setattr(build, "text_of", text_of)
    with pytest.raises(CallError, match="There are no kernels for this"):
        call("triton")


def test_the_configuration_of_a_call() -> None:
    """No T and no B; the gate may be wider than the vectors."""
    spec = maskdsl.compile("log_linear_mamba2").spec
    for length, batch in ((4096, 1), (4000, 3)):
        shape = Shape(batch, length, 6, 24, 80, 13, (("q", 2), ("k", 6)))
        tensors = {name: x.to("meta") for name, x in random_inputs(spec, shape, dtype=torch.bfloat16).items()}
        tensors["lam"] = tensors["lam"].float()
        bound = bind(spec, (), tensors)
        found = configuration_of(bound, result_dtype(spec, bound), None, "cuda")
        assert found == Configuration((("q", 3),), 24, 80, 16, "bf16", None, "cuda")


def test_padding() -> None:
    assert [padded(n) for n in (0, 1, 16, 17, 81, 128)] == [0, 16, 16, 32, 128, 128]


@pytest.mark.parametrize("device", ["cuda", "hip", "interpreter"])
@pytest.mark.parametrize("mode", ["bf16", "fp16", "fp32"])
def test_tiles_along_keys_and_values(mode: Mode, device: DeviceKind) -> None:
    """Matrix units of NVIDIA's GPUs read beyond narrower operands of bfloat16."""
    least = 64 if (mode, device) == ("bf16", "cuda") else 16
    configuration = Configuration((), 0, 0, 0, mode, None, device)
    assert least_width(mode, device) == least
    assert [configuration.width(n) for n in (0, 1, 16, 64, 65, 128)] == [0, least, least, 64, 128, 128]


def test_a_compiled_spec_can_be_pickled() -> None:
    attention = pickle.loads(pickle.dumps(maskdsl.compile("mamba2", "triton")))
    assert attention.backend == "triton"
