"""What operations share that hand memories on from slot to slot: operators, weights by level, runs of slots.

The loop over slots only moves memories on. What slots read of them and write to them is done for a run of slots at once,
and the adjoints keep the memories at the start of every run and form the others again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.slots import Slots

RUN = 16
"""Slots of a run: enough work at once for a GPU, and few enough for their memories to be formed together."""


def runs(count: int) -> list[slice]:
    """All slots, a run at a time."""
    return [slice(start, min(start + RUN, count)) for start in range(0, count, RUN)]


@dataclass(frozen=True)
class Steps:
    """The operators of slots: factors [B, H, N, 1 or K, 1] and, where there are rank-one steps, a and b [B, H, N, C, K].

    They act on states [B, H, .., K, X] of one slot.
    """

    factors: Tensor
    a: Tensor | None
    b: Tensor | None

    def act(self, n: int, states: Tensor) -> Tensor:
        """A S + a' (b S)."""
        moved = self._factor(n) * states
        if self.a is None or self.b is None:
            return moved
        return moved + self.a[:, :, n, None].mT @ (self.b[:, :, n, None] @ states)

    def pull(self, n: int, gradient: Tensor) -> Tensor:
        """The gradient of the states before a slot from that of those after it."""
        pulled = self._factor(n) * gradient
        if self.a is None or self.b is None:
            return pulled
        return pulled + self.b[:, :, n, None].mT @ (self.a[:, :, n, None] @ gradient)

    def gradients(self, run: slice, states: Tensor, after: Tensor) -> list[Tensor]:
        """Those of the log of the factors, a and b, for a run of slots.

        `states` and `after`, [B, H, n, .., K, X], are the states before the slots and the gradients after them.
        """
        factor = self.factors[:, :, run]
        shares = (states * after).sum((3, -1))[..., None]
        d_factor = shares if factor.shape[3] != 1 else shares.sum(3, keepdim=True)
        found = [d_factor * factor]
        if self.a is not None and self.b is not None:
            a, b = self.a[:, :, run, None], self.b[:, :, run, None]
            found.append(((b @ states) @ after.mT).sum(3))
            found.append(((a @ after) @ states.mT).sum(3))
        return found

    def _factor(self, n: int) -> Tensor:
        return self.factors[:, :, n, None]


def spread(rows: Tensor, weights: Tensor | None) -> Tensor:
    """[.., C, K] and weights [.., C, M] -> [.., C, M * K]: every row once for each level, weighed."""
    return rows if weights is None else (weights[..., None] * rows[..., None, :]).flatten(-2)


def unspread(gradient: Tensor, rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The gradients of the rows and of the weights in `spread`."""
    if weights is None:
        return gradient, None
    parts = gradient.unflatten(-1, (weights.shape[-1], rows.shape[-1]))
    return (weights[..., None] * parts).sum(-2), (parts * rows[..., None, :]).sum(-1)


def weigh(lam: Tensor, levels: Tensor) -> Tensor:
    """lam [B, H, n, C, L] at `levels` [B, n, C, M]: [B, H, n, C, M]."""
    return lam.gather(-1, levels[:, None].expand(-1, lam.shape[1], -1, -1, -1))


def weigh_adjoint(gradient: Tensor, levels: Tensor, count: int) -> Tensor:
    """The gradient of lam: sums by level, in an order that is fixed."""
    found = levels[:, None]
    return torch.stack([torch.where(found == each, gradient, 0).sum(-1) for each in range(count)], -1)


class Ends:
    """The memories that sequences begin and end with, [B, H, S, ...], as a loop over slots comes by."""

    def __init__(self, slots: Slots, memory: Tensor) -> None:
        self.slots, self.memory = slots, memory
        self.rows = torch.arange(memory.shape[0], device=memory.device)

    def entering(self, n: int, memory: Tensor) -> Tensor:
        """That of the sequence in its first slot, else the one handed on."""
        return torch.where(self._at(self.slots.first, n, memory), self._own(n), memory)

    def leaving(self, n: int, memory: Tensor) -> Tensor:
        """That of the sequence in its last slot, else the one handed back."""
        return torch.where(self._at(self.slots.last, n, memory), self._own(n), memory)

    def keep(self, n: int, memory: Tensor) -> None:
        """The memory after the last slot of a sequence becomes that of the sequence."""
        self._set(n, torch.where(self._at(self.slots.last, n, memory), memory, self._own(n)))

    def keep_back(self, n: int, memory: Tensor) -> None:
        """The gradient before the first slot of a sequence becomes that of the sequence."""
        first = self.slots.first & (self.slots.end > self.slots.start)
        self._set(n, torch.where(self._at(first, n, memory), memory, self._own(n)))

    def _own(self, n: int) -> Tensor:
        return self.memory[self.rows, :, self.slots.sequence[:, n]]

    def _set(self, n: int, memory: Tensor) -> None:
        self.memory[self.rows, :, self.slots.sequence[:, n]] = memory

    @staticmethod
    def _at(ends: Tensor, n: int, like: Tensor) -> Tensor:
        return ends[:, n].view(-1, *(1,) * (like.ndim - 1))


def shared(operands: list[Tensor]) -> torch.Size:
    """The batch and head axes of operands that broadcast."""
    return torch.broadcast_shapes(*(x.shape[:2] for x in operands))
