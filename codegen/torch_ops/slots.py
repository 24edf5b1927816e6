"""Where the tokens of sequences stand in slots, worked out on the device: lengths and positions are never read back."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from maskdsl.chunk import axes as ax


class Layout:
    """The sequences of every batch row of `length` tokens, from positions [B, S] on, int64.

    Sequence s of row b has tokens bounds[b, s] to bounds[b, s + 1] - 1, bounds [B, S + 1] int64 beginning with 0;
    without `bounds` a row is one sequence. A layout is made for a call and remembers what its programs ask for.
    """

    def __init__(self, positions: Tensor, length: int, bounds: Tensor | None = None) -> None:
        self.positions, self.length, self.whole = positions, length, bounds is None
        self._bounds = bounds
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
            bounds = None if self.whole else self.bounds[batch]
            self._parts[key] = Layout(self.positions[batch], self.length, bounds)
        return self._parts[key]

    @cached_property
    def bounds(self) -> Tensor:
        """Where the sequences of every row begin and end."""
        if self._bounds is not None:
            return self._bounds
        ends = torch.arange(2, device=self.positions.device) * self.length
        return ends.expand(self.positions.shape[0], -1)

    @cached_property
    def after(self) -> Tensor:
        """The position after the last token of each sequence, [B, S]."""
        return self.positions + (self.length if self.whole else self.bounds.diff(dim=1))

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
    """The slots of a layout, [B, N] each: `sequence`, the position `origin` of row 0, the tokens' `start` and `end`.

    `first` and `last` tell the ends of a sequence. A slot that is not `used` is a first one, of any sequence. Only
    slots in `starts` and `stops` can be first and last ones with tokens. Sequences that are `there` have tokens; those
    that are `alone` have them all in one slot.
    """

    def __init__(self, layout: Layout, size: int) -> None:
        self.size, self.layout = size, layout
        length, sequences = layout.length, layout.positions.shape[1]
        self.count = ax.slot_count(length, sequences, size)
        self._chunk = layout.positions // size
        whole = (layout.after + size - 1) // size - self._chunk
        self.there = layout.after > layout.positions
        counts = torch.where(self.there, whole, 0)
        self.alone = counts == 1
        ends = counts.cumsum(1)
        self._begin, self._last = ends - counts, ends - 1
        self.starts = range(1 if sequences == 1 else self.count)
        self.stops = range((length - 1) // size if layout.whole else 0, self.count)
        place = torch.arange(self.count, device=ends.device).repeat(ends.shape[0], 1)
        found = torch.searchsorted(ends, place, right=True)
        self.sequence = found.clamp(max=sequences - 1)
        self.used = used = found < sequences
        number = place - self._begin.gather(1, self.sequence)
        self.first = ~used | (number == 0)
        self.last = used & (number == counts.gather(1, self.sequence) - 1)
        self.origin = torch.where(used, (self._chunk.gather(1, self.sequence) + number) * size, 0)
        self.start = torch.where(used, torch.maximum(self.origin, self._of(layout.positions)), 0)
        self.end = torch.where(used, torch.minimum(self.origin + size, self._of(layout.after)), 0)

    def at_first(self, x: Tensor) -> Tensor:
        """What first slots have, of [B, h, N, ...]: [B, h, S, ...], anything for a sequence that has none."""
        return self._at(x, self._begin)

    def at_last(self, x: Tensor) -> Tensor:
        """The same of the last slot."""
        return self._at(x, self._last)

    def in_first(self, x: Tensor) -> Tensor:
        """[B, h, S, ...] to the first slots of sequences, [B, h, N, ...], zero in all others."""
        return self._in(x, self.first & self.used)

    def in_last(self, x: Tensor) -> Tensor:
        """The same to the last slots."""
        return self._in(x, self.last)

    def _at(self, x: Tensor, place: Tensor) -> Tensor:
        batch = torch.arange(x.shape[0], device=x.device)[:, None]
        return x[batch, :, place.clamp(0, self.count - 1)].transpose(1, 2)

    def _in(self, x: Tensor, ends: Tensor) -> Tensor:
        batch = torch.arange(x.shape[0], device=x.device)[:, None]
        found = x[batch, :, self.sequence].transpose(1, 2)
        return torch.where(ends.view(ends.shape[0], 1, -1, *(1,) * (x.ndim - 3)), found, 0)

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
