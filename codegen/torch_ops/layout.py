"""Between token level, [B, T, h, ..], and chunk level, [B, h, N, C, ..]."""

from __future__ import annotations

import torch
from torch import Tensor


def chunk(x: Tensor, size: int) -> Tensor:
    """[B, T, h(, X)] -> [B, h, N, C(, X)], the last chunk padded with zeros."""
    batch, length, heads, *rest = x.shape
    count = -(-length // size)
    out = x.new_empty(batch, heads, count * size, *rest)
    out[:, :, :length] = x.transpose(1, 2)
    out[:, :, length:] = 0
    return out.unflatten(2, (count, size))


def unchunk(x: Tensor, length: int) -> Tensor:
    """[B, h, N, C(, X)] -> [B, T, h(, X)]."""
    return x.flatten(2, 3)[:, :, :length].transpose(1, 2)


def shift(x: Tensor, by: int) -> Tensor:
    """result[n] = x[n - by], zero where there is no such chunk."""
    out = torch.zeros_like(x)
    count = x.shape[2]
    if by >= 0:
        out[:, :, by:] = x[:, :, : max(count - by, 0)]
    else:
        out[:, :, : max(count + by, 0)] = x[:, :, -by:]
    return out


def place(x: Tensor, offset: int, stride: int, dim: int) -> Tensor:
    """result[c * stride + offset] = x[c] along `dim`, zero elsewhere."""
    out = x.new_zeros([n * stride if i == dim else n for i, n in enumerate(x.shape)])
    out[(slice(None),) * dim + (slice(offset, None, stride),)] = x
    return out
