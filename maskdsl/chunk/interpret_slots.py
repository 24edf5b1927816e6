"""The meaning of the operations of laid-out programs: slot by slot, level by level, token by token."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskdsl.chunk import ops
from maskdsl.chunk.sequences import Sequences, Slot
from maskdsl.mask.levels import Admissibility, carry, level


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


def shift(x: Tensor, by: int, sequences: Sequences, size: int) -> Tensor:
    """result[n] = x[n - by] where both are slots of one sequence, else zero."""
    result = torch.zeros_like(x)
    for b in range(result.shape[0]):
        slots = sequences.slots(b, size)
        for n, slot in enumerate(slots):
            if 0 <= n - by < len(slots) and slots[n - by].sequence == slot.sequence:
                result[b, :, n] = x[b, :, n - by]
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


def scan(op: ops.Scan, x: Sequence[Tensor], sequences: Sequences, size: int) -> tuple[Tensor, ...]:
    """(A, H[, I]) -> S[, F], A being a log."""
    operators, writes, *initial = x
    batch, heads, count = torch.broadcast_shapes(operators.shape[:3], writes.shape[:3])
    operators, writes = (each.expand(batch, heads, count, *each.shape[3:]) for each in (operators, writes))
    states = torch.zeros_like(writes)
    final = writes.new_zeros(batch, heads, len(sequences.positions[0]), *writes.shape[3:])
    if op.initial:
        final = final + initial[0]
    for b in range(batch):
        slots = list(enumerate(sequences.slots(b, size)))
        for n, slot in reversed(slots) if op.reverse else slots:
            states[b, :, n] = final[b, :, slot.sequence]
            final[b, :, slot.sequence] = _moved(operators[b, :, n], states[b, :, n], matrix=False) + writes[b, :, n]
    return states, *([final] if op.final else [])


def solved_scan(op: ops.SolvedScan, x: Sequence[Tensor], sequences: Sequences, size: int) -> tuple[Tensor, ...]:
    """(A, a, b, u, X[, H][, I]) -> S, W[, F], A being a log."""
    writes, initial = op.rest(x)
    given = [*x[:5], *([] if writes is None else [writes])]
    lead = torch.broadcast_shapes(*(each.shape[:3] for each in given))
    operators, a, b, v, inverse, *more = (each.expand(*lead, *each.shape[3:]) for each in given)
    if op.reverse:
        a, b, inverse = b, a, inverse.transpose(-1, -2)
    states, answers = v.new_zeros(*lead, a.shape[-1], v.shape[-1]), torch.zeros_like(v)
    final = v.new_zeros(*lead[:2], len(sequences.positions[0]), *states.shape[3:])
    if initial is not None:
        final = final + initial
    for row in range(lead[0]):
        slots = list(enumerate(sequences.slots(row, size)))
        for n, slot in reversed(slots) if op.reverse else slots:
            at = row, slice(None), n
            states[at] = before = final[row, :, slot.sequence]
            answers[at] = inverse[at] @ (v[at] + b[at] @ before)
            after = _moved(operators[at], before, matrix=False) + a[at].transpose(-1, -2) @ answers[at]
            final[row, :, slot.sequence] = sum((each[at] for each in more), after)
    return states, answers, *([final] if op.final else [])


def tree(
    op: ops.Tree, x: Sequence[Tensor], matrices: bool, sequences: Sequences, size: int, levels: int
) -> tuple[Tensor, ...]:
    """(A, H[, I]) -> EA, EH, F without what keys leave; node p * N + n is the block that ends with slot n."""
    operators, writes, *initial = x
    batch, heads = torch.broadcast_shapes(operators.shape[:2], writes.shape[:2])
    count = writes.shape[2]
    nodes = [each.new_zeros(batch, heads, levels * count, *each.shape[3:]) for each in (operators, writes)]
    for b in range(batch):
        steps, states = (each.expand(batch, heads, count, *each.shape[3:])[b] for each in (operators, writes))
        slots = sequences.slots(b, size)
        for p, (n, slot) in itertools.product(range(levels), enumerate(slots)):
            end, width = slot.origin // size + 1, op.base**p
            if end % width == 0:
                block = [m for m in range(n + 1) if _within(slots[m], slot, size, end - width)]
                for node, made in zip(nodes, _composed(steps[:, block], states[:, block], matrices), strict=True):
                    node[b, :, p * count + n] = made
    final = _left_by_blocks(op, operators, writes, initial, matrices, Slots(sequences, size, levels - 1))
    # all rows and heads that share an operator have the same
    return nodes[0][: operators.shape[0], : operators.shape[1]], nodes[1], final


@dataclass(frozen=True)
class Slots:
    """Slots of `size` positions, and how many levels a memory has."""

    all: Sequences
    size: int
    levels: int

    @property
    def sequences(self) -> int:
        """How many sequences a batch row holds."""
        return len(self.all.positions[0])

    def of(self, row: int) -> list[Slot]:
        """Those of a batch row, in order."""
        return self.all.slots(row, self.size)

    def in_blocks(self, row: int, slot: Slot, admissibility: Admissibility) -> bool:
        """Whether what a slot writes is seen as a whole from the end of its sequence."""
        if admissibility == "weak":
            return slot.end % self.size == 0
        return self.all.after(row, slot.sequence) // self.size - slot.origin // self.size >= 2


def _within(slot: Slot, last: Slot, size: int, begin: int) -> bool:
    """Whether a slot belongs to the block of the chunks from `begin` on that ends with the slot `last`."""
    return slot.sequence == last.sequence and slot.origin // size >= begin


def _composed(operators: Tensor, writes: Tensor, matrices: bool) -> tuple[Tensor, Tensor]:
    """The affine map of chunks, [H, n, ..]."""
    a, h = operators[:, 0], writes[:, 0]
    for n in range(1, operators.shape[1]):
        step = operators[:, n]
        h = _moved(step, h, matrices) + writes[:, n]
        a = step @ a if matrices else step + a
    return a, h


def _moved(operator: Tensor, state: Tensor, matrix: bool) -> Tensor:
    return operator @ state if matrix else operator.exp() * state


def _left_by_blocks(
    op: ops.Tree, operators: Tensor, writes: Tensor, initial: Sequence[Tensor], matrices: bool, slots: Slots
) -> Tensor:
    """What every sequence leaves at each level of what came before and of chunks seen as a whole, slot by slot."""
    batch, heads = torch.broadcast_shapes(*(each.shape[:2] for each in (operators, writes, *initial)))
    count = writes.shape[2]
    final = writes.new_zeros(batch, heads, slots.sequences, slots.levels, *writes.shape[3:])
    if initial:
        final = final + initial[0]
    steps, states = (each.expand(batch, heads, count, *each.shape[3:]) for each in (operators, writes))
    memory = {}
    for b, s in itertools.product(range(batch), range(slots.sequences)):
        began, after = slots.all.positions[b][s], slots.all.after(b, s)
        left = [torch.zeros_like(final[b, :, s, 0]) for _ in range(slots.levels)]
        for j in range(1, slots.levels + 1):
            _add(left, carry(after, began, j, op.base, op.admissibility), final[b, :, s, j - 1])
        memory[b, s] = left
    for b in range(batch):
        for n, slot in enumerate(slots.of(b)):
            left = [_moved(steps[b, :, n], state, matrices) for state in memory[b, slot.sequence]]
            if slots.in_blocks(b, slot, op.admissibility):
                seen = level(slots.all.after(b, slot.sequence), slot.start, op.base, op.admissibility)
                _add(left, seen, states[b, :, n])
            memory[b, slot.sequence] = left
    return _stacked(memory, final)


def left_by_keys(
    op: ops.Tree | ops.LeftAdjoint, slots: Slots, operators: Tensor | None, pushed: Tensor, v: Tensor
) -> Tensor:
    """(A, P, v) -> what keys of the last chunks leave at each level, [B, H, S, M, K, V]; without A nothing moves on."""
    given = [x for x in (pushed, v, operators) if x is not None]
    batch, heads, count = torch.broadcast_shapes(*(x.shape[:3] for x in given))
    pushed, v, *steps = (x.expand(batch, heads, count, *x.shape[3:]) for x in given)
    final = v.new_zeros(batch, heads, slots.sequences, slots.levels, pushed.shape[-1], v.shape[-1])
    memory = {(b, s): list(final[b, :, s].unbind(1)) for b in range(batch) for s in range(final.shape[2])}
    for b in range(batch):
        for n, slot in enumerate(slots.of(b)):
            if slots.in_blocks(b, slot, op.admissibility):
                continue
            for x in steps:
                memory[b, slot.sequence] = [_moved(x[b, :, n], each, matrix=False) for each in memory[b, slot.sequence]]
            after = slots.all.after(b, slot.sequence)
            for c, token in slot.rows():
                seen = level(after, slot.start + token - slot.token, op.base, op.admissibility)
                _add(memory[b, slot.sequence], seen, pushed[b, :, n, c, :, None] * v[b, :, n, c, None, :])
    return _stacked(memory, final)


def _stacked(memory: dict[tuple[int, int], list[Tensor]], like: Tensor) -> Tensor:
    """The states of every sequence by level as one tensor."""
    if not like.shape[3]:
        return like
    rows = [[torch.stack(memory[b, s], 1) for s in range(like.shape[2])] for b in range(like.shape[0])]
    return torch.stack([torch.stack(row, 1) for row in rows])


def walk(op: ops.Walk, x: Sequence[Tensor], matrices: bool, sequences: Sequences) -> Tensor:
    """(R, EA, EH, lam[, I]) -> o, blocks being numbered as `tree` does."""
    queries, operators, blocks, lam, *initial = x
    batch, heads = torch.broadcast_shapes(*(each.shape[:2] for each in x))
    size, slots = queries.shape[3], max(queries.shape[2], lam.shape[2])
    given = [each.expand(batch, heads, *each.shape[2:]) for each in (queries, operators, blocks, lam)]
    result = blocks.new_zeros(batch, heads, slots, size, blocks.shape[-1])
    for b in range(batch):
        found = sequences.slots(b, size)
        for n, slot in enumerate(found):
            own = [each[b, :, min(n, each.shape[2] - 1)] for each in (given[0], given[3])]
            rows = _Rows(slot, [own[0], own[0].new_zeros(1), own[0], result[b, :, n]], [own[1]])
            first = next(m for m in range(n + 1) if found[m].sequence == slot.sequence)
            begin, last = found[first].start, n - (op.admissibility == "strong")
            while last > first:
                p = _read_next(op, slot.origin // size, found[last].origin // size)
                node = min(p, blocks.shape[2] // slots - 1) * slots + last - 1
                seen = level(slot.origin, found[last - 1].origin, op.base, op.admissibility)
                result[b, :, n] += rows.weighted(lambda t, seen=seen: seen) @ given[2][b, :, node]  # type: ignore[misc]
                rows.queries = _pulled(rows.queries, given[1][b, :, node], matrices)
                last -= min(op.base**p, last - first)
            for memory in initial:
                for j in range(1, memory.shape[3] + 1):
                    seen_at = functools.partial(carry, pos=begin, j=j, base=op.base, admissibility=op.admissibility)
                    weighed = rows.weighted(seen_at)
                    result[b, :, n] += weighed @ memory.expand(batch, heads, -1, -1, -1, -1)[b, :, slot.sequence, j - 1]
    return result


def _read_next(op: ops.Walk, chunk: int, end: int) -> int:
    """The level of the block that a chunk reads and that ends before chunk `end`."""
    if op.admissibility == "weak":
        return max(p for p in range(end.bit_length() + 1) if end % op.base**p == 0)
    return next(p for p in itertools.count() if (end - 2**p) >> (p + 1) == (chunk >> (p + 1)) - 1)


def _pulled(queries: Tensor, operator: Tensor, matrix: bool) -> Tensor:
    return queries @ operator if matrix else queries * operator.exp().transpose(-1, -2)


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


def band(op: ops.Band, x: Sequence[Tensor], matrices: bool, sequences: Sequences) -> Tensor:
    """(R, A, P, v[, lam][, keys, values]) -> o."""
    lam, memories = op.rest(x)
    batch, heads = torch.broadcast_shapes(*(each.shape[:2] for each in x))
    size, count = x[0].shape[3], max(each.shape[2] for each in x[: len(x) - len(memories)])
    given = [each.expand(batch, heads, count, *each.shape[3:]) for each in (*x[:4], *([] if lam is None else [lam]))]
    before = [each.expand(batch, heads, *each.shape[2:]) for each in memories]
    result = torch.zeros_like(given[3])
    for b in range(batch):
        slots = sequences.slots(b, size)
        for n, slot in enumerate(slots):
            own = [each[b, :, n] for each in given]
            rows = _Rows(slot, own[:4], own[4:])
            for m in reversed(range(n)):
                if slots[m].sequence == slot.sequence and slot.origin - slots[m].origin <= op.lags * size:
                    for c, token in slots[m].rows():
                        s, pair = slots[m].start + token - slots[m].token, (given[2][b, :, m, c], given[3][b, :, m, c])
                        result[b, :, n] += _read(op, rows, s, *pair)
                if slots[m].sequence == slot.sequence:
                    rows.queries = _pulled(rows.queries, given[1][b, :, m], matrices)
            begin = next(each.start for each in slots if each.sequence == slot.sequence)
            for row in range(before[0].shape[3] if before else 0):
                pair = before[0][b, :, slot.sequence, row], before[1][b, :, slot.sequence, row]
                result[b, :, n] += _read(op, rows, begin - before[0].shape[3] + row, *pair)
    return result


def _read(op: ops.Band, rows: _Rows, s: int, key: Tensor, value: Tensor) -> Tensor:
    """What a slot reads of the token at position s: its key, as its queries see it, and its value."""
    distances = [rows.slot.origin + c - s for c in range(rows.queries.shape[1])]
    near = [float(distance >= 0 and (op.width is None or distance < op.width)) for distance in distances]
    queries = rows.weighted(lambda t: level(t, max(s, 0), op.base, op.admissibility))
    scores = queries @ key[:, :, None] * torch.tensor(near, dtype=value.dtype)[:, None]
    return scores * value[:, None, :]


def keep(op: ops.Keep, x: Sequence[Tensor], sequences: Sequences) -> tuple[Tensor, ...]:
    """(A, P, v[, keys, values]) -> keys, values: token by token."""
    operators, pushed, v, *memories = x
    batch, heads = torch.broadcast_shapes(*(each.shape[:2] for each in x))
    count = max(each.shape[2] for each in (operators, pushed, v))
    operators, pushed, v = (each.expand(batch, heads, count, *each.shape[3:]) for each in (operators, pushed, v))
    kept = [each.new_zeros(batch, heads, len(sequences.positions[0]), op.width - 1, each.shape[-1]) for each in x[1:3]]
    for each, memory in zip(kept, memories, strict=False):
        each += memory
    held = {(b, s): tuple(each[b, :, s] for each in kept) for b in range(batch) for s in range(kept[0].shape[2])}
    for b in range(batch):
        for n, slot in enumerate(sequences.slots(b, pushed.shape[3])):
            keys, values = held[b, slot.sequence]
            own = [c for c, _ in slot.rows()]
            moved = keys * operators[b, :, n].exp().transpose(-1, -2)
            keys, values = torch.cat([moved, pushed[b, :, n, own]], 1), torch.cat([values, v[b, :, n, own]], 1)
            held[b, slot.sequence] = keys[:, len(own) :], values[:, len(own) :]
    rows = [[[held[b, s][i] for s in range(kept[0].shape[2])] for b in range(batch)] for i in range(2)]
    return tuple(torch.stack([torch.stack(row, 1) for row in each]) for each in rows)


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
