"""Generated programs behind `torch.autograd.Function`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Sizes = tuple[int, int, int, int, int, int]
"""B, T, H, K, V, L; 0 for a dimension that no input has."""


def apply(module: ModuleType, sizes: Sizes, tensors: Mapping[str, Tensor], result: torch.dtype) -> Tensor:
    """The output of a generated module, differentiable once in every input.

    It computes in float64 if an input has it, else in float32, whatever autocast says; the output has dtype `result`, each gradient
    that of its input.
    """
    return _Attention.apply(module, sizes, result, tuple(tensors), *tensors.values())


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, module: ModuleType, sizes: Sizes, result: torch.dtype, names: tuple[str, ...], *tensors: Tensor
    ) -> Tensor:
        ctx.module, ctx.sizes, ctx.names = module, sizes, names
        given = dict(zip(names, tensors, strict=True))
        with _exact(tensors[0].device):
            output, stored = module.forward(sizes, **_computable(given, module.FORWARD))
        ctx.save_for_backward(*tensors, *stored)
        return output.to(result)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        module, saved = ctx.module, ctx.saved_tensors
        tensors = saved[: len(ctx.names)]
        known = dict(zip((*ctx.names, *module.STORED), saved, strict=True)) | {"d_o": gradient}
        with _exact(gradient.device):
            gradients = module.backward(ctx.sizes, **_computable(known, module.BACKWARD))
        return (None, None, None, None, *(g.to(x.dtype) for g, x in zip(gradients, tensors, strict=True)))


def _computable(tensors: Mapping[str, Tensor], parameters: Mapping[str, str]) -> dict[str, Tensor]:
    """The arguments of a generated function (parameter: name), in the dtype that it computes in."""
    wide = any(x.dtype == torch.float64 for x in tensors.values())
    dtype = torch.float64 if wide else torch.float32
    return {parameter: tensors[name].to(dtype) for parameter, name in parameters.items()}


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 inside."""
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(device_type=device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
