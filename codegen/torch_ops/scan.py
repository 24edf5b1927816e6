"""The serial scan over chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.operators import act, factors


def scan(
    operators: Tensor,
    writes: Tensor,
    a: Tensor | None = None,
    b: Tensor | None = None,
    reverse: bool = False,
    matrix: bool = False,
) -> Tensor:
    """S[0] = 0, S[n + 1] = A[n] S[n] + a[n]' (b[n] S[n]) + H[n].

    Reversed, P[N - 1] = 0, P[n - 1] = A[n]' P[n] + b[n]' (a[n] P[n]) + H[n].
    """
    steps = factors(operators, matrix)
    rank_one = [] if a is None or b is None else [b, a] if reverse else [a, b]
    if not reverse:
        return _serial([steps, *rank_one], writes, range(writes.shape[2]))
    return _serial([steps.mT if matrix else steps, *rank_one], writes, range(writes.shape[2] - 1, -1, -1))


def _serial(operators: list[Tensor], writes: Tensor, order: range) -> Tensor:
    shape = torch.broadcast_shapes(*(x.shape[:3] for x in (*operators, writes)))
    out = writes.new_empty(*shape, *writes.shape[3:])
    steps, *rank_one = (x.expand(*shape, *x.shape[3:]) for x in operators)
    state = torch.zeros_like(out[:, :, 0])
    for n in order:
        out[:, :, n] = state
        after = act(steps[:, :, n], state) + writes[:, :, n]
        if rank_one:
            a, b = (x[:, :, n] for x in rank_one)
            after = after + a.mT @ (b @ state)
        state = after
    return out
