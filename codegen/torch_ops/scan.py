"""The serial scan over chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.operators import act, factors


def scan(operators: Tensor, writes: Tensor, reverse: bool = False, matrix: bool = False) -> Tensor:
    """S[0] = 0, S[n + 1] = A[n] S[n] + H[n]; reversed, P[N - 1] = 0, P[n - 1] = A[n]' P[n] + H[n]."""
    steps = factors(operators, matrix)
    if not reverse:
        return _serial(steps, writes, range(writes.shape[2]))
    return _serial(steps.mT if matrix else steps, writes, range(writes.shape[2] - 1, -1, -1))


def _serial(steps: Tensor, writes: Tensor, order: range) -> Tensor:
    shape = torch.broadcast_shapes(steps.shape[:3], writes.shape[:3])
    out = writes.new_empty(*shape, *writes.shape[3:])
    steps = steps.expand(*shape, *steps.shape[3:])
    state = torch.zeros_like(out[:, :, 0])
    for n in order:
        out[:, :, n] = state
        state = act(steps[:, :, n], state) + writes[:, :, n]
    return out
