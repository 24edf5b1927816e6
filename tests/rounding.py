"""Triton's interpreter, told how a GPU rounds: to nearest where a number is stored in bfloat16, and before products.

As it is, it cuts numbers off and multiplies the bits of bfloat16 as if they were integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime import interpreter

Array = NDArray[Any]


def round_as_a_gpu() -> None:
    """Patch the interpreter of this process."""
    convert, builder = interpreter._convert_float, interpreter.InterpreterBuilder

    def rounded(data: Array, source: tl.dtype, target: tl.dtype, mode: Any) -> Array:
        if source == tl.float32 and target == tl.bfloat16:
            return torch.from_numpy(data.astype(np.float32)).bfloat16().view(torch.int16).numpy().view(np.uint16)
        result: Array = convert(data, source, target, mode)
        return result

    def dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        x, y = (_widened(each, cut=input_precision.name == "TF32") for each in (a, b))
        return interpreter.TensorHandle(np.matmul(x, y) + d.data, d.dtype.scalar)

    exact, cast = builder.binary_op, builder.cast_impl

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if target.scalar == tl.bfloat16 and source.dtype.scalar not in (tl.float32, tl.bfloat16):
            source = cast(self, source, tl.float32)
        return cast(self, source, target)

    def binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
        if lhs.dtype.scalar != tl.bfloat16 or rhs.dtype.scalar != tl.bfloat16:
            return exact(self, lhs, rhs, op)
        result = op(_widened(lhs, cut=False), _widened(rhs, cut=False))
        return interpreter.TensorHandle(rounded(result, tl.float32, tl.bfloat16, None), tl.bfloat16)

    builder.binary_op, builder.cast_impl = binary_op, cast_impl
    interpreter._convert_float = rounded
    builder.create_dot = dot


def _widened(handle: Any, cut: bool) -> Array:
    """A tile in float32, `cut` to the 10 bits that TF32 has after the first."""
    if handle.dtype.scalar == tl.bfloat16:
        widened: Array = (handle.data.astype(np.uint32) << 16).view(np.float32)
        return widened
    data: Array = handle.data.astype(np.float32)
    if cut and handle.dtype.scalar == tl.float32:
        data = (data.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    return data
