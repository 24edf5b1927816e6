"""The serial scans over chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.operators import act, factors


def scan(operators: Tensor, writes: Tensor, reverse: bool = False, matrix: bool = False) -> Tensor:
    """S[0] = 0, S[n + 1] = A[n] S[n] + H[n]; reversed, P[N - 1] = 0, P[n - 1] = A[n]' P[n] + H[n]."""
    steps = factors(operators, matrix)
    shape = torch.broadcast_shapes(steps.shape[:3], writes.shape[:3])
    out = writes.new_empty(*shape, *writes.shape[3:])
    steps = (steps.mT if matrix and reverse else steps).expand(*shape, *steps.shape[3:])
    state = torch.zeros_like(out[:, :, 0])
    for n in _order(shape[2], reverse):
        out[:, :, n] = state
        state = act(steps[:, :, n], state) + writes[:, :, n]
    return out


def solved_scan(
    operators: Tensor,
    a: Tensor,
    b: Tensor,
    v: Tensor,
    inverse: Tensor,
    writes: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """W[n] = X[n] (u[n] + b[n] S[n]), S[n + 1] = A[n] S[n] + a[n]' W[n] + H[n]: S and W.

    Reversed, from the end, with a and b exchanged and X transposed.
    """
    if reverse:
        a, b, inverse = b, a, inverse.mT
    given = [factors(operators, matrix=False), a, b, inverse, v, *([] if writes is None else [writes])]
    shape = torch.broadcast_shapes(*(x.shape[:3] for x in given))
    steps, a, b, inverse, v, *rest = (x.expand(*shape, *x.shape[3:]) for x in given)
    states = v.new_empty(*shape, a.shape[-1], v.shape[-1])
    answers = v.new_empty(*shape, *v.shape[3:])
    state = torch.zeros_like(states[:, :, 0])
    for n in _order(shape[2], reverse):
        states[:, :, n] = state
        answers[:, :, n] = inverse[:, :, n] @ (v[:, :, n] + b[:, :, n] @ state)
        state = steps[:, :, n] * state + a[:, :, n].mT @ answers[:, :, n]
        for each in rest:
            state += each[:, :, n]
    return states, answers


def _order(count: int, reverse: bool) -> range:
    return range(count - 1, -1, -1) if reverse else range(count)
