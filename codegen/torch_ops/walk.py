"""The walk over a hierarchy: what every chunk reads of the blocks before it.

Queries are pulled back over each block that they have read. Where operators are numbers that is a factor on the weight
of a row, and the queries themselves stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.operators import factors, factors_adjoint, pull, pull_adjoint, pull_outer, reduce_to
from maskdsl.codegen.torch_ops.reads import Read, reads
from maskdsl.mask.levels import Admissibility


def walk(
    r: Tensor, ea: Tensor, eh: Tensor, lam: Tensor, base: int, admissibility: Admissibility, matrix: bool = False
) -> Tensor:
    """o += lam[level] * (R @ H), then R = R @ A, for every block that a chunk reads, nearest first."""
    shape = torch.broadcast_shapes(r.shape[:2], eh.shape[:2], lam.shape[:2])
    out = r.new_zeros(*shape, *r.shape[2:4], eh.shape[-1])
    steps = factors(ea, matrix)
    numbers = _are_numbers(steps)
    factor = r.new_ones(*shape, *r.shape[2:4])
    queries = r.expand(*shape, *r.shape[2:]) if numbers else r.expand(*shape, *r.shape[2:]).clone()
    for read in reads(*r.shape[2:4], base, admissibility):
        rows, a, h = read.rows(queries), read.nodes(steps), read.nodes(eh)
        weight = read.rows(lam[..., read.weight])
        if numbers:
            weight = weight * read.rows(factor)
            read.rows(factor).mul_(a[..., 0])
        read.rows(out).addcmul_(weight[..., None], rows @ h)
        if not numbers:
            rows.copy_(pull(rows, a))
    return out


def walk_adjoint(
    do: Tensor,
    r: Tensor,
    ea: Tensor,
    eh: Tensor,
    lam: Tensor,
    base: int,
    admissibility: Admissibility,
    matrix: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """do -> dR, dEA, dEH, dlam; what was pulled back is formed again."""
    steps = factors(ea, matrix)
    adjoint = _numbers_adjoint if _are_numbers(steps) else _vectors_adjoint
    shape = torch.broadcast_shapes(r.shape[:2], eh.shape[:2], lam.shape[:2])
    dr, d_steps, deh, dlam = adjoint(
        do, r.expand(*shape, *r.shape[2:]), steps, eh, lam, reads(*r.shape[2:4], base, admissibility)
    )
    return reduce_to(dr, r), factors_adjoint(d_steps, steps, matrix), deh, dlam


def _are_numbers(steps: Tensor) -> bool:
    return steps.shape[-2] == steps.shape[-1] == 1


def _numbers_adjoint(
    do: Tensor, r: Tensor, steps: Tensor, eh: Tensor, lam: Tensor, all_reads: tuple[Read, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    factor = r.new_ones(r.shape[:4])
    entering = []
    for read in all_reads:
        rows = read.rows(factor)
        entering.append(rows.clone())
        rows.mul_(read.nodes(steps)[..., 0])
    dr, d_factor = r.new_zeros(r.shape), torch.zeros_like(factor)
    d_steps, deh, dlam = torch.zeros_like(steps), torch.zeros_like(eh), torch.zeros_like(lam)
    for read, before in zip(reversed(all_reads), reversed(entering), strict=True):
        queries, d_out, a, h = read.rows(r), read.rows(do), read.nodes(steps), read.nodes(eh)
        weight = read.rows(lam[..., read.weight])
        d_queries = d_out @ h.mT
        products = (d_queries * queries).sum(-1)
        d_after = read.rows(d_factor)
        d_weight = read.rows(dlam[..., read.weight])
        d_weight.add_(reduce_to(products * before, d_weight))
        d_a = (before * d_after).sum(-1)[..., None, None]
        read.nodes(d_steps).add_(reduce_to(d_a, a))
        d_after.copy_(d_after * a[..., 0] + weight * products)
        scaled = (weight * before)[..., None]
        read.rows(dr).addcmul_(scaled, d_queries)
        read.nodes(deh).add_(reduce_to((scaled * queries).mT @ d_out, h))
    return dr, d_steps, deh, dlam


def _vectors_adjoint(
    do: Tensor, r: Tensor, steps: Tensor, eh: Tensor, lam: Tensor, all_reads: tuple[Read, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    current = r.clone()
    pulled = []
    for read in all_reads:
        rows = read.rows(current)
        pulled.append(rows.clone())
        rows.copy_(pull(rows, read.nodes(steps)))
    dr = r.new_zeros(r.shape)
    d_steps, deh, dlam = torch.zeros_like(steps), torch.zeros_like(eh), torch.zeros_like(lam)
    for read, queries in zip(reversed(all_reads), reversed(pulled), strict=True):
        d_out, a, h = read.rows(do), read.nodes(steps), read.nodes(eh)
        weight = read.rows(lam[..., read.weight])[..., None]
        d_queries = d_out @ h.mT
        d_weight = read.rows(dlam[..., read.weight])
        d_weight.add_(reduce_to((d_queries * queries).sum(-1), d_weight))
        d_after = read.rows(dr)
        read.nodes(d_steps).add_(reduce_to(pull_outer(queries, d_after, a), a))
        read.nodes(deh).add_(reduce_to((weight * queries).mT @ d_out, h))
        d_after.copy_(pull_adjoint(d_after, a).addcmul_(weight, d_queries))
    return dr, d_steps, deh, dlam
