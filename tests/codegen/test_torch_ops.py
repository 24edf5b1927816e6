"""Every operation of the generated programs' library against its meaning, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from compilation import assert_near, random_value
from torch import Tensor

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.infer import infer
from maskdsl.chunk.interpret import Interpreter
from maskdsl.chunk.interpret_slots import lay
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.sequences import Sequences
from maskdsl.codegen import torch_ops
from maskdsl.codegen.torch_expressions import constants_of
from maskdsl.codegen.torch_ops.handing import RUN
from maskdsl.codegen.torch_ops.slots import Layout
from maskdsl.mask.levels import Admissibility, level, levels

HEADS, K, V = 2, 3, 4
OPERATORS = {"number": ("1", "1"), "diagonal": ("K", "1"), "matrix": ("K", "K")}
BETWEEN_CHUNKS = (ops.Scan, ops.Tree, ops.TreeAdjoint, ops.Walk, ops.WalkAdjoint, ops.Band, ops.BandAdjoint)
HIERARCHIES: tuple[tuple[int, Admissibility], ...] = ((2, "weak"), (3, "weak"), (5, "weak"), (2, "strong"))
CHUNKS = range(1, 10)

operators = pytest.mark.parametrize("operator", OPERATORS)
hierarchies = pytest.mark.parametrize(("base", "admissibility"), HIERARCHIES)
every_count = pytest.mark.parametrize("count", CHUNKS)


def sizes_for(count: int, size: int, base: int = 2, admissibility: Admissibility = "weak") -> dict[str, int]:
    """A call of `count` chunks, the last one ragged where it can be."""
    length = count * size - (1 if size > 1 else 0)
    return {"B": 2, "T": length, "H": HEADS, "K": K, "V": V, "L": levels(count * size, base, admissibility) + 1}


def values(types: list[Axes], sizes: dict[str, int]) -> list[Tensor]:
    """Operands at random; matrices are scaled down, so that products of many stay near 1."""
    made = [random_value(axes, sizes, seed) for seed, axes in enumerate(types)]
    return [x / 2 if axes[-2:] == ("K", "K") else x for x, axes in zip(made, types, strict=True)]


def check(op: Operation, types: list[Axes], sizes: dict[str, int], *arguments: object, **given: Tensor) -> None:
    """The torch operation named like `op` gives what the interpreter gives.

    `arguments` stand between the operands and the constants; `given` replaces random operands by place, as x0, x1, ...
    """
    operands = values(types, sizes)
    for place, value in given.items():
        operands[int(place[1:])] = value
    before = [x.clone() for x in operands]
    expected = Interpreter(sizes).step(op, [x.clone() for x in operands], types)
    function = getattr(torch_ops, function_of(op))
    told = {"matrix": ops.matrices(types)} if isinstance(op, BETWEEN_CHUNKS) else {}
    made = function(*operands, *arguments, **constants_of(op), **told)
    results = [made] if isinstance(made, Tensor) else list(made)
    assert len(results) == len(expected)
    for actual, wanted in zip(results, expected, strict=True):
        assert_near(actual, wanted, 1e-12, rounding=1.0)
    for x, same in zip(operands, before, strict=True):
        assert torch.equal(x, same), "an operand was changed in place"


def function_of(op: Operation) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in type(op).__name__).lstrip("_")


def adjoint(op: Operation, adjoint_op: Operation, types: list[Axes], sizes: dict[str, int], *more: object) -> None:
    """`check` for the adjoint of an operation of one result."""
    check(adjoint_op, [*infer(op, tuple(types)), *types], sizes, *more)


def chunked(size: int, *rest: str, heads: str = "H") -> Axes:
    return ("B", heads, ax.chunks(size), *rest)


# -- layout and scans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("feature", [(), ("K",)])
@pytest.mark.parametrize("length", [1, 6, 7, 8, 14, 15])
def test_chunk_and_unchunk(size: int, feature: tuple[str, ...], length: int) -> None:
    sizes = sizes_for(1, 1) | {"T": length}
    axes: Axes = ("B", "T", "H", *feature)
    check(ops.Chunk(size), [axes], sizes)
    types: list[Axes] = [chunked(size, ax.positions(size), *feature)]
    x = random_value(types[0], sizes, 0)
    expected = Interpreter(sizes).step(ops.Unchunk(size), [x], types)[0]
    torch.testing.assert_close(torch_ops.unchunk(x, length), expected)


@pytest.mark.parametrize("by", [-9, -2, -1, 0, 1, 2, 9])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_shift(by: int, count: int) -> None:
    check(ops.Shift(by), [chunked(2, "K", "V")], sizes_for(count, 2))


@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize("offset", [0, 1, 2])
def test_place(dim: int, offset: int) -> None:
    check(ops.Place(offset, 3, dim), [chunked(2, "C2", "C2")], sizes_for(2, 2))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("rest", [("C5",), ("C5", "K"), ("C1",), ("C5*2", "K")])
def test_cumsum(reverse: bool, exclusive: bool, rest: tuple[str, ...]) -> None:
    check(ops.Cumsum(reverse, exclusive), [chunked(5, *rest)], sizes_for(2, 5))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_inverse(size: int) -> None:
    sizes, types = sizes_for(2, size), [chunked(size, ax.positions(size), ax.positions(size))]
    check(ops.Inverse(), types, sizes, x0=random_value(types[0], sizes, 0).tril(-1))


@operators
@every_count
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("batch", ["B", "1"])
def test_scan(operator: str, count: int, reverse: bool, batch: str) -> None:
    types = [(batch, "H", "N4", *OPERATORS[operator]), chunked(4, "K", "V")]
    check(ops.Scan(reverse), types, sizes_for(count, 4))


@pytest.mark.parametrize("operator", ["number", "diagonal"])
@every_count
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("batch", "heads"), [("B", "H"), ("1", "H"), ("B", "1")])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("writes", [False, True])
def test_scan_that_solves_systems(
    operator: str, count: int, reverse: bool, batch: str, heads: str, steps: int, writes: bool
) -> None:
    rows = ax.positions(4, steps)
    factor, system = (batch, heads, "N4", rows, "K"), (batch, heads, "N4", rows, rows)
    types: list[Axes] = [("B", heads, "N4", *OPERATORS[operator]), factor, factor, chunked(4, rows, "V"), system]
    types += [chunked(4, "K", "V")] if writes else []
    check(ops.SolvedScan(reverse), types, sizes_for(count, 4))


# -- pairs of positions -------------------------------------------------------------------------------------------


def points(steps: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(steps + 1) for column in range(steps + 1)]


@pytest.mark.parametrize(("steps", "row", "column"), [(s, r, c) for s in (1, 2, 3) for r, c in points(s)])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_spans(steps: int, row: int, column: int, size: int) -> None:
    sizes, axes = sizes_for(2, size), chunked(size, ax.positions(size, steps))
    check(ops.Spans(steps, row, column), [axes], sizes)
    pair = infer(ops.Spans(steps, row, column), (axes,))[0]
    check(ops.SpansAdjoint(steps, row, column), [pair], sizes)


@pytest.mark.parametrize(("steps", "row", "column"), [(s, r, c) for s in (1, 2) for r, c in points(s)])
@pytest.mark.parametrize("diagonal", [0, -1])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("batch", ["B", "1"])
def test_decay_dot(steps: int, row: int, column: int, diagonal: int, size: int, batch: str) -> None:
    sizes, position = sizes_for(2, size), ax.positions(size)
    types = [
        chunked(size, position, "K"),
        chunked(size, position, "K"),
        (batch, "H", ax.chunks(size), ax.positions(size, steps), "K"),
    ]
    op = ops.DecayDot(steps, row, column, diagonal)
    decays = -random_value(types[2], sizes, 9).abs()
    check(op, types, sizes, x2=decays)
    back = ops.DecayDotAdjoint(steps, row, column, diagonal)
    check(back, [*infer(op, tuple(types)), *types], sizes, x3=decays)


def test_decay_dot_of_decays_beyond_the_range_of_exp() -> None:
    sizes = sizes_for(2, 8)
    types = [chunked(8, "C8", "K"), chunked(8, "C8", "K"), chunked(8, "C8", "K")]
    decays = -1e3 * random_value(types[2], sizes, 9).abs()
    check(ops.DecayDot(1, 1, 1, 0), types, sizes, x2=decays)
    back = ops.DecayDotAdjoint(1, 1, 1, 0)
    check(back, [*infer(ops.DecayDot(1, 1, 1, 0), tuple(types)), *types], sizes, x3=decays)


@hierarchies
@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_select(base: int, admissibility: Admissibility, exponent: int) -> None:
    size = min(base**exponent, 27)
    sizes, position = sizes_for(2, size, base, admissibility), ax.positions(size)
    check(ops.Select(base, admissibility), [chunked(size, position, "L")], sizes)
    pair = chunked(size, position, position)
    x = random_value(pair, sizes, 0)
    expected = Interpreter(sizes).step(ops.SelectAdjoint(base, admissibility), [x], [pair])[0]
    assert_near(torch_ops.select_adjoint(x, sizes["L"], base, admissibility), expected, 1e-12)


# -- the graph between chunks -------------------------------------------------------------------------------------


@operators
@every_count
@pytest.mark.parametrize("base", [2, 3, 5])
@pytest.mark.parametrize("heads", ["H", "1"])
def test_tree(operator: str, count: int, base: int, heads: str) -> None:
    sizes = sizes_for(count, base)
    types = [chunked(base, *OPERATORS[operator], heads=heads), chunked(base, "K", "V")]
    check(ops.Tree(base), types, sizes)
    nodes = list(infer(ops.Tree(base), tuple(types)))
    leaves = [x / 2 for x in values(types, sizes)]
    ea, eh = Interpreter(sizes).step(ops.Tree(base), leaves, types)
    check(ops.TreeAdjoint(base), [*nodes, *nodes], sizes, x0=ea, x1=eh)


@operators
@hierarchies
@every_count
@pytest.mark.parametrize(("exponent", "heads"), [(0, "1"), (1, "H")])
def test_walk(operator: str, base: int, admissibility: Admissibility, count: int, exponent: int, heads: str) -> None:
    size = base**exponent
    sizes = sizes_for(count, size, base, admissibility)
    leaf_types = [chunked(size, *OPERATORS[operator], heads=heads), chunked(size, "K", "V")]
    ea, eh = Interpreter(sizes).step(ops.Tree(base), values(leaf_types, sizes), leaf_types)
    position = ax.positions(size)
    types = [chunked(size, position, "K"), *infer(ops.Tree(base), tuple(leaf_types)), chunked(size, position, "L")]
    op, back = ops.Walk(base, admissibility), ops.WalkAdjoint(base, admissibility)
    check(op, types, sizes, x1=ea, x2=eh)
    # the interpreter walks leaves, the torch operation whole blocks: their gradients meet at the leaves
    do = random_value(infer(op, tuple(types))[0], sizes, 7)
    r, lam = random_value(types[0], sizes, 5), random_value(types[3], sizes, 6)
    made = torch_ops.walk_adjoint(do, r, ea, eh, lam, base, admissibility, matrix=operator == "matrix")
    expected = Interpreter(sizes).step(back, [do, r, ea, eh, lam], [infer(op, tuple(types))[0], *types])
    for place in (0, 3):
        assert_near(made[place], expected[place], 1e-12)
    down = ops.TreeAdjoint(base)
    node_types = [*types[1:3], *types[1:3]]
    at_leaves = [Interpreter(sizes).step(down, [ea, eh, *grads[1:3]], node_types) for grads in (made, expected)]
    for actual, wanted in zip(*at_leaves, strict=True):
        assert_near(actual, wanted, 1e-12, rounding=1.0)


@operators
@hierarchies
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("lags", "width"), [(1, None), (1, 2), (2, 5), (3, 9), (9, 30)])
@pytest.mark.parametrize("weighted", [False, True])
def test_band(
    operator: str,
    base: int,
    admissibility: Admissibility,
    count: int,
    lags: int,
    width: int | None,
    weighted: bool,
) -> None:
    size = base
    sizes, position = sizes_for(count, size, base, admissibility), ax.positions(base)
    types = [
        chunked(size, position, "K"),
        chunked(size, *OPERATORS[operator]),
        chunked(size, position, "K"),
        chunked(size, position, "V"),
    ]
    types += [chunked(size, position, "L")] if weighted else []
    missing = [] if weighted else [None]
    op, back = ops.Band(lags, width, base, admissibility), ops.BandAdjoint(lags, width, base, admissibility)
    check(op, types, sizes, *missing)
    adjoint(op, back, types, sizes, *missing)


@operators
def test_one_channel(operator: str) -> None:
    """Where K is 1 the three kinds of operators have one shape, and only matrices are no logs."""
    sizes = sizes_for(5, 2) | {"K": 1}
    types = [chunked(2, *OPERATORS[operator]), chunked(2, "K", "V")]
    solved = [chunked(2, "C2", axis) for axis in ("K", "K", "V", "C2")]
    check(ops.Scan(), types, sizes)
    check(ops.Scan(reverse=True), types, sizes)
    if operator != "matrix":
        check(ops.SolvedScan(), [types[0], *solved], sizes)
    check(ops.Tree(2), types, sizes)
    nodes = Interpreter(sizes).step(ops.Tree(2), values(types, sizes), types)
    node_types = list(infer(ops.Tree(2), tuple(types)))
    check(ops.TreeAdjoint(2), [*node_types, *node_types], sizes, x0=nodes[0], x1=nodes[1])
    rows, out = chunked(2, "C2", "K"), chunked(2, "C2", "V")
    read = [rows, *node_types, chunked(2, "C2", "L")]
    check(ops.Walk(2, "weak"), read, sizes, x1=nodes[0], x2=nodes[1])
    banded = [rows, types[0], rows, out]
    check(ops.Band(3, None, 2, "weak"), banded, sizes, None)
    adjoint(ops.Band(3, None, 2, "weak"), ops.BandAdjoint(3, None, 2, "weak"), banded, sizes, None)


@pytest.mark.parametrize("operator", ["number", "diagonal"])
def test_logs_beyond_the_range_of_exp_forget_everything(operator: str) -> None:
    sizes = sizes_for(7, 2)
    types = [chunked(2, *OPERATORS[operator]), chunked(2, "K", "V")]
    logs = random_value(types[0], sizes, 0)
    logs = -1e4 * (logs < 0).double()
    assert logs.unique().tolist() == [-1e4, 0]
    check(ops.Scan(), types, sizes, x0=logs)
    check(ops.Scan(reverse=True), types, sizes, x0=logs)
    solved = [chunked(2, "C2", axis) for axis in ("K", "K", "V", "C2")]
    check(ops.SolvedScan(), [types[0], *solved], sizes, x0=logs)
    check(ops.Tree(2), types, sizes, x0=logs)
    nodes = Interpreter(sizes).step(ops.Tree(2), [logs, values(types, sizes)[1]], types)
    node_types = list(infer(ops.Tree(2), tuple(types)))
    check(ops.TreeAdjoint(2), [*node_types, *node_types], sizes, x0=nodes[0], x1=nodes[1])
    read = [chunked(2, "C2", "K"), *node_types, chunked(2, "C2", "L")]
    check(ops.Walk(2, "weak"), read, sizes, x1=nodes[0], x2=nodes[1])
    d_nodes = [random_value(infer(ops.Walk(2, "weak"), tuple(read))[0], sizes, 7), *values(read, sizes)]
    d_nodes[2:4] = nodes
    assert all(x.isfinite().all() for x in torch_ops.walk_adjoint(*d_nodes, 2, "weak"))
    banded = [chunked(2, "C2", "K"), types[0], chunked(2, "C2", "K"), chunked(2, "C2", "V")]
    back = ops.BandAdjoint(3, None, 2, "weak")
    check(back, [*infer(ops.Band(3, None, 2, "weak"), tuple(banded)), *banded], sizes, None, x2=logs)


@pytest.mark.parametrize("heads", ["H", "1"])
def test_band_of_shared_operands(heads: str) -> None:
    sizes = sizes_for(4, 2)
    types: list[Axes] = [
        ("1", heads, "N2", "C2", "K"),
        ("1", heads, "N2", "1", "1"),
        ("B", heads, "N2", "C2", "K"),
        ("B", "H", "N2", "C2", "V"),
    ]
    check(ops.Band(2, 4, 2, "weak"), types, sizes, None)
    adjoint(ops.Band(2, 4, 2, "weak"), ops.BandAdjoint(2, 4, 2, "weak"), types, sizes, None)


# -- the state of a step ------------------------------------------------------------------------------------------

AGES = torch.tensor([0, 1, 2, 3, 5, 7, 8, 25, 26, 63, 80])


def kept(rows: int, base: int, admissibility: Admissibility) -> Tensor:
    """Random rows of states at AGES, [B, H, M, K, V], zero where no position is."""
    states = torch.randn(len(AGES), HEADS, rows, K, V, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for state, age in zip(states, AGES.tolist(), strict=True):
        there = {level(age, s, base, admissibility) for s in range(age)}
        state[:, [row for row in range(rows) if row + 1 not in there]] = 0
    return states


@hierarchies
@pytest.mark.parametrize("rows", [0, 1, 3, 8])
@pytest.mark.parametrize("new", [("B", "H"), ("1", "1")])
def test_regroup(base: int, admissibility: Admissibility, rows: int, new: tuple[str, str]) -> None:
    sizes = {"B": len(AGES), "T": 1, "H": HEADS, "K": K, "V": V, "L": rows + 1}
    types: list[Axes] = [("B",), (*new, "1", "K", "V"), ("B", "H", "M", "K", "V")]
    check(ops.Regroup(base, admissibility), types, sizes, x0=AGES, x2=kept(rows, base, admissibility))


@hierarchies
@pytest.mark.parametrize("rows", [0, 1, 3, 8])
@pytest.mark.parametrize("operator", ["number", "diagonal"])
@pytest.mark.parametrize("scale", [0.1, 5, 1e9])
def test_regroup_with_logs(base: int, admissibility: Admissibility, rows: int, operator: str, scale: float) -> None:
    """What is meant is the same, and logs that meet become one that is as large as any of them."""
    sizes = {"B": len(AGES), "T": 1, "H": HEADS, "K": K, "V": V, "L": rows + 1}
    types: list[Axes] = [("B",), ("B", "H", "1", "K", "V"), ("B", "H", "M", "K", "V")]
    types.append(("B", "H", "M", *OPERATORS[operator]))
    states, new = kept(rows, base, admissibility), random_value(types[1], sizes, 1)
    logs = -scale * random_value(types[3], sizes, 9).abs()
    op = ops.Regroup(base, admissibility)
    wanted, wanted_logs = Interpreter(sizes).step(op, [AGES, new, states, logs], types)
    made, made_logs = torch_ops.regroup(AGES, new, states, logs, base, admissibility)
    assert (made.shape, made_logs.shape) == (wanted.shape, wanted_logs.shape)
    assert_near(made_logs.exp() * made, wanted_logs.exp() * wanted, 1e-12)
    assert made.isfinite().all()
    assert (made_logs <= 0).all()
    # nothing grows but by adding up
    assert (made.abs() <= states.abs().sum(2, keepdim=True) + new.abs() + 1e-12).all()


@pytest.mark.parametrize("slots", [1, 2, 7, 64])
@pytest.mark.parametrize("entry", [("B", "H", "1", "1", "K"), ("1", "1", "1", "1", "1")])
def test_enter(slots: int, entry: Axes) -> None:
    sizes = {"B": len(AGES), "T": 1, "H": HEADS, "K": K}
    check(ops.Enter(), [("B",), ("B", "H", "1", ax.slots(slots), "K"), entry], sizes, x0=AGES)


@hierarchies
@pytest.mark.parametrize("slots", [1, 2, 7, 64])
@pytest.mark.parametrize("batch", ["B", "1"])
def test_select_slots(base: int, admissibility: Admissibility, slots: int, batch: str) -> None:
    for more in (0, 3):
        count = levels(int(AGES.max()) + 1, base, admissibility) + more
        sizes = {"B": len(AGES), "T": 1, "H": HEADS, "L": count}
        op = ops.SelectSlots(slots, base, admissibility)
        check(op, [("B",), (batch, "H", "1", "1", "L")], sizes, x0=AGES)


@hierarchies
def test_positions_beyond_32_bits(base: int, admissibility: Admissibility) -> None:
    far = torch.tensor([2**31 - 1, 2**31, 3**20 - 1, 5**14 - 1, 2**40 + 5])
    sizes = {"B": len(far), "T": 1, "H": 1, "K": 1, "V": 1, "L": 43}
    types: list[Axes] = [("B",), ("B", "H", "1", "K", "V"), ("B", "H", "M", "K", "V")]
    states = random_value(types[2], sizes, 2)
    for state, pos in zip(states, far.tolist(), strict=True):
        state[:, level(pos, 0, base, admissibility) :] = 0
    check(ops.Regroup(base, admissibility), types, sizes, x0=far, x2=states)
    check(ops.SelectSlots(5, base, admissibility), [("B",), ("B", "H", "1", "1", "L")], sizes, x0=far)


# -- sequences in slots -------------------------------------------------------------------------------------------

SEQUENCES = {
    "whole rows": Sequences(((0, 11), (0, 11)), ((0,), (0,))),
    "rows resumed": Sequences(((0, 11), (0, 11)), ((5,), (30,))),
    "alone in a capacity": Sequences(((0, 5), (0, 8)), ((3,), (0,))),
    "packed": Sequences(((0, 0, 3, 3, 9), (0, 1, 9, 11, 11)), ((4, 0, 7, 2), (0, 13, 3, 9))),
    "nothing": Sequences(((0, 0, 0), (0, 0, 0)), ((2, 0), (0, 7))),
}
every_layout = pytest.mark.parametrize("layout", SEQUENCES)
LENGTH = 11


def layout_of(sequences: Sequences, length: int = LENGTH) -> Layout:
    whole = all(bounds == (0, length) for bounds in sequences.bounds)
    bounds = None if whole else torch.tensor(sequences.bounds)
    return Layout(torch.tensor(sequences.positions), length, bounds)


def laid_sizes(sequences: Sequences, levels: int) -> dict[str, int]:
    return {"B": 2, "T": LENGTH, "H": HEADS, "K": K, "V": V, "L": levels, "S": len(sequences.positions[0])}


def laid_values(types: list[Axes], sizes: dict[str, int], sequences: Sequences) -> list[Tensor]:
    """Operands at random, rows without a token zero."""
    found = []
    for x, axes in zip(values(types, sizes), types, strict=True):
        if axes[2].startswith("N") and axes[3].startswith("C"):
            size = ax.chunk_size(axes[2])
            held = lay(torch.ones(2, sizes["T"], 1), sequences, size, x.shape[2])[..., None]
            x = x * held.repeat_interleave(x.shape[3] // size, 3)
        found.append(x)
    return found


def check_laid(op: Operation, types: list[Axes], sizes: dict[str, int], sequences: Sequences) -> None:
    """`check` for an operation of laid-out programs, and the same for its adjoint."""
    least, results = ops.HANDING[type(op)]
    back = {ops.Relay: ops.RelayAdjoint, ops.Slide: ops.SlideAdjoint}[type(op)](**vars(op))
    operands = laid_values(types, sizes, sequences)
    grads = laid_values(list(infer(op, tuple(types)))[::-1], sizes, sequences)[::-1]
    slots = layout_of(sequences, sizes["T"]).slots(ax.chunk_size(types[0][3]))
    for each, given, fixed in ((op, operands, least), (back, grads + operands, least + results)):
        given_types = types if each is op else [*infer(op, tuple(types)), *types]
        expected = Interpreter(sizes, sequences).step(each, [x.clone() for x in given], given_types)
        before = [x.clone() for x in given]
        every = [*given[:fixed], *ops.optional(given[fixed:])]
        made = getattr(torch_ops, function_of(each))(slots, *every, **vars(each))
        assert len(made) == len(expected)
        for actual, wanted in zip(made, expected, strict=True):
            assert_near(actual, wanted, 1e-12, rounding=1.0)
        for x, same in zip(given, before, strict=True):
            assert torch.equal(x, same), "an operand was changed in place"


@every_layout
@pytest.mark.parametrize("size", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("feature", [(), ("K",)])
def test_lay_and_unlay(layout: str, size: int, feature: tuple[str, ...]) -> None:
    sequences = SEQUENCES[layout]
    sizes, slots = laid_sizes(sequences, 1), layout_of(sequences).slots(size)
    tokens: Axes = ("B", "T", "H", *feature)
    x = random_value(tokens, sizes, 0)
    (expected,) = Interpreter(sizes, sequences).step(ops.Lay(size), [x], [tokens])
    torch.testing.assert_close(torch_ops.lay(x, slots), expected)
    rows = infer(ops.Lay(size), (tokens,))[0]
    y = random_value(rows, sizes, 1)
    (expected,) = Interpreter(sizes, sequences).step(ops.Unlay(size), [y], [rows])
    torch.testing.assert_close(torch_ops.unlay(y, slots), expected)


@pytest.mark.parametrize("operator", ["number", "diagonal"])
@pytest.mark.parametrize("reflecting", [False, True])
@every_layout
@pytest.mark.parametrize("heads", ["H", "1"])
def test_relay(operator: str, reflecting: bool, layout: str, heads: str) -> None:
    sequences = SEQUENCES[layout]
    rows, own = chunked(4, "C4", "K"), chunked(4, "C4", "K", heads=heads)
    types = [rows, chunked(4, *OPERATORS[operator], heads=heads), own, chunked(4, "C4", "V"), ("B", "H", "S", "K", "V")]
    types += [chunked(4, "C4*2", "K"), chunked(4, "C4*2", "K", heads=heads)] if reflecting else []
    check_laid(ops.Relay(2, "weak"), types, laid_sizes(sequences, 1), sequences)


@pytest.mark.parametrize("operator", ["number", "diagonal"])
@every_layout
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("writes", "initial", "final"), [(True, True, True), (False, True, False), (False, False, True)]
)
def test_scan_that_solves_systems_of_sequences(
    operator: str, layout: str, reverse: bool, writes: bool, initial: bool, final: bool
) -> None:
    sequences, rows = SEQUENCES[layout], ax.positions(4, 2)
    sizes, op = laid_sizes(sequences, 1), ops.SolvedScan(reverse, initial, final)
    factor = chunked(4, rows, "K")
    types = [chunked(4, *OPERATORS[operator]), factor, factor, chunked(4, rows, "V"), chunked(4, rows, rows)]
    types += [chunked(4, "K", "V")] if writes else []
    types += [("B", "H", "S", "K", "V")] if initial else []
    x = laid_values(types, sizes, sequences)
    expected = Interpreter(sizes, sequences).step(op, x, types)
    slots = layout_of(sequences).slots(4)
    made = torch_ops.solved_scan(*x[:5], *op.rest(x), reverse=reverse, final=final, slots=slots)
    assert len(made) == len(expected) == 2 + final
    for actual, wanted in zip(made, expected, strict=True):
        assert_near(actual, wanted, 1e-12, rounding=1.0)


@hierarchies
@pytest.mark.parametrize("reflecting", [False, True])
@every_layout
@pytest.mark.parametrize(("exponent", "levels"), [(0, 7), (1, 7), (2, 7), (1, 3), (1, 1)])
def test_relay_by_level(
    base: int, admissibility: Admissibility, reflecting: bool, layout: str, exponent: int, levels: int
) -> None:
    """With levels for every position, too few (what has none is dropped), and none."""
    size = base**exponent
    sequences, position = SEQUENCES[layout], ax.positions(size)
    types = [chunked(size, position, "K"), chunked(size, "K", "1"), chunked(size, position, "K")]
    types += [chunked(size, position, "V"), ("1", "1", "1", "M", "K", "V"), chunked(size, position, "L")]
    types += [chunked(size, position, "K")] * 2 if reflecting else []
    check_laid(ops.Relay(base, admissibility), types, laid_sizes(sequences, levels), sequences)


@hierarchies
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("operator", "reflecting"), [("number", False), ("diagonal", True)])
@every_layout
@pytest.mark.parametrize(("exponent", "width"), [(0, 2), (1, 4), (1, 20), (2, 7)])
def test_slide(
    base: int,
    admissibility: Admissibility,
    weighted: bool,
    operator: str,
    reflecting: bool,
    layout: str,
    exponent: int,
    width: int,
) -> None:
    size = base**exponent
    sequences, position, kept = SEQUENCES[layout], ax.positions(size), ax.slots(width - 1)
    types = [chunked(size, position, "K"), chunked(size, *OPERATORS[operator]), chunked(size, position, "K")]
    types += [chunked(size, position, "V"), ("B", "H", "S", kept, "K"), ("1", "1", "1", kept, "V")]
    types += [chunked(size, position, "L")] if weighted else []
    types += [chunked(size, position, "K")] * 2 if reflecting else []
    check_laid(ops.Slide(width, base, admissibility), types, laid_sizes(sequences, 7), sequences)


def test_more_slots_than_a_run() -> None:
    """Memories are formed again from the start of each run: ops.RelayAdjoint(...), ops.SlideAdjoint(...)."""
    sequences = Sequences(((0, 20, 37), (0, 0, 40)), ((3, 0), (7, 100)))
    sizes = laid_sizes(sequences, 8) | {"T": 40}
    assert layout_of(sequences, 40).slots(1).count > 2 * RUN
    rows, values, lam = chunked(1, "C1", "K"), chunked(1, "C1", "V"), chunked(1, "C1", "L")
    types: list[Axes] = [rows, chunked(1, "1", "1"), rows, values]
    check_laid(ops.Relay(2, "weak"), [*types, ("B", "H", "S", "M", "K", "V"), lam], sizes, sequences)
    types += [("B", "H", "S", "R4", "K"), ("B", "H", "S", "R4", "V")]
    check_laid(ops.Slide(5, 2, "weak"), types, sizes, sequences)


def test_every_operation_is_tested_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    names = {name: "".join(part.title() for part in name.split("_")) for name in torch_ops.__all__}
    assert [name for name, operation in names.items() if f"ops.{operation}(" not in source] == []
