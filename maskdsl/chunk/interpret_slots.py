"""The meaning of the operations of laid-out programs: slot by slot, level by level, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maskdsl.chunk import ops
from maskdsl.chunk.sequences import Sequences, Slot
from maskdsl.mask.levels import carry, level


def lay(x: Tensor, sequences: Sequences, size: int, slots: int) -> Tensor:
    """[B, T, h, ..] -> [B, h, N, C, ..]."""
    result = x.new_zeros(x.shape[0], x.shape[2], slots, size, *x.shape[3:])
    for b in range(x.shape[0]):
        for n, slot in enumerate(sequences.slots(b, size)):
            for c, token in slot.rows():
                result[b, :, n, c] = x[b, token]
    return result


def unlay(x: Tensor, sequences: Sequences, length: int) -> Tensor:
    """[B, h, N, C, ..] -> [B, T, h, ..]."""
    result = x.new_zeros(x.shape[0], length, x.shape[1], *x.shape[4:])
    for b in range(x.shape[0]):
        for n, slot in enumerate(sequences.slots(b, x.shape[3])):
            for c, token in slot.rows():
                result[b, token] = x[b, :, n, c]
    return result


def relay(op: ops.Relay, x: Sequence[Tensor], sequences: Sequences) -> tuple[Tensor, ...]:
    """(R, A, P, v, I[, lam][, a, b]) -> o, F."""
    lam = ops.optional(x[5:])[0]

    def step(slot: Slot, rows: _Rows, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        states = list(memory[0].unbind(1)) if lam is not None else [memory[0]]
        output, after = torch.zeros_like(rows.v), [torch.zeros_like(state) for state in states]
        for j, state in enumerate(states, 1):
            output = output + rows.weighted(lambda t, j=j: carry(t, slot.start, j, op.base, op.admissibility)) @ state  # type: ignore[misc]
            goes = carry(slot.end, slot.start, j, op.base, op.admissibility) if lam is not None else 1
            _add(after, goes, rows.move(state))
        for c, token in slot.rows():
            seen = level(slot.end, slot.start + token - slot.token, op.base, op.admissibility) if lam is not None else 1
            _add(after, seen, rows.pushed[:, c, :, None] * rows.v[:, c, None, :])
        if lam is None:
            return output, (after[0],)
        return output, (torch.stack(after, 1) if after else memory[0],)

    return _over_slots(step, x, 1, sequences)


def _add(states: list[Tensor], seen: int, more: Tensor) -> None:
    """Adds to the state of a level; what has none is dropped."""
    if seen <= len(states):
        states[seen - 1] = states[seen - 1] + more


def slide(op: ops.Slide, x: Sequence[Tensor], sequences: Sequences) -> tuple[Tensor, ...]:
    """(R, A, P, v, keys, values[, lam][, a, b]) -> o, keys, values."""
    kept = op.width - 1

    def step(slot: Slot, rows: _Rows, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        keys, values = memory
        output = torch.zeros_like(rows.v)
        for w in range(kept):
            s = slot.start - kept + w
            near = [float(0 <= slot.origin + c - s < op.width) for c in range(rows.v.shape[1])]
            queries = rows.weighted(lambda t, s=s: level(t, max(s, 0), op.base, op.admissibility))  # type: ignore[misc]
            scores = queries @ keys[:, w, :, None] * torch.tensor(near, dtype=output.dtype)[:, None]
            output = output + scores * values[:, w, None, :]
        held = [c for c, _ in slot.rows()]
        keys = torch.cat([rows.move(keys.transpose(-1, -2)).transpose(-1, -2), rows.pushed[:, held]], 1)
        values = torch.cat([values, rows.v[:, held]], 1)
        return output, (keys[:, len(held) :], values[:, len(held) :])

    return _over_slots(step, x, 2, sequences)


class _Rows:
    """A slot's own operands: [H, C, X], its operator [H, 1 or K, 1]."""

    def __init__(self, slot: Slot, operands: Sequence[Tensor], rest: Sequence[Tensor]) -> None:
        self.slot = slot
        self.queries, operator, self.pushed, self.v = operands
        self.factor = operator.exp()
        self.lam, self.a, self.b = ops.optional(rest)

    def weighted(self, seen: Callable[[int], int]) -> Tensor:
        """The queries, each times its weight of the level that `seen` tells for its position."""
        if self.lam is None:
            return self.queries
        rows = []
        for c in range(self.queries.shape[1]):
            t = self.slot.origin + c
            found = seen(t) if self.slot.start <= t < self.slot.end else 0
            rows.append(self.queries[:, c] * self.lam[:, c, min(found, self.lam.shape[-1] - 1), None])
        return torch.stack(rows, 1)

    def move(self, state: Tensor) -> Tensor:
        """A S + a' (b S)."""
        moved = self.factor * state
        return moved if self.a is None or self.b is None else moved + self.a.transpose(-1, -2) @ (self.b @ state)


_Step = Callable[[Slot, _Rows, tuple[Tensor, ...]], tuple[Tensor, tuple[Tensor, ...]]]


def _over_slots(step: _Step, x: Sequence[Tensor], memories: int, sequences: Sequences) -> tuple[Tensor, ...]:
    """The outputs of all slots, and the memories of every sequence after its last slot."""
    batch, heads = torch.broadcast_shapes(*(each.shape[:2] for each in x))
    count = max(each.shape[2] for each in (*x[:4], *x[4 + memories :]))
    given = [each.expand(batch, heads, count, *each.shape[3:]) for each in (*x[:4], *x[4 + memories :])]
    width = len(sequences.positions[0])
    initial = [each.expand(batch, heads, width, *each.shape[3:]) for each in x[4 : 4 + memories]]
    outputs = []
    final: list[list[list[Tensor]]] = []
    for b in range(batch):
        after = [tuple(each[b, :, s] for each in initial) for s in range(width)]
        slots = sequences.slots(b, x[0].shape[3])
        made = [torch.zeros_like(given[3][b, :, 0])] * count
        for n, slot in enumerate(slots):
            own = [each[b, :, n] for each in given]
            made[n], after[slot.sequence] = step(slot, _Rows(slot, own[:4], own[4:]), after[slot.sequence])
        outputs.append(torch.stack(made, 1))
        final.append([[memory[i] for memory in after] for i in range(memories)])
    finals = [torch.stack([torch.stack(row[i], 1) for row in final]) for i in range(memories)]
    return torch.stack(outputs), *finals
