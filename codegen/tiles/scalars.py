"""Scalar functions, entry by entry, that take fewer instructions here than those of the language."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exp(x: tl.tensor) -> tl.tensor:
    """exp(x), by one instruction: what is denormal becomes 0."""
    return tl.exp2(1.4426950408889634 * x)


@triton.jit
def narrow_exp(x: tl.tensor) -> tl.tensor:
    """exp(x) in float32 of x in float64: of what float32 keeps of the logarithm to base 2, times that of the rest."""
    log = 1.4426950408889634 * x
    high = log.to(tl.float32)
    return tl.exp2(high) * tl.exp2((log - high).to(tl.float32))


@triton.jit
def softplus(x: tl.tensor) -> tl.tensor:
    """log(1 + exp(x)), to the precision of float32 relative to the result, however small.

    It is max(x, 0) + log(1 + p), p = exp(-|x|) in [0, 1]; a polynomial at Chebyshev points stands for log(1 + p) / p.
    """
    p = exp(-tl.abs(x))
    y = 0.019542527351771553 - 0.0031760570331529664 * p
    y = y * p - 0.05637361305353428
    y = y * p + 0.10543623824392358
    y = y * p - 0.1526966709602667
    y = y * p + 0.19663274266717698
    y = y * p - 0.24951616265242238
    y = y * p + 0.333297104992198
    y = y * p - 0.49999892648078537
    y = y * p + 0.9999999946562932
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) + p * y
