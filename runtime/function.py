"""Generated programs behind `torch.autograd.Function`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from maskdsl.chunk.axes import extent, ratio
from maskdsl.chunk.ops import Axes
from maskdsl.codegen.torch_ops.slots import Layout
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
    (output,) = _apply(module, sizes, None, tensors, result)
    return output


def apply_laid_out(
    module: ModuleType, sizes: Sizes, layout: Layout, tensors: Mapping[str, Tensor], result: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    """`apply` for a module that is laid out: the output, and the buffers after every sequence by name.

    `tensors` are inputs and the buffers before every sequence, [B, H, S, ...]; the buffers that come out have the dtype
    of the computation. All are differentiable.
    """
    output, *final = _apply(module, sizes, layout, tensors, result)
    return output, dict(zip(list(module.OUTPUTS)[1:], final, strict=True))


def differentiated(given: Iterable[object]) -> bool:
    """Whether gradients may be asked for of a call with these arguments."""
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in given)


def _apply(
    module: ModuleType, sizes: Sizes, layout: Layout | None, tensors: Mapping[str, Tensor], result: torch.dtype
) -> tuple[Tensor, ...]:
    outputs: tuple[Tensor, ...] = _Attention.apply(
        module, sizes, layout, result, differentiated(tensors.values()), tuple(tensors), *tensors.values()
    )
    return outputs


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        module: ModuleType,
        sizes: Sizes,
        layout: Layout | None,
        result: torch.dtype,
        keeps: bool,
        names: tuple[str, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        given = dict(zip(names, tensors, strict=True))
        call = _Call(module, sizes, layout, given)
        outputs = call.empty(result, tensors[0].device)
        kept: list[Tensor] = []
        with exact(tensors[0].device):
            for block in call.blocks():
                part, others = module.forward(*call.shape_of(block), **call.arguments(block, module.FORWARD, given))
                for whole, axes, made in zip(outputs, call.outputs.values(), (part, *others), strict=False):
                    block.of(whole, axes).copy_(made)
                if keeps:
                    kept += others[len(outputs) - 1 :]
        ctx.call, ctx.names = (module, sizes, layout), names
        ctx.save_for_backward(*tensors, *kept)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients_out: Tensor) -> tuple[Tensor | None, ...]:
        (module, sizes, layout), count = ctx.call, len(ctx.names)
        saved = ctx.saved_tensors  # once only: checkpointing unpacks each tensor a single time
        given, kept = dict(zip(ctx.names, saved, strict=False)), saved[count:]
        call = _Call(module, sizes, layout, given)
        known = given | dict(zip(call.gradients, gradients_out, strict=True))
        gradients = [torch.zeros_like(x, dtype=call.dtype) for x in given.values()]
        with exact(gradients_out[0].device):
            for number, block in enumerate(call.blocks()):
                first = number * len(module.STORED)
                stored = dict(zip(module.STORED, kept[first : first + len(module.STORED)], strict=True))
                arguments = call.arguments(block, module.BACKWARD, known, stored)
                parts = module.backward(*call.shape_of(block), **arguments)
                for name, whole, part in zip(ctx.names, gradients, parts, strict=True):
                    # parameters have no batch axis: their gradients add up over the batch rows
                    block.of(whole, module.AXES[name]).add_(part)
        return (*(None,) * 6, *(g.to(x.dtype) for g, x in zip(gradients, given.values(), strict=True)))


class _Call:
    """One call of a generated module: how it is divided, and in what precision it computes."""

    def __init__(self, module: ModuleType, sizes: Sizes, layout: Layout | None, tensors: Mapping[str, Tensor]) -> None:
        self.outputs: Mapping[str, Axes] = {"o": OUTPUT} if layout is None else module.OUTPUTS
        self.gradients: tuple[str, ...] = (module.GRADIENT,) if layout is None else module.GRADIENTS
        self.axes = {**module.AXES, **dict(zip(self.gradients, self.outputs.values(), strict=True))}
        self.sizes, self.layout = sizes, layout
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

    def empty(self, result: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """The outputs, to be filled: the first in the dtype asked for, the others in that of the computation."""
        extents = dict(zip("BTHKVL", self.sizes, strict=True))
        if self.layout is not None:
            extents["S"] = self.layout.positions.shape[1]
        shapes = [[extent(axis, extents) for axis in axes] for axes in self.outputs.values()]
        dtypes = [result, *[self.dtype] * (len(shapes) - 1)]
        return tuple(torch.empty(x, dtype=dtype, device=device) for x, dtype in zip(shapes, dtypes, strict=True))

    def shape_of(self, block: Block) -> tuple[Sizes] | tuple[Sizes, Layout]:
        """The sizes of a block, and how it is laid out."""
        _, length, _, key, value, levels = self.sizes
        rows, heads = block.batch.stop - block.batch.start, block.heads.stop - block.heads.start
        sizes = rows, length, heads, key, value, levels
        return (sizes,) if self.layout is None else (sizes, self.layout.of(block.batch))

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
