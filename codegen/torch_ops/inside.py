"""Inside a chunk: running sums, spans of decays, triangular inverses, weights by level."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from maskdsl.mask.levels import Admissibility, level


def cumsum(x: Tensor, reverse: bool = False, exclusive: bool = False) -> Tensor:
    """The running sum along axis 3."""
    if exclusive:
        edge = torch.zeros_like(x[:, :, :, :1])
        x = torch.cat([x[:, :, :, 1:], edge] if reverse else [edge, x[:, :, :, :-1]], 3)
    return x.flip(3).cumsum(3).flip(3) if reverse else x.cumsum(3)


def spans(g: Tensor, steps: int, row: int, column: int) -> Tensor:
    """E[c, s] = the sum of the log decays from point (s, column) to point (c, row)."""
    after, before = _between(g.shape[3] // steps, steps, row, column, g.dtype, g.device)
    return (g[..., None, :] * before) @ after


def spans_adjoint(de: Tensor, steps: int, row: int, column: int) -> Tensor:
    """dE -> dg."""
    after, before = _between(de.shape[-1], steps, row, column, de.dtype, de.device)
    return ((de @ after.mT) * before).sum(-2)


@functools.lru_cache(maxsize=64)
def _between(
    size: int, steps: int, row: int, column: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which decays lie after point (s, column), [F, C], and before point (c, row), [C, F], as ones and zeros."""
    point = torch.arange(size, device=device) * steps
    decay = torch.arange(size * steps, device=device)
    after = decay[:, None] >= point + column
    before = decay < point[:, None] + row
    return after.to(dtype), before.to(dtype)


def inverse(system: Tensor) -> Tensor:
    """(I - L)^-1 for a strictly lower triangular L, by blocks that double: substitution, as matrix products."""
    size = system.shape[-1]
    padded = next_power_of_two(size)
    out = torch.zeros(*system.shape[:-2], padded, padded, dtype=system.dtype, device=system.device)
    out.diagonal(dim1=-2, dim2=-1).fill_(1)
    full = system if padded == size else torch.nn.functional.pad(system, (0, padded - size, 0, padded - size))
    half = 1
    while half < padded:
        upper, lower = diagonal_block(out, half, 0, 0), diagonal_block(out, half, 1, 1)
        diagonal_block(out, half, 1, 0).copy_(lower @ (diagonal_block(full, half, 1, 0) @ upper))
        half *= 2
    return out[..., :size, :size]


def next_power_of_two(size: int) -> int:
    """The smallest power of two that is not below `size` >= 1."""
    return 1 << (size - 1).bit_length()


def diagonal_block(x: Tensor, half: int, row: int, column: int) -> Tensor:
    """Of every diagonal block of 2 half by 2 half, one of its four parts: a view [.., M, half, half]."""
    parts = x.unflatten(-1, (-1, 2, half)).unflatten(-4, (-1, 2, half))
    return parts[..., :, row, :, :, column, :].diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def select(lam: Tensor, base: int, admissibility: Admissibility) -> Tensor:
    """W[c, s] = lam[c, level(c, s)] for s <= c, zero elsewhere."""
    size = lam.shape[-2]
    table = _inside(size, lam.shape[-1], base, admissibility, lam.device)
    return lam.gather(-1, table.expand(*lam.shape[:-2], size, size)).tril_()


def select_adjoint(dw: Tensor, levels: int, base: int, admissibility: Admissibility) -> Tensor:
    """dW -> dlam [.., C, L]."""
    return one_hot_sum(dw.tril(), _inside(dw.shape[-2], levels, base, admissibility, dw.device), levels)


def one_hot_sum(x: Tensor, table: Tensor, levels: int) -> Tensor:
    """[.., C, S] and levels [C, S] -> [.., C, L], the sum of each row by level.

    A product with ones and zeros: unlike scattered additions, the order of the sum is fixed.
    """
    ones = torch.nn.functional.one_hot(table, levels).to(x.dtype)
    return (x.flatten(0, 2).transpose(0, 1) @ ones).transpose(0, 1).unflatten(0, x.shape[:3])


@functools.lru_cache(maxsize=64)
def _inside(size: int, levels: int, base: int, admissibility: Admissibility, device: torch.device) -> Tensor:
    """level(c, s) inside a chunk, [C, C]; 0 above the diagonal. Levels beyond those given are those of padding."""
    rows = [[level(c, min(s, c), base, admissibility) for s in range(size)] for c in range(size)]
    return torch.tensor(rows, device=device).clamp(max=levels - 1)
