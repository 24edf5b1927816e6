"""Parts of a [C, C] tile of pairs of positions."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(16)
"""The rows of blocks whose pairs are worked on side by side: the least that a matrix product takes."""


@triton.jit
def apart(s: tl.tensor) -> tl.tensor:
    """A tile as blocks of rows and of columns, [C / BLOCK, BLOCK, C / BLOCK, BLOCK]."""
    COUNT: tl.constexpr = s.shape[0] // BLOCK
    return tl.reshape(s, (COUNT, BLOCK, COUNT, BLOCK))


@triton.jit
def tril(s: tl.tensor, DIAGONAL: tl.constexpr) -> tl.tensor:
    """Keep s[c, s] where s <= c + DIAGONAL, zero elsewhere."""
    rows, columns = tl.arange(0, s.shape[0])[:, None], tl.arange(0, s.shape[1])[None, :]
    return tl.where(columns <= rows + DIAGONAL, s, 0.0)


@triton.jit
def meet(row: tl.tensor, column: tl.tensor, half: tl.constexpr) -> tl.tensor:
    """Whether a row is in the right half of a block of 2 * half, and a column in its left half."""
    return ((row ^ column) & -half == half) & (row > column)


@triton.jit
def near(s: tl.tensor, width: tl.tensor) -> tl.tensor:
    """Keep s[c, s] where c - s < width, zero elsewhere."""
    rows, columns = tl.arange(0, s.shape[0])[:, None], tl.arange(0, s.shape[1])[None, :]
    return tl.where(rows < columns + width, s, 0.0)
