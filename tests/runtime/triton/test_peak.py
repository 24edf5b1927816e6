"""What the kernels of a call hold in memory at once, beside its inputs."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from compilation import library_spec
from torch import Tensor

from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.triton.build import load
from maskdsl.runtime.triton.call import Form, Given, Recorder
from maskdsl.schedule.configuration import Configuration

SIZES = {"B": 4, "T": 8192, "H": 16, "K": 128, "V": 128}


class Watching(Recorder):
    """A recording that notes the most bytes there are when a kernel is launched, and keeps no tensor."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.held = self.peak = 0

    def float(self, *shape: int) -> Tensor:
        return self._watched(super().float(*shape))

    def zeros(self, *shape: int) -> Tensor:
        return self._watched(super().zeros(*shape))

    def state(self, *shape: int) -> Tensor:
        return self._watched(super().state(*shape))

    def output(self, *shape: int) -> Tensor:
        return self._watched(super().output(*shape))

    def gradient(self, name: str) -> Tensor:
        return self._watched(super().gradient(name))

    def launch(self, *_: Any, **__: Any) -> None:
        self.peak = max(self.peak, self.held)

    def _watched(self, x: Tensor) -> Tensor:
        count = x.numel() * x.element_size()
        self.held += count
        weakref.finalize(x, self._gone, count)
        return x

    def _gone(self, count: int) -> None:
        self.held -= count


def peak(name: str) -> float:
    """Megabytes of a call for training: B = 4, T = 8192, 16 heads, K = V = 128, vectors in bfloat16."""
    spec = library_spec(name)
    levels = needed_levels(spec, SIZES["T"])
    shape = Shape(**SIZES, L=levels)
    inputs = {each.name: torch.empty(shape.of(each), dtype=torch.bfloat16, device="meta") for each in spec.inputs}
    forms = {name: Form(x.shape, x.dtype) for name, x in inputs.items()}
    at = Watching(Given((*SIZES.values(), levels), forms, torch.bfloat16))
    module = load(spec, Configuration((), 128, 128, 16 if levels else 0, "bf16")).module
    outputs, stored = module.forward(at, *(inputs[name] for name in module.FORWARD))
    inputs |= dict(zip(module.GRADIENTS, outputs, strict=True))
    kept = list(stored)
    del stored
    module.backward(at, *(inputs[name] for name in module.BACKWARD), kept)
    return at.peak / 1e6


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("linear_attention", 1080),
        ("gla", 1880),
        ("deltanet", 1420),
        ("gated_deltanet", 1430),
        ("kda", 1960),
        ("log_linear_gated_deltanet", 2325),
        ("log_linear_kda", 2725),
    ],
)
def test_no_more_than_before(name: str, most: float) -> None:
    """The allocator of PyTorch counts as many on a GPU: the column `peak` of the benchmark."""
    assert 0.9 * most < peak(name) <= most
