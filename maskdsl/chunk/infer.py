"""The types of an operation's results, and what it asks of its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes, Operation


class TypeMismatch(Exception):
    """An operation applied to operands that it does not take."""


_COUNTS: Mapping[type[Operation], Sequence[int]] = {
    ops.Load: range(1),
    ops.Constant: range(1),
    ops.Identity: range(1),
    ops.Weave: range(1, 100),
    ops.Map: range(1, 100),
    ops.Dot: range(2, 3),
    ops.Scan: (2, 3),
    ops.SolvedScan: (5, 6, 7),
    ops.Resume: range(5, 6),
    ops.Tree: range(2, 6),
    ops.DecayDot: range(3, 4),
    ops.DecayDots: range(4, 5),
    ops.DecayDotAdjoint: range(4, 5),
    ops.TreeAdjoint: range(4, 10),
    ops.LeftAdjoint: (3, 4),
    ops.Walk: range(4, 6),
    ops.WalkAdjoint: range(5, 7),
    ops.Band: range(4, 8),
    ops.BandAdjoint: range(5, 9),
    ops.Keep: (3, 5),
    ops.KeepAdjoint: (5, 7),
    ops.Regroup: range(3, 5),
    ops.Enter: range(3, 4),
    ops.SelectSlots: range(2, 3),
    ops.Relay: range(5, 9),
    ops.RelayAdjoint: range(7, 11),
    ops.Slide: range(6, 10),
    ops.SlideAdjoint: range(9, 13),
}
"""How many operands an operation takes, where that is not one."""


def infer(op: Operation, operands: tuple[Axes, ...]) -> tuple[Axes, ...]:
    """The types of the results of `op`; raises TypeMismatch."""
    try:
        return _infer(op, operands)
    except (ValueError, IndexError) as error:
        raise TypeMismatch(f"{type(op).__name__} does not take {operands}: {error}") from error


def _infer(op: Operation, x: tuple[Axes, ...]) -> tuple[Axes, ...]:
    counts = _COUNTS.get(type(op), range(1, 2))
    _require(len(x) in counts, f"{' or '.join(map(str, counts))} operands" if len(counts) < 3 else "operands")
    for rule in (_layout, _arithmetic, _pairs, _between_chunks, _of_a_step, _sequences):
        types = rule(op, x)
        if types is not None:
            return types
    raise TypeMismatch(f"no rule for {op}")


Types = tuple[Axes, ...]


def _layout(op: Operation, x: Types) -> Types | None:
    match op:
        case ops.Load(_, axes) | ops.Constant(_, axes):
            return (axes,)
        case ops.Identity():
            return (("1", "1", "1", "K", "K"),)
        case ops.Align(axes):
            _require(_named(x[0]) == _named(axes), "the same named axes")
            return (axes,)
        case ops.Expand(axes):
            _require(ax.join(x[0], axes) == axes, "axes that broadcast to the result")
            return (axes,)
        case ops.Repeat(dim):
            _require(x[0][dim].startswith("H/"), "a key-side head axis")
            return (_replace(x[0], dim, "H"),)
        case ops.GroupSum(ratio, dim):
            _require(x[0][dim] == "H", "a full head axis")
            return (_replace(x[0], dim, ax.heads(ratio)),)
        case ops.Chunk(size):
            batch, token, head, *rest = x[0]
            _require(token == "T", "a token axis")
            return ((batch, head, ax.chunks(size), ax.positions(size), *rest),)
        case ops.Unchunk(size):
            batch, head, chunk, position, *rest = x[0]
            _require((chunk, position) == (ax.chunks(size), ax.positions(size)), f"chunks of {size}")
            return ((batch, "T", head, *rest),)
        case ops.Cast():
            return (x[0],)
        case ops.Shift():
            _require(x[0][2].startswith("N"), "a chunk axis")
            return (x[0],)
        case ops.Transpose():
            return (_swap(x[0]),)
        case ops.Weave(dim):
            _require(len(set(x)) == 1, "operands of one type")
            axis = x[0][dim]
            return (_replace(x[0], dim, ax.positions(ax.chunk_size(axis), ax.rows(axis) * len(x))),)
        case ops.Pick(_, stride, dim):
            axis = x[0][dim]
            _require(ax.rows(axis) % stride == 0, "a woven axis")
            return (_replace(x[0], dim, ax.positions(ax.chunk_size(axis), ax.rows(axis) // stride)),)
        case ops.Place(_, stride, dim):
            axis = x[0][dim]
            return (_replace(x[0], dim, ax.positions(ax.chunk_size(axis), ax.rows(axis) * stride)),)
    return None


def _arithmetic(op: Operation, x: Types) -> Types | None:
    match op:
        case ops.Map(expr):
            used = {s.name for s in expr.free_symbols if s.name.startswith("x")}
            _require(used <= {f"x{i}" for i in range(len(x))}, "an operand for every argument")
            return (ax.join(*x),)
        case ops.Sum(dims):
            _require(max(dims) < len(x[0]), "the axes to sum over")
            return (tuple("1" if i in dims else axis for i, axis in enumerate(x[0])),)
        case ops.Dot(transpose_x, transpose_y):
            left = _swap(x[0]) if transpose_x else x[0]
            right = _swap(x[1]) if transpose_y else x[1]
            _require(left[-1] == right[-2], "matching inner axes")
            return ((*ax.join(left[:-2], right[:-2]), left[-2], right[-1]),)
        case ops.Cumsum():
            _require(x[0][3].startswith("C"), "a position axis")
            return (x[0],)
        case ops.Inverse():
            _require(x[0][-1] == x[0][-2], "a square system")
            return (x[0],)
    return None


def _pairs(op: Operation, x: Types) -> Types | None:
    match op:
        case ops.Spans(steps):
            position = ax.positions(ax.chunk_size(x[0][3]))
            _require(ax.rows(x[0][3]) == steps, f"{steps} decays a position")
            return ((*x[0][:3], position, position),)
        case ops.SpansAdjoint(steps):
            _require(x[0][3] == x[0][4], "pairs of positions of a chunk")
            return ((*x[0][:3], ax.positions(ax.chunk_size(x[0][3]), steps)),)
        case ops.DecayDot(steps):
            q, k, g = x
            _require(ax.rows(g[3]) == steps and q[-1] == k[-1] == g[-1], "vectors and decays of the same channels")
            return ((*ax.join(q[:3], k[:3], g[:3]), q[3], k[3]),)
        case ops.DecayDots(steps, row, column):
            q, r, k, g = x
            _require(q == r, "queries of one type")
            return _pairs(ops.DecayDot(steps, row, column, 0), (q, k, g))
        case ops.DecayDotAdjoint(steps, row, column, diagonal):
            return _adjoint(ops.DecayDot(steps, row, column, diagonal), x)
        case ops.Tril() | ops.Near():
            _require(x[0][-1][0] == x[0][-2][0] == "C", "a pair of position axes")
            return (x[0],)
        case ops.Select():
            _require(x[0][-1] == "L", "level weights")
            return ((*x[0][:-1], x[0][-2]),)
        case ops.SelectAdjoint():
            _require(x[0][-1] == x[0][-2], "pairs of positions of a chunk")
            return ((*x[0][:-1], "L"),)
    return None


def _between_chunks(op: Operation, x: Types) -> Types | None:
    match op:
        case ops.Scan(initial=initial, final=final):
            _require_operator(x[0], x[1])
            _require(len(x) == 2 + initial, "an initial state where it has one")
            states = (*ax.join(*(t[:3] for t in x[:2])), *x[1][3:])
            return states, *_final(x[2:], states, final)
        case ops.SolvedScan(final=final) as solved:
            operator, a, b, v, inverse, *_ = x
            writes, first = solved.rest(x)
            _require(operator[3:] in (("1", "1"), (a[-1], "1")), "a number or a diagonal as operator")
            _require(a[3:] == b[3:], "two factors of the same rows and channels")
            _require(v[3] == a[3], "values of the factors' rows")
            _require(inverse[3:] == (a[3], a[3]), "a system of the factors' rows")
            _require(writes is None or writes[3:] == (a[-1], v[-1]), "writes of the states' type")
            lead = ax.join(*(t[:3] for t in (*x[:5], *([writes] if writes else []))))
            states = (*lead, a[-1], v[-1])
            return states, (*lead, *v[3:]), *_final([first] if first else [], states, final)
        case ops.Resume():
            query, operator, key, value, state = x
            _require(operator[3:] == ("1", "1"), "a number as operator")
            _require(query[-1] == key[-1] == state[-2], "queries, keys and states of the same channels")
            _require(key[3] == value[3] and value[-1] == state[-1], "a value of the states' columns a key")
            return ((*ax.join(*(t[:3] for t in x)), query[3], state[-1]),)
        case ops.Tree(base, initial, final):
            _require_operator(x[0], x[1])
            node = ax.nodes(ax.chunk_size(x[1][2]), base)
            _require(len(x) == 2 + 2 * final + (initial and final), "keys, values and a state where it has a final one")
            batch = ax.join(*(t[:2] for t in x))
            last = ((*batch, "S", "M", "K", "V"),) if final else ()
            _require(not initial or x[-1][2:] == ("S", "M", "K", "V"), "an initial state")
            return tuple(_replace(t, 2, node) for t in x[:2]) + last
        case ops.TreeAdjoint(_, initial, final, admissibility):
            _require_operator(x[0], x[1])
            _require(x[:2] == x[2:4], "gradients of the types of the nodes")
            given = 4 + (2 if admissibility == "weak" else 4) * final
            _require(len(x) == given + (initial and final), "a gradient and operators of a final state")
            chunk = ax.chunks(ax.chunk_size(x[1][2]))
            return tuple(_replace(t, 2, chunk) for t in x[:2]) + x[given:]
        case ops.LeftAdjoint(_, admissibility):
            _require(len(x) == 3 + (admissibility == "strong"), "operators under strong admissibility")
            gradient, *_, key, value = x
            _require(gradient[2:] == ("S", "M", key[-1], value[-1]), "the gradient of final states")
            _require(key[3] == value[3], "a value a key")
            return key, value
        case ops.Walk(initial=initial):
            query, operator, state, lam, *memory = x
            _require(len(memory) == initial, "an initial state where it has one")
            _require(all(t[2:] == ("S", "M", "K", "V") for t in memory), "an initial state")
            _require_operator(operator, state)
            _require(query[-1] == state[-2] and lam[-1] == "L", "queries, operators, states and level weights")
            return ((*ax.join(query[:2], state[:2], lam[:2]), *query[2:4], state[-1]),)
        case ops.WalkAdjoint(base, admissibility, initial):
            return _adjoint(ops.Walk(base, admissibility, initial), x)
        case ops.Band() as band:
            query, operator, key, value = x[:4]
            levels, memories = band.rest(x)
            _require_operator(operator, (*operator[:3], query[-1], "V"))
            _require(
                query[-1] == key[-1] and key[3] == value[3], "queries and keys of the same channels, a value a key"
            )
            _require(len(x) == 4 + (levels is not None) + len(memories), "a memory where it has an initial one")
            _require(levels is None or levels[-1] == "L", "level weights")
            _require(not memories or band.width is not None, "a width where it has an initial memory")
            _require_kept(memories, band.width, key, value)
            count = ax.join(*(t[2:3] for t in x[: len(x) - len(memories)]))
            return ((*ax.join(*(t[:2] for t in x)), *count, query[3], value[4]),)
        case ops.BandAdjoint(lags, width, base, admissibility, initial):
            return _adjoint(ops.Band(lags, width, base, admissibility, initial), x)
    return None


def _final(initial: Sequence[Axes], states: Axes, final: bool) -> Types:
    """The type of a scan's final state, where it has one, beside that of an initial one."""
    for each in initial:
        _require(each == (*each[:2], "S", *states[3:]), "an initial state for each sequence")
    return ((*ax.join(states[:2], *(each[:2] for each in initial)), "S", *states[3:]),) if final else ()


def _of_a_step(op: Operation, x: Types) -> Types | None:
    match op:
        case ops.Split(dim):
            _require(x[0][dim] == "L", "level weights")
            return _replace(x[0], dim, "1"), _replace(x[0], dim, "M")
        case ops.Regroup():
            _require_positions(x[0])
            _, new, rows, *logs = x
            _require(rows[2] == "M" and _fills(new, rows, 2), "a new row beside those of a state")
            for log in logs:
                _require(log[:3] == rows[:3] and log[3:] in (("1", "1"), (rows[3], "1")), "the logs of its rows")
            return x[2:]
        case ops.Enter():
            _require_positions(x[0])
            _, ring, new = x
            _require(ring[3].startswith("R") and _fills(new, ring, 3), "an entry of a ring")
            return (ring,)
        case ops.SelectSlots(slots):
            _require_positions(x[0])
            _require(x[1][-1] == "L", "level weights")
            return (("B", *x[1][1:-1], ax.slots(slots)),)
    return None


def _sequences(op: Operation, x: Types) -> Types | None:
    match op:
        case ops.Lay(size):
            batch, token, head, *rest = x[0]
            _require((batch, token) == ("B", "T"), "batch rows with a token axis")
            return ((batch, head, ax.chunks(size), ax.positions(size), *rest),)
        case ops.Unlay(size):
            batch, head, chunk, position, *rest = x[0]
            _require((chunk, position) == (ax.chunks(size), ax.positions(size)), f"chunks of {size}")
            return ((batch, "T", head, *rest),)
        case ops.Relay():
            lam, *_ = ops.optional(x[5:])
            _require(x[4][2:] in _of_sequences(*(() if lam is None else ("M",)), "K", "V"), "an initial state")
            shared, out = _handing(x, x[5:])
            return (*out, (*shared, "S", *x[4][3:]))
        case ops.Slide(width):
            kept = ax.slots(width - 1)
            _require(x[4][2:] in _of_sequences(kept, "K"), "keys of a window")
            _require(x[5][2:] in _of_sequences(kept, "V"), "values of a window")
            shared, out = _handing(x, x[6:])
            return (*out, (*shared, "S", kept, "K"), (*shared, "S", kept, "V"))
        case ops.Keep(width, initial):
            operator, key, value, *memories = x
            _require_logs(operator)
            _require(key[-1] == "K" and value[-1] == "V" and key[3] == value[3], "keys, and a value a key")
            _require(len(memories) == 2 * initial, "a memory where it has an initial one")
            _require_kept(memories, width, key, value)
            shared = *ax.join(*(t[:2] for t in x)), "S", ax.slots(width - 1)
            return (*shared, "K"), (*shared, "V")
        case ops.KeepAdjoint(width, initial):
            return _handing_adjoint(ops.Keep(width, initial), x, 2)
        case ops.RelayAdjoint(base, admissibility):
            return _handing_adjoint(ops.Relay(base, admissibility), x, ops.HANDING[ops.Relay][1])
        case ops.SlideAdjoint(width, base, admissibility):
            return _handing_adjoint(ops.Slide(width, base, admissibility), x, ops.HANDING[ops.Slide][1])
    return None


def _require_kept(memories: Sequence[Axes], width: int | None, key: Axes, value: Axes) -> None:
    """The memories of a window that an operation has, if any: every sequence has its own."""
    for memory, of, what in zip(memories, (key, value), ("keys", "values"), strict=False):
        _require(memory[2:] == ("S", ax.slots((width or 1) - 1), of[-1]), f"{what} of a window")


def _of_sequences(*axes: str) -> Types:
    """What a state of every sequence may have after its batch and head axes: all may share one."""
    return ("S", *axes), ("1", *axes)


def _handing(x: Types, rest: Types) -> tuple[Axes, Types]:
    """The batch and head axes of what an operation of `HANDING` makes, and its output."""
    query, operator, key, value = x[:4]
    lam, a, b = ops.optional(rest)
    _require_logs(operator)
    _require(query[-1] == key[-1] == "K" and key[3] == value[3], "queries and keys of the same channels, a value a key")
    _require(lam is None or lam[-1] == "L", "level weights")
    if a is not None and b is not None:
        _require(a[3:] == b[3:] and a[-1] == "K", "two factors of the states' channels")
    chunk = ax.join(*(t[2:3] for t in (*x[:4], *rest)))
    batch = ax.join(*(t[:2] for t in x))
    return batch, ((*batch, *chunk, query[3], value[-1]),)


def _handing_adjoint(op: Operation, x: Types, count: int) -> Types:
    """The types of the gradients of an operation with so many results."""
    _require(x[:count] == _infer(op, x[count:]), "gradients of the results' types")
    return x[count:]


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"it takes {what}")


def _fills(entry: Axes, whole: Axes, dim: int) -> bool:
    """Whether an entry, of one element along `dim`, broadcasts to the other axes of what it goes into."""
    return entry[dim] == "1" and ax.join(entry, whole) == whole


def _require_positions(axes: Axes) -> None:
    _require(axes == ("B",), "a position a sequence")


def _require_operator(operator: Axes, state: Axes) -> None:
    rows = state[3]
    kinds = (("1", "1"), (rows, "1"), (rows, rows))
    _require(operator[3:] in kinds, "an operator on the states: a number, a diagonal or a matrix")


def _require_logs(operator: Axes) -> None:
    _require(operator[3:] in (("1", "1"), ("K", "1")), "a number or a diagonal as operator")


def _adjoint(op: Operation, x: tuple[Axes, ...]) -> tuple[Axes, ...]:
    _require(x[:1] == _infer(op, x[1:]), "a gradient of the result's type")
    return x[1:]


def _named(axes: Axes) -> Axes:
    return tuple(axis for axis in axes if axis != "1")


def _replace(axes: Axes, dim: int, axis: str) -> Axes:
    items = list(axes)
    items[dim] = axis
    return tuple(items)


def _swap(axes: Axes) -> Axes:
    return (*axes[:-2], axes[-1], axes[-2])
