"""Matrix products of tiles."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dot(x: tl.tensor, y: tl.tensor, OPERAND: tl.constexpr, PRECISION: tl.constexpr) -> tl.tensor:
    """x @ y in float32, [M, R] and [R, N] -> [M, N]."""
    return tl.dot(x.to(OPERAND), y.to(OPERAND), input_precision=PRECISION)
