"""Generated programs behind `torch.autograd.Function`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskdsl.chunk.axes import ratio
from maskdsl.runtime.blocks import Block, blocks
from maskdsl.runtime.precision import exact

Sizes = tuple[int, int, int, int, int, int]
"""B, T, H, K, V, L; 0 for a dimension that no input has."""

OUTPUT = ("B", "T", "H", "V")


def apply(module: ModuleType, sizes: Sizes, tensors: Mapping[str, Tensor], result: torch.dtype) -> Tensor:
    """The output of a generated module, differentiable once in every input.

    It computes in float64 if an input has it, else in float32, whatever autocast says; the output has dtype `result`,
    each gradient that of its input.
    """
    differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in tensors.values())
    return _Attention.apply(module, sizes, result, differentiated, tuple(tensors), *tensors.values())


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        module: ModuleType,
        sizes: Sizes,
        result: torch.dtype,
        differentiated: bool,
        names: tuple[str, ...],
        *tensors: Tensor,
    ) -> Tensor:
        given = dict(zip(names, tensors, strict=True))
        call = _Call(module, sizes, given)
        output = torch.empty(sizes[:3] + sizes[4:5], dtype=result, device=tensors[0].device)
        kept: list[Tensor] = []
        with exact(output.device):
            for block in call.blocks():
                part, stored = module.forward(call.sizes_of(block), **call.arguments(block, module.FORWARD, given))
                block.of(output, OUTPUT).copy_(part)
                if differentiated:
                    kept += stored
        ctx.call, ctx.names = (module, sizes), names
        ctx.save_for_backward(*tensors, *kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (module, sizes), count = ctx.call, len(ctx.names)
        saved = ctx.saved_tensors  # once only: checkpointing unpacks each tensor a single time
        given, kept = dict(zip(ctx.names, saved, strict=False)), saved[count:]
        call = _Call(module, sizes, given)
        gradients = [torch.zeros_like(x, dtype=call.dtype) for x in given.values()]
        with exact(gradient.device):
            for number, block in enumerate(call.blocks()):
                first = number * len(module.STORED)
                stored = dict(zip(module.STORED, kept[first : first + len(module.STORED)], strict=True))
                arguments = call.arguments(block, module.BACKWARD, given | {module.GRADIENT: gradient}, stored)
                parts = module.backward(call.sizes_of(block), **arguments)
                for name, whole, part in zip(ctx.names, gradients, parts, strict=True):
                    # parameters have no batch axis: their gradients add up over the batch rows
                    block.of(whole, module.AXES[name]).add_(part)
        return (None, None, None, None, None, *(g.to(x.dtype) for g, x in zip(gradients, given.values(), strict=True)))


class _Call:
    """One call of a generated module: how it is divided, and in what precision it computes."""

    def __init__(self, module: ModuleType, sizes: Sizes, tensors: Mapping[str, Tensor]) -> None:
        self.axes = {**module.AXES, module.GRADIENT: OUTPUT}
        self.sizes = sizes
        wide = any(x.dtype == torch.float64 for x in tensors.values())
        self.dtype = torch.float64 if wide else torch.float32
        self.divided = module.BY_BLOCK and next(iter(tensors.values())).device.type == "cpu"

    def blocks(self) -> Iterator[Block]:
        """The blocks, in order."""
        batch, length, heads, key, value, _ = self.sizes
        if not self.divided:
            return iter([Block(slice(0, batch), slice(0, heads))])
        shared = math.lcm(*(ratio(axis) for axes in self.axes.values() for axis in axes))
        return blocks(batch, length, heads, max(key, value), shared)

    def sizes_of(self, block: Block) -> Sizes:
        """The sizes of a block."""
        _, length, _, key, value, levels = self.sizes
        rows, heads = block.batch.stop - block.batch.start, block.heads.stop - block.heads.start
        return rows, length, heads, key, value, levels

    def arguments(
        self,
        block: Block,
        parameters: Mapping[str, str],
        tensors: Mapping[str, Tensor],
        stored: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """What a generated function is called with on a block (`parameters`: parameter to name)."""
        found = dict(stored or {})
        for name in set(parameters.values()) - found.keys():
            found[name] = block.of(tensors[name], self.axes[name]).to(self.dtype)
        return {parameter: found[name] for parameter, name in parameters.items()}
