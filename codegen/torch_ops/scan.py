"""The serial scan over chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.operators import act


def scan(operators: Tensor, writes: Tensor, reverse: bool = False) -> Tensor:
    """S[0] = 0, S[n + 1] = A[n] S[n] + H[n]; reversed, P[N - 1] = 0, P[n - 1] = A[n]' P[n] + H[n]."""
    if not reverse:
        return _serial(operators, writes, range(writes.shape[2]))
    transposed = operators if operators.shape[-1] == 1 else operators.mT
    return _serial(transposed, writes, range(writes.shape[2] - 1, -1, -1))


def _serial(operators: Tensor, writes: Tensor, order: range) -> Tensor:
    shape = torch.broadcast_shapes(operators.shape[:3], writes.shape[:3])
    out = writes.new_empty(*shape, *writes.shape[3:])
    operators = operators.expand(*shape, *operators.shape[3:])
    state = torch.zeros_like(out[:, :, 0])
    for n in order:
        out[:, :, n] = state
        state = act(operators[:, :, n], state) + writes[:, :, n]
    return out
