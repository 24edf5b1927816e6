"""Pairs of positions with a decay a channel between them.

Blocks of 2, 4, 8, ... positions are split in halves, and a query of the right half meets a key of the left one at the
border between them: both exponents are sums of log decays up to that border, so none is positive and nothing cancels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.inside import diagonal_block, next_power_of_two
from maskdsl.codegen.torch_ops.operators import reduce_to


def decay_dot(q: Tensor, k: Tensor, g: Tensor, steps: int, row: int, column: int, diagonal: int) -> Tensor:
    """S[c, s] = sum over channels of q[c] k[s] exp(span of g between them), for s <= c + diagonal."""
    size, padded = q.shape[3], next_power_of_two(q.shape[3])
    shape = torch.broadcast_shapes(q.shape[:3], k.shape[:3], g.shape[:3])
    out = q.new_zeros(*shape, padded, padded)
    q_grown, k_grown = _grown(q, padded), _grown(k, padded)
    for half, before, after in _anchored(g, steps, row, column):
        q_part, k_part = _halves(q_grown, half, 1), _halves(k_grown, half, 0)
        scores = (q_part * _halves(before, half, 1).exp()) @ (k_part * _halves(after, half, 0).exp()).mT
        diagonal_block(out, half, 1, 0).copy_(scores)
    if diagonal == 0:
        own = _own(g, steps, row, column)
        out.diagonal(dim1=-2, dim2=-1)[..., :size] = (q * k * own.exp()).sum(-1)
    return out[..., :size, :size]


def decay_dot_adjoint(
    ds: Tensor, q: Tensor, k: Tensor, g: Tensor, steps: int, row: int, column: int, diagonal: int
) -> tuple[Tensor, Tensor, Tensor]:
    """dS -> dq, dk, dg. The gradient of a decay is a sum over the pairs it lies between, never a difference."""
    size, padded = q.shape[3], next_power_of_two(q.shape[3])
    shape = torch.broadcast_shapes(q.shape[:3], k.shape[:3], g.shape[:3])
    q_grown, k_grown = _grown(q, padded), _grown(k, padded)
    dq, dk = (q.new_zeros(*shape, padded, q.shape[4]) for _ in range(2))
    dg = q.new_zeros(*shape, padded * steps, q.shape[4])
    ds_grown = torch.nn.functional.pad(ds, (0, padded - size, 0, padded - size))
    for half, before, after in _anchored(g, steps, row, column):
        block = diagonal_block(ds_grown, half, 1, 0)
        decay_q, decay_k = _halves(before, half, 1).exp(), _halves(after, half, 0).exp()
        q_part, k_part = _halves(q_grown, half, 1) * decay_q, _halves(k_grown, half, 0) * decay_k
        dq_part, dk_part = block @ k_part, block.mT @ q_part
        _halves(dq, half, 1).add_(dq_part * decay_q)
        _halves(dk, half, 0).add_(dk_part * decay_k)
        # a decay before point (c, row) of the right half scales every query from c on; likewise keys on the left
        _halves(dg, half * steps, 1).add_(_spread(dq_part * q_part, steps, row, reverse=True))
        _halves(dg, half * steps, 0).add_(_spread(dk_part * k_part, steps, column, reverse=False))
    dq, dk, dg = dq[:, :, :, :size], dk[:, :, :, :size], dg[:, :, :, : size * steps]
    if diagonal == 0:
        own = _own(g, steps, row, column).exp() * ds.diagonal(dim1=-2, dim2=-1)[..., None]
        dq += own * k
        dk += own * q
        for step in range(column, row):
            dg[:, :, :, step::steps] += own * q * k
    return reduce_to(dq, q), reduce_to(dk, k), reduce_to(dg, g)


def _anchored(g: Tensor, steps: int, row: int, column: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For half = 1, 2, 4, ...: sums of g from the start of a position's block of `half` to its point `row`, and from
    its point `column` to the end of that block; both [.., C', K], C' the next power of two."""
    padded = next_power_of_two(g.shape[3] // steps)
    parts = _grown(g, padded * steps).unflatten(3, (padded, steps))
    before, after = parts[:, :, :, :, :row].sum(4), parts[:, :, :, :, column:].sum(4)
    total = parts.sum(4)
    half = 1
    while half < padded:
        yield half, before, after
        pairs = total.unflatten(3, (-1, 2))
        before, after = before.clone(), after.clone()
        _halves(before, half, 1).add_(pairs[:, :, :, :, 0, None])
        _halves(after, half, 0).add_(pairs[:, :, :, :, 1, None])
        total = pairs.sum(4)
        half *= 2


def _halves(x: Tensor, half: int, side: int) -> Tensor:
    """The left (0) or right (1) half of every block of 2 half positions: a view [.., M, half, K]."""
    return x.unflatten(3, (-1, 2, half))[:, :, :, :, side]


def _grown(x: Tensor, length: int) -> Tensor:
    """x with zero positions appended up to `length`."""
    return torch.nn.functional.pad(x, (0, 0, 0, length - x.shape[3]))


def _own(g: Tensor, steps: int, row: int, column: int) -> Tensor:
    """The decays of a position between its own points `column` and `row`."""
    return g.unflatten(3, (-1, steps))[:, :, :, :, column:row].sum(4)


def _spread(x: Tensor, steps: int, point: int, reverse: bool) -> Tensor:
    """[.., half, K] given at point `point` of each position -> what each decay of the block gathers.

    `reverse`: a decay gathers the positions whose point lies after it; otherwise those whose point lies before it.
    """
    sums = x.flip(-2).cumsum(-2).flip(-2) if reverse else x.cumsum(-2)
    inside = (
        torch.nn.functional.pad(sums[..., 1:, :], (0, 0, 0, 1))
        if reverse
        else torch.nn.functional.pad(sums[..., :-1, :], (0, 0, 1, 0))
    )
    # decays of a position up to its point go with it, the others with its neighbours
    steps_of = [sums if (step < point) == reverse else inside for step in range(steps)]
    return torch.stack(steps_of, -2).flatten(-3, -2)
