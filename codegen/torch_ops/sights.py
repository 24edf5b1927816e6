"""Levels as slots see them: what they read of the states handed to them, and where what they hand on goes.

Under weak admissibility what lies before a chunk is farther from all of it than its own positions are from each other,
so in the middle of a sequence only levels above those inside a chunk are in use, each of them read as itself.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.positions import carry, level
from maskdsl.codegen.torch_ops.slots import Slots
from maskdsl.mask import levels as scalar
from maskdsl.mask.levels import Admissibility


class Sights:
    """M = `levels` - 1 levels from 1 on, and M' of them, those beyond `inside`, in the middle of a sequence.

    Tables of ones and zeros, [.., to, from], say which states join into which. A state or key that comes to a level
    beyond the last is in none of them.
    """

    def __init__(self, slots: Slots, levels: int, base: int, admissibility: Admissibility, dtype: torch.dtype) -> None:
        self.slots, self.levels, self.dtype = slots, levels, dtype
        self.base, self.admissibility = base, admissibility
        self.weak = admissibility == "weak"
        self.inside = min(scalar.level(slots.size - 1, 0, base), levels - 1) if self.weak else 0
        self.own = torch.arange(1, levels, device=slots.start.device)

    # -- in the middle of a sequence ------------------------------------------------------------------------------

    def read(self, lam: Tensor, run: slice) -> Tensor:
        """The weights of a run's reads, [B, H, n, C, M'], of lam [B, H, N, C, L]."""
        if self.weak:
            return lam[:, :, run, :, 1 + self.inside :]
        return weigh(lam[:, :, run], self._read[:, run])

    def read_adjoint(self, gradient: Tensor, run: slice) -> Tensor:
        """The gradient of a run's lam."""
        if self.weak:
            return torch.nn.functional.pad(gradient, (1 + self.inside, 0))
        return weigh_adjoint(gradient, self._read[:, run], self.levels)

    @cached_property
    def _read(self) -> Tensor:
        return self._carried(self.slots.positions, self.slots.origin[..., None], self.levels)

    @cached_property
    def merging(self) -> Tensor:
        """At the end of a slot, [B, N, M', M']."""
        found = self._carried(self.slots.end, self.slots.origin)[..., self.inside :]
        return self._table(found)[..., self.inside :, :]

    @cached_property
    def written(self) -> Tensor:
        """The level of a slot's keys from its end: [B, N, M'], or [B, N, C, M'] where they differ."""
        weak = self.weak
        end, keys = (self.slots.end, self.slots.origin) if weak else (self.slots.end[..., None], self.slots.positions)
        return self._at_level(end, keys)[..., self.inside :]

    # -- at the ends of sequences ---------------------------------------------------------------------------------

    def read_first(self, lam: Tensor) -> Tensor:
        """The weights of what first slots read of initial states, [B, H, S, C, M], of their lam [B, H, S, C, L]."""
        return weigh(lam, self._read_first)

    def read_first_adjoint(self, gradient: Tensor) -> Tensor:
        """The gradient of that lam."""
        return weigh_adjoint(gradient, self._read_first, self.levels)

    @cached_property
    def _read_first(self) -> Tensor:
        first = self.slots.at_first(self.slots.positions[:, None])[:, 0]
        return self._carried(first, self.slots.layout.positions[..., None], self.levels)

    @cached_property
    def joining(self) -> Tensor:
        """After the first slot, where it is not the last: [B, S, M', M]."""
        positions = self.slots.layout.positions
        end = (positions // self.slots.size + 1) * self.slots.size
        return self._table(self._carried(end, positions))[..., self.inside :, :]

    @cached_property
    def ending(self) -> Tensor:
        """After the last slot, where it is not the first: [B, S, M, M']."""
        found = self._carried(self.slots.layout.after, self.slots.at_last(self.slots.origin[:, None])[:, 0])
        return self._table(found[..., self.inside :])

    @cached_property
    def ending_alone(self) -> Tensor:
        """After a slot that is the first and the last, [B, S, M, M]; zeros for others."""
        table = self._table(self._carried(self.slots.layout.after, self.slots.layout.positions))
        return table * self.slots.alone[..., None, None]

    @cached_property
    def written_last(self) -> Tensor:
        """The level of the last slot's keys from its end, [B, S, C, M]."""
        keys = self.slots.at_last(self.slots.positions[:, None])[:, 0]
        return self._at_level(self.slots.layout.after[..., None], keys)

    def _carried(self, t: Tensor, pos: Tensor, levels: int | None = None) -> Tensor:
        """The levels that those from 1 to M come to, below `levels`; by default up to one that no state has."""
        found = carry(t, pos, levels or self.levels + 1, self.base, self.admissibility)
        return found[..., : self.levels - 1]

    def _table(self, found: Tensor) -> Tensor:
        return (found[..., None, :] == self.own[:, None]).to(self.dtype)

    def _at_level(self, t: Tensor, s: Tensor) -> Tensor:
        found = level(t, s, self.levels + 1, self.base, self.admissibility)
        return (found[..., None] == self.own).to(self.dtype)


def spread(rows: Tensor, weights: Tensor | None) -> Tensor:
    """[.., C, K] and weights [.., C, M] -> [.., C, M * K]: every row once for each level, weighed."""
    return rows if weights is None else (weights[..., None] * rows[..., None, :]).flatten(-2)


def spread_adjoint(gradient: Tensor, rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The gradients of the rows and of the weights."""
    if weights is None:
        return gradient, None
    parts = gradient.unflatten(-1, (weights.shape[-1], rows.shape[-1]))
    return (weights[..., None, :] @ parts).squeeze(-2), (parts @ rows[..., None]).squeeze(-1)


def join(table: Tensor | None, states: Tensor) -> Tensor:
    """States [B, H, .., M, K, V] joined by a table [B, .., M', M]: [B, H, .., M', K, V]."""
    if table is None:
        return states
    return (table[:, None] @ states.flatten(-2)).unflatten(-1, states.shape[-2:])


def weigh(lam: Tensor, levels: Tensor) -> Tensor:
    """lam [B, H, n, C, L] at `levels` [B, n, C, M]."""
    return lam.gather(-1, levels[:, None].expand(-1, lam.shape[1], -1, -1, -1))


def weigh_adjoint(gradient: Tensor, levels: Tensor, count: int) -> Tensor:
    """Sums by level, in an order that is fixed."""
    found = levels[:, None]
    return torch.stack([torch.where(found == each, gradient, 0).sum(-1) for each in range(count)], -1)
