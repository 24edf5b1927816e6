"""Generated modules of kernels behind `torch.autograd.Function`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskdsl.runtime.function import Sizes
from maskdsl.runtime.triton.call import Form, Given
from maskdsl.runtime.triton.program import Program

ALIGNMENT = 16
"""Bytes: kernels are compiled for tensors that start at a multiple."""

FARTHEST = 2**23
"""Elements from one position to the next; 128 positions of a chunk stay below 2**30."""


def apply(
    program: Program, sizes: Sizes, tensors: Mapping[str, Tensor], result: torch.dtype, places: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """The outputs of a generated module, differentiable once in every input.

    The first is [B, T, H, V] in dtype `result`, the others the memories of all sequences, [S, H, ...] in float32. With
    BOUNDS [S + 1] among `places` the batch row holds sequences, as `cu_seqlens` of a call, which go on from POSITIONS
    [S] where these are told.

    Each gradient has the dtype of its input. Tensors may have any strides: one whose last axis is not dense, or that
    starts at an odd address, is copied.
    """
    tensors = {**tensors, **places}
    given = Given(sizes, {name: Form(x.shape, x.dtype) for name, x in tensors.items()}, result)
    outputs: tuple[Tensor, ...] = _Attention.apply(program, given, *tensors.values())
    return outputs


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: Program, given: Given, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(given.forms, tensors, strict=True))
        ctx.program, ctx.given = program, given
        B, T, H, _, V, _ = given.sizes
        if 0 in (B, T, H, V):
            return (tensors[0].new_empty((B, T, H, V), dtype=given.result),)
        with _without_autocast(tensors[0].device):
            outputs, stored = program.forward(given, {name: dense(x) for name, x in named.items()})
        if any(ctx.needs_input_grad):
            ctx.kept = tuple(name for name in named if name in program.module.BACKWARD)
            ctx.save_for_backward(*(named[name] for name in ctx.kept), *stored)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        program, given, gradient = ctx.program, ctx.given, gradients[0]
        if not gradient.numel():
            wanted = zip(given.forms.values(), ctx.needs_input_grad[2:], strict=True)
            zeros = (gradient.new_zeros(form.shape, dtype=form.dtype) if needed else None for form, needed in wanted)
            return (None, None, *zeros)
        stored = list(ctx.saved_tensors)  # once only: checkpointing unpacks each tensor a single time
        ctx.maybe_clear_saved_tensors()  # unless the graph is kept, the program frees what it has used up
        named = {name: stored.pop(0) for name in ctx.kept}
        named |= zip(program.module.GRADIENTS, gradients, strict=True)
        with _without_autocast(gradient.device):
            found = program.backward(given, {name: dense(x) for name, x in named.items()}, stored)
        wanted = zip(given.forms.items(), ctx.needs_input_grad[2:], strict=True)
        return (None, None, *(found[name].to(form.dtype) if needed else None for (name, form), needed in wanted))


def dense(x: Tensor) -> Tensor:
    """The same values with a last stride of 1, an aligned start, and 32-bit offsets inside the tile of a chunk."""
    near = all(stride < FARTHEST for stride in x.stride()[1:2])
    if (x.stride(-1) == 1 or x.shape[-1] == 1) and x.data_ptr() % ALIGNMENT == 0 and near:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
