"""What the recurrent oracle keeps: one state for each run of key positions that share a level, or a window's keys.

Between calls it stands in named buffers, as `maskdsl.lowering.memory` describes them for compiled programs; the two
share no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

Level = Callable[[int, int], int]
Step = Callable[[Tensor], Tensor]
Buffers = Mapping[str, Tensor]


@dataclass(frozen=True)
class Runs:
    """One state [B, H, K, V] for each run of positions that share a level, stacked in the order of the positions.

    `starts` are the first positions of the runs. Without levels there is one state, and no run.
    """

    level: Level | None
    starts: tuple[int, ...]
    stack: Tensor

    @classmethod
    def empty(cls, q: Tensor, v: Tensor, level: Level | None) -> Runs:
        """No run yet, or one without positions where no hierarchy tells runs apart."""
        batch, _, heads, features = q.shape
        runs = 0 if level else 1
        return cls(level, (), q.new_zeros(runs, batch, heads, features, v.shape[-1]))

    @classmethod
    def restored(cls, level: Level | None, pos: int, buffers: Buffers) -> Runs:
        """The runs of the positions before `pos`, from `state`, or from `states` by level."""
        if level is None:
            return cls(level, (), buffers["state"].unsqueeze(0))
        starts = tuple(next(run) for _, run in groupby(range(pos), partial(level, pos)))
        rows = [level(pos, start) - 1 for start in starts]
        return cls(level, starts, _folded(buffers["states"], buffers)[:, :, rows].movedim(2, 0))

    def kept(self, pos: int, rows: int) -> dict[str, Tensor]:
        """The buffers at position `pos`; what stands beyond the last row is left out."""
        if self.level is None:
            return {"state": self.stack[0]}
        nothing = self.stack.new_zeros(self.stack.shape[1:])
        states = [nothing] * rows
        for start, state in zip(self.starts, self.stack, strict=True):
            row = self.level(pos, start) - 1
            if row < rows:
                states[row] = states[row] + state
        return {"states": torch.stack([nothing, *states], 2)[:, :, 1:]}

    def advance(self, step: Step) -> Runs:
        """Applies a step operator to every state."""
        return replace(self, stack=step(self.stack))

    def push(self, t: int, key: Tensor, value: Tensor) -> Runs:
        """Adds k[t] v[t]', as a run of its own where there are levels, after joining runs that now share one."""
        if self.level is None:
            return replace(self, stack=self.stack + key * value)
        runs = [list(run) for _, run in groupby(self.starts, partial(self.level, t))]
        parts = self.stack.split([len(run) for run in runs]) if runs else ()
        joined = [part.sum(0, keepdim=True) if len(part) > 1 else part for part in parts]
        stack = torch.cat([*joined, (key * value).unsqueeze(0)])
        return replace(self, starts=(*(run[0] for run in runs), t), stack=stack)

    def read(self, t: int, query: Tensor, lam: Tensor) -> Tensor:
        """The sum of S' q over the runs, each weighted by its level, [B, H, 1, V]."""
        reads = query @ self.stack
        if self.level is None:
            return lam * reads[0]
        weights = _weights(lam, map(partial(self.level, t), self.starts))
        return (weights.movedim(-1, 0).unsqueeze(-1) * reads).sum(0)


@dataclass(frozen=True)
class Ring:
    """The last `width` keys [B, H, K, n], each moved on by the steps since it came, and values [B, H, n, V]."""

    level: Level | None
    width: int
    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, q: Tensor, v: Tensor, level: Level | None, width: int) -> Ring:
        """No key yet."""
        batch, _, heads, features = q.shape
        keys, values = q.new_zeros(batch, heads, features, 0), v.new_zeros(batch, heads, 0, v.shape[-1])
        return cls(level, width, keys, values)

    @classmethod
    def restored(cls, level: Level | None, width: int, pos: int, buffers: Buffers) -> Ring:
        """The tokens before `pos` that the next one may still see, oldest first, from slots s mod (width - 1)."""
        slots = [s % (width - 1) for s in range(max(0, pos - width + 1), pos)]
        return cls(level, width, _folded(buffers["keys"], buffers)[:, :, slots].mT, buffers["values"][:, :, slots])

    def kept(self, pos: int) -> dict[str, Tensor]:
        """The buffers at position `pos`: what is missing is zero. A window of 1 keeps nothing."""
        slots = self.width - 1
        if not slots:
            return {}
        keys, values = ([x.new_zeros((*x.shape[:2], x.shape[3]))] * slots for x in (self.keys.mT, self.values))
        held = range(pos - self.keys.shape[-1], pos)
        for s, key, value in list(zip(held, self.keys.unbind(-1), self.values.unbind(-2), strict=True))[-slots:]:
            keys[s % slots], values[s % slots] = key, value
        return {"keys": torch.stack(keys, 2), "values": torch.stack(values, 2)}

    def advance(self, step: Step) -> Ring:
        """Applies a step operator to every key."""
        return replace(self, keys=step(self.keys))

    def push(self, t: int, key: Tensor, value: Tensor) -> Ring:
        """Takes in a key and value, and forgets those that the window has left behind."""
        first = max(0, self.keys.shape[-1] + 1 - self.width)
        keys = torch.cat([self.keys[..., first:], key], dim=-1)
        return replace(self, keys=keys, values=torch.cat([self.values[..., first:, :], value], dim=-2))

    def read(self, t: int, query: Tensor, lam: Tensor) -> Tensor:
        """The weighted sum of (q' M[t, s] k[s]) v[s] over the window, [B, H, 1, V]."""
        scores = query @ self.keys
        if self.level is None:
            return (lam * scores) @ self.values
        positions = range(t + 1 - scores.shape[-1], t + 1)
        return (scores * _weights(lam, map(partial(self.level, t), positions))) @ self.values


Memory = Runs | Ring


def _weights(lam: Tensor, levels: Iterable[int]) -> Tensor:
    """lam [B, H, 1, L] at each of the levels."""
    return lam[..., list(levels)]


def _folded(x: Tensor, buffers: Buffers) -> Tensor:
    """exp(logs) * x where there are logs."""
    if "logs" not in buffers:
        return x
    factors = buffers["logs"].exp().to(x.dtype)
    return x * factors.reshape(*factors.shape, *[1] * (x.ndim - factors.ndim))
