"""What operations share that hand memories on from slot to slot: operators, weights by level, runs, ends of sequences.

The loop over slots only moves memories on. What slots read of them and write to them is done for a run of slots at
once, and the adjoints keep the memories at the start of every run and form the others again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.slots import Slots

RUN = 16
"""Slots of a run: enough work at once for a GPU, few enough for their memories to be formed together."""


def runs(count: int) -> list[slice]:
    """All slots, a run at a time."""
    return [slice(start, min(start + RUN, count)) for start in range(0, count, RUN)]


@dataclass(frozen=True)
class Steps:
    """The operators of slots: factors [.., 1 or K, 1] and, where there are rank-one steps, a and b [.., C, K].

    They act on states [.., m, K, X], m of them a slot.
    """

    factors: Tensor
    a: Tensor | None
    b: Tensor | None

    def at(self, n: int) -> Steps:
        """Those of one slot."""
        return self.taken(lambda x: x[:, :, n])

    def within(self, run: slice) -> Steps:
        """Those of a run of slots."""
        return self.taken(lambda x: x[:, :, run])

    def taken(self, take: Callable[[Tensor], Tensor]) -> Steps:
        """Those of other slots, which `take` takes."""
        return Steps(take(self.factors), *(None if x is None else take(x) for x in (self.a, self.b)))

    def act(self, states: Tensor) -> Tensor:
        """A S + a' (b S)."""
        moved = self.factors.unsqueeze(-3) * states
        if self.a is None or self.b is None:
            return moved
        return moved + self.a.unsqueeze(-3).mT @ (self.b.unsqueeze(-3) @ states)

    def pull(self, gradient: Tensor) -> Tensor:
        """The gradient of the states that the operators act on, from that of what they make."""
        pulled = self.factors.unsqueeze(-3) * gradient
        if self.a is None or self.b is None:
            return pulled
        return pulled + self.b.unsqueeze(-3).mT @ (self.a.unsqueeze(-3) @ gradient)

    def gradients(self, states: Tensor, after: Tensor) -> list[Tensor]:
        """Those of the log of the factors[, a, b], from states and the gradient of what is made of them."""
        shares = (states * after).sum((-3, -1))[..., None]
        d_factor = shares if self.factors.shape[-2] != 1 else shares.sum(-2, keepdim=True)
        found = [d_factor * self.factors]
        if self.a is not None and self.b is not None:
            found.append(((self.b.unsqueeze(-3) @ states) @ after.mT).sum(-3))
            found.append(((self.a.unsqueeze(-3) @ after) @ states.mT).sum(-3))
        return found


class Ends:
    """A memory for every sequence, [B, H, S, ...], or zeros, as a loop over slots comes by the first and last ones."""

    def __init__(self, slots: Slots, memory: Tensor | None = None) -> None:
        self.slots, self._memory = slots, memory
        self._rows = torch.arange(slots.first.shape[0], device=slots.first.device)

    @property
    def memory(self) -> Tensor:
        """What all sequences have."""
        assert self._memory is not None
        return self._memory

    def at_first(self, n: int, memory: Tensor) -> Tensor:
        """That of the sequence in a first slot, else `memory`."""
        return self._chosen(self.slots.first, n, memory) if n in self.slots.starts else memory

    def at_last(self, n: int, memory: Tensor) -> Tensor:
        """That of the sequence in a last slot, else `memory`."""
        return self._chosen(self.slots.last, n, memory) if n in self.slots.stops else memory

    def keep_first(self, n: int, memory: Tensor) -> None:
        """A first slot's memory becomes that of its sequence."""
        if n in self.slots.starts:
            self._keep(self.slots.first & self.slots.used, n, memory)

    def keep_last(self, n: int, memory: Tensor) -> None:
        """A last slot's memory becomes that of its sequence."""
        if n in self.slots.stops:
            self._keep(self.slots.last, n, memory)

    def _chosen(self, ends: Tensor, n: int, memory: Tensor) -> Tensor:
        own = 0 if self._memory is None else self._memory[self._rows, :, self.slots.sequence[:, n]]
        return torch.where(_like(ends[:, n], memory), own, memory)

    def _keep(self, ends: Tensor, n: int, memory: Tensor) -> None:
        own = self.slots.sequence[:, n]
        kept = torch.where(_like(ends[:, n], memory), memory, self.memory[self._rows, :, own])
        self.memory[self._rows, :, own] = kept


def _like(flag: Tensor, x: Tensor) -> Tensor:
    return flag.view(-1, *(1,) * (x.ndim - 1))


def shared(operands: list[Tensor]) -> torch.Size:
    """The batch and head axes of operands that broadcast."""
    return torch.broadcast_shapes(*(x.shape[:2] for x in operands))
