"""Where the tokens of sequences stand in slots, worked out on the device: lengths and positions are never read back."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from maskdsl.chunk import axes as ax


class Layout:
    """The sequences of every batch row: tokens bounds[b, s] to bounds[b, s + 1] - 1, from positions[b, s] on.

    `bounds` [B, S + 1] begin with 0, `positions` are [B, S], both int64; rows have `length` tokens. A layout is made
    for a call and remembers what its programs ask for.
    """

    def __init__(self, bounds: Tensor, positions: Tensor, length: int) -> None:
        self.bounds, self.positions, self.length = bounds, positions, length
        self._slots: dict[int, Slots] = {}
        self._parts: dict[tuple[int, int], Layout] = {}

    def slots(self, size: int) -> Slots:
        """The slots for chunks of `size` positions."""
        if size not in self._slots:
            self._slots[size] = Slots(self, size)
        return self._slots[size]

    def of(self, batch: slice) -> Layout:
        """The layout of some batch rows."""
        key = batch.start, batch.stop
        if key not in self._parts:
            self._parts[key] = Layout(self.bounds[batch], self.positions[batch], self.length)
        return self._parts[key]

    @cached_property
    def after(self) -> Tensor:
        """The position after the last token of each sequence, [B, S]."""
        return self.positions + self.bounds.diff(dim=1)

    @cached_property
    def sequence(self) -> Tensor:
        """The sequence of every token, [B, T]; S for those of none."""
        tokens = torch.arange(self.length, device=self.bounds.device).expand(self.bounds.shape[0], -1)
        return torch.searchsorted(self.bounds[:, 1:].contiguous(), tokens.contiguous(), right=True)

    @cached_property
    def used(self) -> Tensor:
        """Whether a token belongs to a sequence, [B, T]."""
        return self.sequence < self.positions.shape[1]


class Slots:
    """The slots of a layout, [B, N] each: `sequence`, the position `origin` of row 0, the tokens' from `start` to `end`.

    `first` and `last` tell the ends of a sequence. A slot without tokens is a first one, of any sequence.
    """

    def __init__(self, layout: Layout, size: int) -> None:
        self.size, self.layout = size, layout
        length, sequences = layout.length, layout.positions.shape[1]
        self.count = ax.slot_count(length, sequences, size)
        self._chunk = layout.positions // size
        whole = (layout.after + size - 1) // size - self._chunk
        counts = torch.where(layout.after > layout.positions, whole, 0)
        ends = counts.cumsum(1)
        self._begin = ends - counts
        place = torch.arange(self.count, device=ends.device).repeat(ends.shape[0], 1)
        found = torch.searchsorted(ends, place, right=True)
        self.sequence = found.clamp(max=sequences - 1)
        used = found < sequences
        number = place - self._begin.gather(1, self.sequence)
        self.first = ~used | (number == 0)
        self.last = used & (number == counts.gather(1, self.sequence) - 1)
        self.origin = torch.where(used, (self._chunk.gather(1, self.sequence) + number) * size, 0)
        self.start = torch.where(used, torch.maximum(self.origin, self._of(layout.positions)), 0)
        self.end = torch.where(used, torch.minimum(self.origin + size, self._of(layout.after)), 0)

    def _of(self, x: Tensor) -> Tensor:
        """What the sequence of every slot has, of [B, S]."""
        return x.gather(1, self.sequence)

    @cached_property
    def positions(self) -> Tensor:
        """The position that every row of a slot stands for, [B, N, C]."""
        return self.origin[..., None] + torch.arange(self.size, device=self.origin.device)

    @cached_property
    def _tokens(self) -> tuple[Tensor, Tensor]:
        """The token in every row, [B, N * C], and whether there is one."""
        held = (self.positions >= self.start[..., None]) & (self.positions < self.end[..., None])
        token = self.positions + (self._of(self.layout.bounds[:, :-1]) - self._of(self.layout.positions))[..., None]
        return torch.where(held, token, 0).flatten(1), held.flatten(1)

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        """The row of every token, [B, T], and whether there is one."""
        layout = self.layout
        own = layout.sequence.clamp(max=layout.positions.shape[1] - 1)
        offset = (self._begin - self._chunk) * self.size + layout.positions - layout.bounds[:, :-1]
        tokens = torch.arange(layout.length, device=own.device)
        return torch.where(layout.used, offset.gather(1, own) + tokens, 0), layout.used


def lay(x: Tensor, slots: Slots) -> Tensor:
    """[B, T, h(, X)] -> [B, h, N, C(, X)], zeros where there is no token."""
    rows = _taken(x, *slots._tokens)
    return rows.transpose(1, 2).unflatten(2, (slots.count, slots.size))


def unlay(x: Tensor, slots: Slots) -> Tensor:
    """[B, h, N, C(, X)] -> [B, T, h(, X)], zeros for tokens of no sequence."""
    return _taken(x.flatten(2, 3).transpose(1, 2), *slots._rows)


def _taken(x: Tensor, index: Tensor, there: Tensor) -> Tensor:
    """x[b, index[b, i]] along axis 1, zero where nothing is there."""
    batch = torch.arange(x.shape[0], device=x.device)[:, None]
    ones = (1,) * (x.ndim - 2)
    return x[batch, index].masked_fill(~there.unflatten(1, (-1, *ones)), 0)


