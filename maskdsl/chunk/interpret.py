"""The meaning of the chunk IR, executed as it is defined: loops over chunks, nodes and levels, no shortcuts.

Slow on purpose. Adjoint operations are taken from torch's autograd over the operations that they belong to.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import sympy
import torch
from torch import Tensor

from maskdsl.chunk import axes as ax
from maskdsl.chunk import interpret_slots, ops
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Program
from maskdsl.chunk.sequences import Sequences
from maskdsl.mask.levels import Admissibility, carry, level
from maskdsl.scalar.evaluate import evaluate


def interpret(
    program: Program, inputs: Mapping[str, Tensor], sizes: Mapping[str, int], sequences: Sequences | None = None
) -> dict[str, Tensor]:
    """The outputs of a program by name, from its loads by name; `sizes` are those of B, T, H, K, V and L.

    A program that is laid out needs the size of S too, and where the sequences lie.
    """
    values: dict[str, Tensor] = {}
    types = program.types
    run = Interpreter(sizes, sequences)
    for instruction in program.instructions:
        if isinstance(instruction.op, ops.Load):
            results: Sequence[Tensor] = (inputs[instruction.op.name],)
        else:
            operands = [values[x] for x in instruction.operands]
            results = run.step(instruction.op, operands, [types[x] for x in instruction.operands])
        for name, axes, result in zip(instruction.results, instruction.types, results, strict=True):
            shape = tuple(ax.extent(axis, sizes) for axis in axes)
            if tuple(result.shape) != shape:
                raise AssertionError(
                    f"{name} = {instruction.op} has shape {tuple(result.shape)}, its type says {shape}"
                )
            values[name] = result
    return {name: values[value] for name, value in program.outputs}


class Interpreter:
    """One operation at a time."""

    def __init__(self, sizes: Mapping[str, int], sequences: Sequences | None = None) -> None:
        self.sizes = sizes
        self.sequences = sequences or Sequences((), ())

    def step(self, op: Operation, x: list[Tensor], types: list[Axes]) -> Sequence[Tensor]:
        """The results of an operation."""
        match op:
            case ops.DecayDotAdjoint(steps, row, column, diagonal):
                return self._adjoint(ops.DecayDot(steps, row, column, diagonal), x, types)
            case ops.WalkAdjoint(base, admissibility, initial):
                return self._adjoint(ops.Walk(base, admissibility, initial), x, types)
            case ops.BandAdjoint(lags, width, base, admissibility, initial):
                return self._adjoint(ops.Band(lags, width, base, admissibility, initial), x, types)
            case ops.SpansAdjoint(steps, row, column):
                g = torch.zeros(*x[0].shape[:3], x[0].shape[3] * steps, dtype=x[0].dtype)
                return self._adjoint(ops.Spans(steps, row, column), [x[0], g], types)
            case ops.SelectAdjoint(base, admissibility):
                lam = torch.zeros(*x[0].shape[:-1], self.sizes["L"], dtype=x[0].dtype)
                return self._adjoint(ops.Select(base, admissibility), [x[0], lam], types)
            case ops.TreeAdjoint(base, initial, final, admissibility) if "S" in self.sizes:
                return self._laid_tree_adjoint(ops.Tree(base, initial, final, admissibility), x, types)
            case ops.TreeAdjoint(base):
                return self._tree_adjoint(base, x, types)
            case ops.LeftAdjoint():
                leave = functools.partial(self._left_by_keys, op, ax.chunk_size(types[-1][3]), x[1])
                return _vjp(leave, x[-2:], x[:1])
            case ops.Tree() if "S" in self.sizes:
                size = ax.chunk_size(types[1][2])
                written = [x[0], x[1], *(x[4:] if op.final else [])]
                *found, last = interpret_slots.tree(
                    op, written, ops.matrices(types[:2]), self.sequences, size, self.sizes["L"]
                )
                if op.final:
                    last = last + self._left_by_keys(op, size, x[0], x[2], x[3])
                return *found, *([last] if op.final else [])
            case ops.Tree(base):
                return _tree(base, x[0], x[1], ops.matrices(types))
            case ops.Scan() if "S" in self.sizes:
                return interpret_slots.scan(op, x, self.sequences, ax.chunk_size(types[1][2]))
            case ops.Scan(reverse, every, _, final):
                begin = x[2] if op.initial else None
                states, last = (_scan_back if reverse else _scan)(_factors(x[0], types[:1]), x[1], begin)
                return _thinned(states, every), *([last] if final else [])
            case ops.SolvedScan() if "S" in self.sizes:
                return interpret_slots.solved_scan(op, x, self.sequences, ax.chunk_size(types[3][3]))
            case ops.SolvedScan(reverse, _, final):
                *found, last = _solved_scan(reverse, x, *op.rest(x))
                return *found, *([last] if final else [])
            case ops.Split(dim):
                return x[0].narrow(dim, 0, 1), x[0].narrow(dim, 1, self.sizes["L"] - 1)
            case ops.Regroup(base, admissibility):
                return _regroup(x[0], x[1], x[2], x[3:], base, admissibility)
            case ops.Relay():
                return interpret_slots.relay(op, x, self.sequences)
            case ops.Slide():
                return interpret_slots.slide(op, x, self.sequences)
            case ops.RelayAdjoint(base, admissibility):
                return self._handing_adjoint(ops.Relay(base, admissibility), x, types, ops.HANDING[ops.Relay][1])
            case ops.SlideAdjoint(width, base, admissibility):
                return self._handing_adjoint(ops.Slide(width, base, admissibility), x, types, ops.HANDING[ops.Slide][1])
            case ops.Keep():
                return interpret_slots.keep(op, x, self.sequences)
            case ops.KeepAdjoint(width, initial):
                return self._handing_adjoint(ops.Keep(width, initial), x, types, 2)
        return (self._value(op, x, types),)

    def _value(self, op: Operation, x: list[Tensor], types: list[Axes]) -> Tensor:
        match op:
            case ops.Constant(expr, axes):
                shape = [ax.extent(a, self.sizes) for a in axes]
                return torch.full(shape, float(expr.subs(self._dimensions(expr))), dtype=torch.float64)
            case ops.Identity():
                return torch.eye(self.sizes["K"], dtype=torch.float64)[None, None, None]
            case ops.Align(axes):
                return x[0].reshape([ax.extent(a, self.sizes) for a in axes])
            case ops.Expand(axes):
                return x[0].expand([ax.extent(a, self.sizes) for a in axes])
            case ops.Repeat(dim):
                return x[0].repeat_interleave(ax.ratio(types[0][dim]), dim)
            case ops.GroupSum(ratio, dim):
                return x[0].unflatten(dim, (-1, ratio)).sum(dim + 1)
            case ops.Chunk(size):
                return _chunk(x[0], size)
            case ops.Unchunk():
                return x[0].flatten(2, 3)[:, :, : self.sizes["T"]].transpose(1, 2)
            case ops.Lay(size):
                return interpret_slots.lay(x[0], self.sequences, size, ax.extent(ax.chunks(size), self.sizes))
            case ops.Unlay():
                return interpret_slots.unlay(x[0], self.sequences, self.sizes["T"])
            case ops.Cast():
                return x[0]
            case ops.Shift(by) if "S" in self.sizes and types[0][2] != "1":
                return interpret_slots.shift(x[0], by, self.sequences, ax.chunk_size(types[0][2]))
            case ops.Shift(by):
                return _shift(x[0], by)
            case ops.Transpose():
                return x[0].transpose(-1, -2)
            case ops.Weave(dim):
                return torch.stack(x, dim + 1).flatten(dim, dim + 1)
            case ops.Pick(offset, stride, dim):
                return x[0].index_select(dim, torch.arange(offset, x[0].shape[dim], stride))
            case ops.Place(offset, stride, dim):
                shape = list(x[0].shape)
                shape[dim] *= stride
                return torch.zeros(shape, dtype=x[0].dtype).index_copy(
                    dim, torch.arange(offset, shape[dim], stride), x[0]
                )
            case ops.Map(expr):
                arguments = {f"x{i}": value for i, value in enumerate(x)}
                return evaluate(expr, arguments | {s.name: self.sizes[s.name] for s in self._dimensions(expr)})
            case ops.Sum(dims):
                return x[0].sum(dims, keepdim=True)
            case ops.Dot(transpose_x, transpose_y):
                left = x[0].transpose(-1, -2) if transpose_x else x[0]
                return left @ (x[1].transpose(-1, -2) if transpose_y else x[1])
            case ops.Cumsum(reverse, exclusive):
                return _cumsum(x[0], reverse, exclusive)
            case ops.Inverse():
                return torch.linalg.inv(torch.eye(x[0].shape[-1], dtype=x[0].dtype) - x[0])
            case ops.Spans(steps, row, column):
                return _spans(x[0][..., None], steps, row, column)[..., 0]
            case ops.DecayDot(steps, row, column, diagonal):
                spans = _spans(x[2], steps, row, column)
                return (x[0][..., :, None, :] * x[1][..., None, :, :] * spans.exp()).sum(-1).tril(diagonal)
            case ops.DecayDots(steps, row, column):
                decayed = x[2][..., None, :, :] * _spans(x[3], steps, row, column).exp()
                below, above = ((queries[..., :, None, :] * decayed).sum(-1) for queries in x[:2])
                return below.tril() + above.tril(-1).transpose(-1, -2)
            case ops.Tril(diagonal):
                return x[0].tril(diagonal)
            case ops.Near(width):
                return x[0].triu(1 - width)
            case ops.Select(base, admissibility):
                return _weights(x[0], x[0].shape[-2], 0, 0, base, admissibility).tril()
            case ops.Resume():
                queries, operators, pushed, v, states = x
                return _resume(queries, operators.exp(), pushed, v, states)
            case ops.Walk() if "S" in self.sizes:
                return interpret_slots.walk(op, x, ops.matrices(types), self.sequences)
            case ops.Walk(base, admissibility):
                queries, operators, states, lam = x
                return _walk(queries, _factors(operators, types), states, lam, base, admissibility)
            case ops.Band() if "S" in self.sizes:
                return interpret_slots.band(op, x, ops.matrices(types), self.sequences)
            case ops.Band(lags, width, base, admissibility):
                queries, operators, *rest = x
                return _band([queries, _factors(operators, types), *rest], lags, width, base, admissibility)
            case ops.Enter():
                return _enter(x[0], x[1], x[2])
            case ops.SelectSlots(slots, base, admissibility):
                return _select_slots(x[0], x[1], slots, base, admissibility)
        raise TypeError(f"{op} has no meaning")

    def _dimensions(self, expr: sympy.Expr) -> dict[sympy.Symbol, int]:
        return {s: self.sizes[s.name] for s in expr.free_symbols if s.name in self.sizes}

    def _adjoint(self, op: Operation, x: list[Tensor], types: list[Axes]) -> Sequence[Tensor]:
        return _vjp(lambda *leaves: self._value(op, list(leaves), types[1:]), x[1:], [x[0]])

    def _handing_adjoint(self, op: Operation, x: list[Tensor], types: list[Axes], results: int) -> Sequence[Tensor]:
        return _vjp(lambda *leaves: tuple(self.step(op, list(leaves), types[results:])), x[results:], x[:results])

    def _laid_tree_adjoint(self, op: ops.Tree, x: list[Tensor], types: list[Axes]) -> Sequence[Tensor]:
        size, matrices = ax.chunk_size(types[1][2]), ops.matrices(types[:2])
        count = ax.extent(ax.chunks(size), self.sizes)
        keys = x[6:8] if op.admissibility == "strong" else []

        def blocks(a: Tensor, h: Tensor, *initial: Tensor) -> tuple[Tensor, ...]:
            found = interpret_slots.tree(op, [a, h, *initial], matrices, self.sequences, size, self.sizes["L"])
            left = self._left_by_keys(op, size, a, *keys) if op.final and keys else 0
            return (*found[:2], found[2] + left) if op.final else found[:2]

        return _vjp(blocks, [x[0][:, :, :count], x[1][:, :, :count], *x[6 + len(keys) :]], x[2:5])

    def _left_by_keys(
        self, op: ops.Tree | ops.LeftAdjoint, size: int, operators: Tensor, pushed: Tensor, v: Tensor
    ) -> Tensor:
        slots = interpret_slots.Slots(self.sequences, size, self.sizes["L"] - 1)
        # under weak admissibility they are keys of last chunks, which nothing moves on
        moves = operators if op.admissibility == "strong" else None
        return interpret_slots.left_by_keys(op, slots, moves, pushed, v)

    def _tree_adjoint(self, base: int, x: list[Tensor], types: list[Axes]) -> Sequence[Tensor]:
        # the leaves of a tree are its first nodes
        count = -(-self.sizes["T"] // ax.chunk_size(types[0][2]))
        matrices = ops.matrices(types)
        return _vjp(lambda a, h: _tree(base, a, h, matrices), [x[0][:, :, :count], x[1][:, :, :count]], x[2:])


def _vjp(
    function: Callable[..., Tensor | tuple[Tensor, ...]], x: Sequence[Tensor], dy: Sequence[Tensor]
) -> Sequence[Tensor]:
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in x]
        y = function(*leaves)
        outputs = [y] if isinstance(y, Tensor) else list(y)
        connected = [(o, d) for o, d in zip(outputs, dy, strict=True) if o.requires_grad]
        if not connected:
            return [torch.zeros_like(t) for t in x]
        grads = torch.autograd.grad([o for o, _ in connected], leaves, [d for _, d in connected], allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(grads, x, strict=True)]


def _chunk(x: Tensor, size: int) -> Tensor:
    x = x.transpose(1, 2)
    missing = -x.shape[2] % size
    padding = torch.zeros(*x.shape[:2], missing, *x.shape[3:], dtype=x.dtype)
    return torch.cat([x, padding], 2).unflatten(2, (-1, size))


def _shift(x: Tensor, by: int) -> Tensor:
    result = torch.zeros_like(x)
    count = x.shape[2]
    for n in range(count):
        if 0 <= n - by < count:
            result[:, :, n] = x[:, :, n - by]
    return result


def _cumsum(x: Tensor, reverse: bool, exclusive: bool) -> Tensor:
    count = x.shape[3]
    rows = []
    for c in range(count):
        window = x[:, :, :, c + exclusive :] if reverse else x[:, :, :, : c + 1 - exclusive]
        rows.append(window.sum(3))
    return torch.stack(rows, 3)


def _spans(g: Tensor, steps: int, row: int, column: int) -> Tensor:
    """[.., C*steps, X] -> [.., C, C, X]."""
    count = g.shape[3] // steps
    rows = []
    for c in range(count):
        rows.append(torch.stack([g[:, :, :, s * steps + column : c * steps + row].sum(3) for s in range(count)], 3))
    return torch.stack(rows, 3)


def _weights(lam: Tensor, size: int, chunk: int, lag: int, base: int, admissibility: Admissibility) -> Tensor:
    """lam [.., C, L] of chunk number `chunk` -> lam[c, level(t, s)], s in the chunk `lag` before it (or the same)."""
    rows = []
    for c in range(size):
        t = chunk * size + c
        levels = [level(t, min((chunk - lag) * size + s, t), base, admissibility) for s in range(size)]
        row = [lam[..., c, min(found, lam.shape[-1] - 1)] for found in levels]
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def _factors(operators: Tensor, types: list[Axes]) -> Tensor:
    """What multiplies states and queries: matrices as they are, numbers and diagonals as exp of their logs."""
    return operators if ops.matrices(types) else operators.exp()


def _act(factor: Tensor, state: Tensor) -> Tensor:
    """A @ H for a factor that is a number, a diagonal or a matrix."""
    return factor * state if factor.shape[-1] == 1 else factor @ state


def _pull(queries: Tensor, factor: Tensor) -> Tensor:
    """R @ A."""
    return queries * factor.transpose(-1, -2) if factor.shape[-1] == 1 else queries @ factor


def _scan(factors: Tensor, writes: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    """The states, and what the last chunk leaves, [B, H, 1, K, V]."""
    state = torch.zeros_like(writes[:, :, 0]) if initial is None else initial[:, :, 0]
    states = []
    for n in range(writes.shape[2]):
        states.append(state)
        state = _act(factors[:, :, min(n, factors.shape[2] - 1)], state) + writes[:, :, n]
    return torch.stack(states, 2), state[:, :, None]


def _scan_back(factors: Tensor, writes: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    state = torch.zeros_like(writes[:, :, 0]) if initial is None else initial[:, :, 0]
    states = []
    for n in reversed(range(writes.shape[2])):
        states.append(state)
        a = factors[:, :, n]
        state = (a * state if a.shape[-1] == 1 else a.transpose(-1, -2) @ state) + writes[:, :, n]
    return torch.stack(states[::-1], 2), state[:, :, None]


def _solved_scan(
    reverse: bool, x: Sequence[Tensor], writes: Tensor | None, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Chunk by chunk, from the end with the factors exchanged and the system transposed; and the last state."""
    logs, a, b, v, inverse = x[:5]
    if reverse:
        a, b, inverse = b, a, inverse.transpose(-1, -2)
    count = max(t.shape[2] for t in (logs, a, b, inverse, v))
    state = 0 * (a[:, :, 0].transpose(-1, -2) @ inverse[:, :, 0] @ v[:, :, 0] * logs[:, :, 0])
    if initial is not None:
        state = state + initial[:, :, 0]
    states, answers = [], []
    for n in reversed(range(count)) if reverse else range(count):
        states.append(state)
        log, left, right, solve, value = (t[:, :, min(n, t.shape[2] - 1)] for t in (logs, a, b, inverse, v))
        answers.append(solve @ (value + right @ state))
        state = log.exp() * state + left.transpose(-1, -2) @ answers[-1]
        if writes is not None:
            state = state + writes[:, :, n]
    order = -1 if reverse else 1
    return torch.stack(states[::order], 2), torch.stack(answers[::order], 2), state[:, :, None]


def _thinned(states: Tensor, every: int) -> Tensor:
    """States of which only those of every so many chunks are there; the others are no numbers."""
    absent = torch.arange(states.shape[2]) % every != 0
    return states.masked_fill(absent[:, None, None], torch.nan)


def _resume(queries: Tensor, factors: Tensor, pushed: Tensor, v: Tensor, states: Tensor) -> Tensor:
    outputs = []
    for n in range(states.shape[2]):
        state = states[:, :, n - n % 2]
        if n % 2:
            state = factors[:, :, n - 1] * state + pushed[:, :, n - 1].transpose(-1, -2) @ v[:, :, n - 1]
        outputs.append(queries[:, :, n] @ state)
    return torch.stack(outputs, 2)


def _tree(base: int, operators: Tensor, writes: Tensor, matrices: bool) -> tuple[Tensor, Tensor]:
    count, width = writes.shape[2], 1
    nodes = []
    while width <= count:
        for start in range(0, count - width + 1, width):
            a, h = operators[:, :, start], writes[:, :, start]
            for n in range(start + 1, start + width):
                step = operators[:, :, n]
                h = _act(step if matrices else step.exp(), h) + writes[:, :, n]
                a = step @ a if matrices else step + a
            nodes.append((a, h))
        width *= base
    return torch.stack([a for a, _ in nodes], 2), torch.stack([h for _, h in nodes], 2)


def _walk(queries: Tensor, factors: Tensor, eh: Tensor, lam: Tensor, base: int, admissibility: Admissibility) -> Tensor:
    """Chunk by chunk through the leaves of the tree, with the level of each pair of positions."""
    count, size = queries.shape[2:4]
    nearest = 2 if admissibility == "strong" else 1
    outputs = []
    for n in range(count):
        r, o = queries[:, :, n], 0 * (queries[:, :, n, :, :1] * eh[:, :, 0, :1] * lam[:, :, n, :, :1])
        for m in reversed(range(n - nearest + 1)):
            weight = lam[:, :, n, :, level(n * size, m * size, base, admissibility), None]
            o = o + weight * (r @ eh[:, :, m])
            r = _pull(r, factors[:, :, m])
        outputs.append(o)
    return torch.stack(outputs, 2)


def _band(x: list[Tensor], lags: int, width: int | None, base: int, admissibility: Admissibility) -> Tensor:
    queries, factors, pushed, v, *lam = x
    size, count = queries.shape[3], v.shape[2]
    outputs = []
    for n in range(count):
        r, o = queries[:, :, n], 0 * (queries[:, :, n, :, :1] * v[:, :, n, :1])
        for lag in range(1, min(lags, n) + 1):
            scores = r @ pushed[:, :, n - lag].transpose(-1, -2)
            if lam:
                scores = scores * _weights(lam[0][:, :, n], size, n, lag, base, admissibility)
            if width is not None:
                # t - s = lag * size + c - s
                scores = scores.triu(1 - width + lag * size)
            o = o + scores @ v[:, :, n - lag]
            r = _pull(r, factors[:, :, n - lag])
        outputs.append(o)
    return torch.stack(outputs, 2)


def _regroup(
    positions: Tensor, new: Tensor, rows: Tensor, logs: list[Tensor], base: int, admissibility: Admissibility
) -> list[Tensor]:
    """Sequence by sequence and row by row."""
    states, state_logs = torch.zeros_like(rows), [torch.zeros_like(x) for x in logs]
    new = new.expand(*rows.shape[:2], 1, *rows.shape[3:])
    for b, pos in enumerate(positions.tolist()):
        row = [new[b, :, 0], *rows[b].unbind(1)]
        log = [[x.new_zeros(()), *x[b].unbind(1)] for x in logs]
        goes_to = [carry(pos + 1, pos, j, base, admissibility) for j in range(len(row))]
        for found in range(1, len(row)):
            meeting = [j for j, goes in enumerate(goes_to) if goes == found]
            for x, result in zip(log, state_logs, strict=True):
                if meeting:
                    result[b, :, found - 1] = functools.reduce(torch.maximum, [x[j] for j in meeting])
            for j in meeting:
                factor = 1 if not log else (log[0][j] - state_logs[0][b, :, found - 1]).exp()
                states[b, :, found - 1] += factor * row[j]
    return [states, *state_logs]


def _enter(positions: Tensor, ring: Tensor, new: Tensor) -> Tensor:
    result, entries = ring.clone(), new.expand(ring[:, :, :, :1].shape)
    for b, pos in enumerate(positions.tolist()):
        result[b, :, :, pos % ring.shape[3]] = entries[b, :, :, 0]
    return result


def _select_slots(positions: Tensor, lam: Tensor, slots: int, base: int, admissibility: Admissibility) -> Tensor:
    weights = lam.expand(len(positions), *lam.shape[1:])
    sequences = []
    for b, pos in enumerate(positions.tolist()):
        held = dict.fromkeys(range(slots), pos) | {s % slots: s for s in range(max(0, pos - slots), pos)}
        sequences.append(torch.stack([weights[b, ..., level(pos, held[i], base, admissibility)] for i in held], -1))
    return torch.stack(sequences)
