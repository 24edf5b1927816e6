"""Running sums along the positions of a tile."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def cumsum(x: tl.tensor, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr) -> tl.tensor:
    """The running sum along axis 0, [C] or [C, K], from the end if REVERSE, without the element itself if EXCLUSIVE."""
    if EXCLUSIVE:
        total = cumsum_before(x, 0, REVERSE)
    else:
        total = tl.cumsum(x, 0, reverse=REVERSE)
    return total


@triton.jit
def cumsum_before(x: tl.tensor, AXIS: tl.constexpr, REVERSE: tl.constexpr) -> tl.tensor:
    """The running sum along AXIS without the element itself."""
    total, _ = tl.associative_scan((tl.zeros_like(x), x), AXIS, _append, reverse=REVERSE)
    return total


@triton.jit
def _append(
    sum_left: tl.tensor, last_left: tl.tensor, sum_right: tl.tensor, last_right: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Join two runs, each as the sum of all elements but its last, and the last: nothing is ever taken away again."""
    return sum_left + last_left + sum_right, last_right
