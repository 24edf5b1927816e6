"""What a call allocates: without gradients half the states, and nothing that waits for a backward pass."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from compilation import library_spec
from torch import Tensor

from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.triton.build import load
from maskdsl.runtime.triton.call import Form, Given, Recorder
from maskdsl.schedule.configuration import Configuration

CONFIGURATION = Configuration((), 128, 128, 0, "bf16")


class Counting(Recorder):
    """A recording that also notes the sizes of states."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.states: list[int] = []

    def state(self, *shape: int) -> Tensor:
        self.states.append(math.prod(shape))
        return super().state(*shape)


def allocated(name: str, B: int, T: int, training: bool) -> tuple[list[int], int]:
    """The sizes of what has the dtype of states, and how many tensors are kept."""
    spec = library_spec(name)
    shape = Shape(B, T, 16, 128, 128, 1)
    inputs = {name: x.to("meta") for name, x in random_inputs(spec, shape, dtype=torch.bfloat16).items()}
    forms = {name: Form(x.shape, x.dtype) for name, x in inputs.items()}
    recorder = Counting(Given((B, T, 16, 128, 128, 0), forms, torch.bfloat16))
    module = load(spec, dataclasses.replace(CONFIGURATION, training=training)).module
    _, stored = module.forward(recorder, *(inputs[name] for name in module.FORWARD))
    return recorder.states, len(stored)


@pytest.mark.parametrize(("T", "chunks"), [(64, 1), (256, 4), (257, 5)])
@pytest.mark.parametrize("name", ["linear_attention", "simple_gla", "retention"])
def test_many_heads_keep_half_the_states(name: str, T: int, chunks: int) -> None:
    state = 4 * 16 * 128 * 128
    states, kept = allocated(name, 4, T, training=True)
    assert states == [chunks * state]
    assert kept > 0
    assert allocated(name, 4, T, training=False) == ([-(-chunks // 2) * state], 0)


def test_few_heads_need_what_every_chunk_writes() -> None:
    assert allocated("simple_gla", 1, 256, training=False) == ([4 * 16 * 128 * 128], 0)


@pytest.mark.parametrize("training", [True, False])
def test_tables(training: bool) -> None:
    module = load(library_spec("simple_gla"), dataclasses.replace(CONFIGURATION, training=training)).module
    assert hasattr(module, "backward") == bool(module.BACKWARD) == bool(module.STORED) == training
