"""The adjoint of every operation, in a small program, against autograd through the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sympy
import torch
from compilation import assert_near, random_value

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Builder, Instruction, Program
from maskdsl.chunk.sequences import Sequences
from maskdsl.differentiation.adjoints import Adjoints
from maskdsl.differentiation.differentiate import differentiate
from maskdsl.mask.levels import levels
from maskdsl.scalar.functions import sigmoid, softplus
from maskdsl.scalar.symbols import dimension

X0, X1, X2 = (ops.argument(i) for i in range(3))
SIZES = {"B": 2, "T": 7, "H": 6, "K": 3, "V": 5, "L": levels(8, 2, "strong") + 1}

TOKENS: Axes = ("B", "T", "H")
KEYS: Axes = ("B", "T", "H", "K")
GATES: Axes = ("B", "H", "N2", "C2")
ROWS: Axes = ("B", "H", "N2", "C2", "K")
PAIRS: Axes = ("B", "H", "N2", "C2", "C2")
LEVELS: Axes = ("B", "H", "N2", "C2", "L")
VALUES: Axes = ("B", "H", "N2", "C2", "V")
STATES: Axes = ("B", "H", "N2", "K", "V")
MEMORY: Axes = ("B", "H", "S", "K", "V")
SMALL: Axes = ("1", "H", "N2", "C2", "K")
OPERATORS: dict[str, Axes] = {
    "number": ("B", "H", "N2", "1", "1"),
    "shared number": ("1", "1", "N2", "1", "1"),
    "diagonal": ("B", "H", "N2", "K", "1"),
    "matrix": ("B", "H", "N2", "K", "K"),
}


def woven(steps: int) -> Axes:
    return ("B", "H", "N2", ax.positions(2, steps))


CASES: list[tuple[str, Operation, tuple[Axes, ...]]] = [
    ("align", ops.Align(("B", "1", "T", "H")), (TOKENS,)),
    ("expand", ops.Expand(KEYS), (("1", "T", "1", "K"),)),
    ("repeat", ops.Repeat(2), (("B", "T", "H/3", "K"),)),
    ("group sum", ops.GroupSum(3, 2), (KEYS,)),
    ("chunk", ops.Chunk(2), (KEYS,)),
    ("unchunk", ops.Unchunk(2), (ROWS,)),
    ("cast", ops.Cast(wide=True), (ROWS,)),
    ("shift", ops.Shift(1), (ROWS,)),
    ("shift back", ops.Shift(-2), (ROWS,)),
    ("transpose", ops.Transpose(), (ROWS,)),
    ("weave", ops.Weave(3), (ROWS, ROWS)),
    ("pick", ops.Pick(1, 3, 3), (woven(3),)),
    ("place", ops.Place(2, 3, 3), (GATES,)),
    ("map", ops.Map(sympy.exp(X0) * sigmoid(X1) / dimension("K") + X2), (KEYS, ("B", "1", "H", "1"), KEYS)),
    ("map of one", ops.Map(softplus(X0) ** 2), (("1", "1", "H"),)),
    ("map of an operand of no effect", ops.Map(X0 + 0 * X1), (TOKENS, TOKENS)),
    ("sum", ops.Sum((0, 3)), (KEYS,)),
    ("dot", ops.Dot(), (ROWS, STATES)),
    ("dot xt", ops.Dot(transpose_x=True), (ROWS, VALUES)),
    ("dot ty", ops.Dot(transpose_y=True), (ROWS, ROWS)),
    (
        "dot xt yt",
        ops.Dot(transpose_x=True, transpose_y=True),
        (("B", "H", "N2", "K", "C2"), ("B", "H", "N2", "V", "K")),
    ),
    ("dot of broadcast operands", ops.Dot(transpose_y=True), (SMALL, ("B", "1", "1", "C2", "K"))),
    ("dot of broadcast operands xt", ops.Dot(transpose_x=True), (SMALL, ("B", "1", "1", "C2", "V"))),
    *((f"cumsum {r} {e}", ops.Cumsum(r, e), (ROWS,)) for r in (False, True) for e in (False, True)),
    ("tril", ops.Tril(-1), (PAIRS,)),
    ("near", ops.Near(1), (PAIRS,)),
    *((f"spans {r} {c}", ops.Spans(2, r, c), (woven(2),)) for r in range(3) for c in range(3)),
    *((f"decay dot {r} {c} {d}", ops.DecayDot(1, r, c, d), (ROWS, SMALL, ROWS)) for r, c, d in ((1, 1, 0), (0, 1, -1))),
    ("select", ops.Select(2, "weak"), (LEVELS,)),
    ("select strong", ops.Select(2, "strong"), (LEVELS,)),
    *((f"scan of {kind}", ops.Scan(), (axes, STATES)) for kind, axes in OPERATORS.items()),
    *(
        (f"scan of {kind} that hands on", ops.Scan(initial=True, final=True), (axes, STATES, MEMORY))
        for kind, axes in OPERATORS.items()
    ),
    ("scan from a state", ops.Scan(initial=True), (OPERATORS["shared number"], STATES, MEMORY)),
    ("scan to a state", ops.Scan(final=True), (OPERATORS["diagonal"], STATES)),
    *((f"tree of {kind}", ops.Tree(2), (axes, STATES)) for kind, axes in OPERATORS.items()),
    *((f"band of {kind}", ops.Band(2, 4, 2, "weak"), (ROWS, axes, SMALL, VALUES)) for kind, axes in OPERATORS.items()),
    ("weighted band", ops.Band(1, None, 2, "strong"), (ROWS, OPERATORS["matrix"], ROWS, VALUES, LEVELS)),
]

BY_LEVEL: Axes = ("B", "H", "S", "M", "K", "V")
KEPT: tuple[Axes, Axes] = (("B", "H", "S", "R3", "K"), ("B", "H", "S", "R3", "V"))
SHARED: tuple[Axes, ...] = (SMALL, OPERATORS["shared number"], ROWS, VALUES)

LAID: list[tuple[str, Operation, tuple[Axes, ...]]] = [
    ("lay", ops.Lay(2), (KEYS,)),
    ("unlay", ops.Unlay(2), (ROWS,)),
    *(
        (f"relay of {kind}", ops.Relay(2, "weak"), (ROWS, OPERATORS[kind], ROWS, VALUES, MEMORY))
        for kind in ("number", "diagonal")
    ),
    ("relay from one memory for all", ops.Relay(2, "weak"), (*SHARED, ("1", "1", "1", "K", "V"))),
    ("relay of rank-one steps", ops.Relay(2, "weak"), (*SHARED, MEMORY, ROWS, SMALL)),
    ("relay by level", ops.Relay(2, "weak"), (*SHARED, BY_LEVEL, LEVELS)),
    ("relay by level, strong", ops.Relay(2, "strong"), (*SHARED, BY_LEVEL, LEVELS, ROWS, ROWS)),
    ("slide", ops.Slide(4, 2, "weak"), (*SHARED, *KEPT)),
    ("slide of diagonals", ops.Slide(4, 2, "weak"), (ROWS, OPERATORS["diagonal"], SMALL, VALUES, *KEPT)),
    *(
        (f"band of {kind} from before", ops.Band(2, 4, 2, "weak", initial=True), (ROWS, axes, ROWS, VALUES, *KEPT))
        for kind, axes in OPERATORS.items()
        if kind != "matrix"
    ),
    ("weighted band from before", ops.Band(2, 4, 2, "strong", initial=True), (*SHARED, LEVELS, *KEPT)),
    ("weighted band of sequences", ops.Band(2, 4, 2, "weak"), (*SHARED, LEVELS)),
    ("keep", ops.Keep(4), SHARED[1:]),
    ("keep of diagonals and of what came before", ops.Keep(4, True), (OPERATORS["diagonal"], ROWS, VALUES, *KEPT)),
    ("slide by level of rank-one steps", ops.Slide(4, 2, "strong"), (*SHARED, *KEPT, LEVELS, SMALL, ROWS)),
]
SEQUENCES = Sequences(((0, 4, 4, 7), (0, 2, 6, 6)), ((0, 3, 1), (5, 2, 0)))


ROWS_OF_3: Axes = ("B", "H", "N3", "C3", "K")


def program_of(op: Operation, types: tuple[Axes, ...], strictly_lower: bool = False) -> Program:
    """Loads of these types, the operation, and all its results put out."""
    build = Builder("test")
    operands = [build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate(types)]
    if strictly_lower:
        operands = [build(ops.Tril(-1), x, name="lower") for x in operands]
    results = build.apply(op, *operands, name="y")
    return build.program([(f"y{i}", y) for i, y in enumerate(results)])


def assert_adjoint(program: Program, sequences: Sequences | None = None) -> None:
    """The gradients of the joint program are those of autograd through the interpreted one."""
    types = program.types
    sizes = SIZES if sequences is None else SIZES | {"S": len(sequences.positions[0])}
    inputs = {load.name: random_value(load.axes, sizes, seed) / 2 for seed, load in enumerate(program.loads)}
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    outputs = interpret(program, leaves, sizes, sequences)
    grads = {name: random_value(types[value], sizes, 90 + n) for n, (name, value) in enumerate(program.outputs)}
    connected = {name: y for name, y in outputs.items() if y.requires_grad}
    cotangents = [grads[name] for name in connected]
    expected = torch.autograd.grad(list(connected.values()), list(leaves.values()), cotangents, allow_unused=True)
    known = {name: x.detach() for name, x in leaves.items()} | {f"d_{name}": g for name, g in grads.items()}
    made = interpret(differentiate(program), known, sizes, sequences)
    for (name, x), gradient in zip(leaves.items(), expected, strict=True):
        assert_near(made[f"d_{name}"], torch.zeros_like(x) if gradient is None else gradient, 1e-11)


@pytest.mark.parametrize(("op", "types"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_adjoint(op: Operation, types: tuple[Axes, ...]) -> None:
    assert_adjoint(program_of(op, types))


@pytest.mark.parametrize(("op", "types"), [case[1:] for case in LAID], ids=[case[0] for case in LAID])
def test_adjoint_over_sequences(op: Operation, types: tuple[Axes, ...]) -> None:
    assert_adjoint(program_of(op, types), SEQUENCES)


def test_a_gradient_of_the_final_memory_alone() -> None:
    """Where the output of a relay is not used, its gradient is zero and that of the memory goes its way."""
    build = Builder("test")
    types = (ROWS, OPERATORS["number"], ROWS, VALUES, MEMORY)
    operands = [build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate(types)]
    _, final = build.apply(ops.Relay(2, "weak"), *operands, name="y")
    assert_adjoint(build.program([("final", final)]), SEQUENCES)


def test_adjoint_of_the_inverse() -> None:
    assert_adjoint(program_of(ops.Inverse(), (("B", "H", "N3", "C3", "C3"),), strictly_lower=True))


@pytest.mark.parametrize(
    ("op", "inverse_first"),
    [(ops.Dot(), True), (ops.Dot(True), True), (ops.Dot(), False), (ops.Dot(False, True), True)],
)
def test_adjoint_of_products_with_an_inverse(op: ops.Dot, inverse_first: bool) -> None:
    """Solved from the left, from the left transposed, from the right, and a product that is not solved as one."""
    build = Builder("test")
    pairs = ("B", "H", "N3", "C3", "C3")
    lower, x = (build(ops.Load(name, pairs), name=name) for name in ("x0", "x1"))
    system = build(ops.Tril(-1), lower, name="system")
    inverse = build(ops.Inverse(), system, name="inverse")
    product = build(op, *((inverse, x) if inverse_first else (x, inverse)), name="product")
    assert_adjoint(build.program([("o", product)]))


def test_a_solution_is_what_the_gradient_of_its_system_is_made_of() -> None:
    """Two products with the inverse, and none with a gradient of the inverse."""
    build = Builder("test")
    pairs = ("B", "H", "N3", "C3", "C3")
    system, x = build(ops.Load("x0", pairs), name="x0"), build(ops.Load("x1", ROWS_OF_3), name="x1")
    solution = build(ops.Dot(), build(ops.Inverse(), system, name="inverse"), x, name="y")
    made = differentiate(build.program([("o", solution)]))
    reading = [i for i in made.instructions if isinstance(i.op, ops.Dot) and "inverse" in i.operands]
    assert [i.operands for i in reading] == [("inverse", "x1"), ("inverse", "d_o")]
    assert sum(isinstance(i.op, ops.Dot) for i in made.instructions) == 3


@pytest.mark.parametrize("kind", ["number", "shared number", "diagonal"])
@pytest.mark.parametrize("shared", ["", "a", "b", "x0", "v"])
@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_adjoint_of_a_scan_that_solves_systems(kind: str, shared: str, writes: bool, rounded: bool) -> None:
    """Of the system, that is: the scan takes its inverse. What is shared has one value for all batch rows."""
    build = Builder("test")
    types = {"a": ROWS, "b": ROWS, "v": VALUES, "x0": PAIRS}
    types |= {shared: ("1", *types[shared][1:])} if shared else {}
    operator = build(ops.Load("operator", OPERATORS[kind]), name="operator")
    a, b, v, x = (build(ops.Load(name, types[name]), name=name) for name in ("a", "b", "v", "x0"))
    inverse = build(ops.Inverse(), build(ops.Tril(-1), x, name="system"), name="inverse")
    if rounded:
        inverse = build(ops.Cast(wide=False), inverse, name="narrow")
    more = [build(ops.Load("h", STATES), name="h")] if writes else []
    states, answers = build.apply(ops.SolvedScan(), operator, a, b, v, inverse, *more, name="scan")
    assert_adjoint(build.program([("y0", states), ("y1", answers)]))
    more.append(build(ops.Load("i", MEMORY), name="i"))
    handing = ops.SolvedScan(initial=True, final=True)
    results = build.apply(handing, operator, a, b, v, inverse, *more, name="scan")
    assert_adjoint(build.program([(f"y{n}", y) for n, y in enumerate(results)]))


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(("base", "admissibility"), [(2, "weak"), (2, "strong"), (3, "weak")])
def test_adjoint_of_a_walk_over_a_tree(kind: str, base: int, admissibility: str) -> None:
    build = Builder("test")
    size = base if base == 3 else 1
    chunks, position = ax.chunks(size), ax.positions(size)
    types = [(*OPERATORS[kind][:2], chunks, *OPERATORS[kind][3:]), ("B", "H", chunks, "K", "V")]
    types += [("B", "H", chunks, position, "K"), ("B", "H", chunks, position, "L")]
    a, h, r, lam = (build(ops.Load(f"x{i}", axes), name=f"x{i}") for i, axes in enumerate(types))
    ea, eh = build.apply(ops.Tree(base), a, h, name="tree")
    walked = build(ops.Walk(base, admissibility), r, ea, eh, lam, name="walked")  # type: ignore[arg-type]
    assert_adjoint(build.program([("o", walked)]))


def test_the_forward_operations_are_all_here() -> None:
    adjoints = {kind for kind in Operation.__subclasses__() if kind.__name__.endswith("Adjoint")}
    # what a schedule makes of others is never differentiated
    elsewhere = {ops.Load, ops.Constant, ops.Identity, ops.Inverse, ops.SolvedScan, ops.Walk, ops.Resume, ops.DecayDots}
    # and neither is a step
    elsewhere |= {ops.Split, ops.Regroup, ops.Enter, ops.SelectSlots}
    assert {type(op) for _, op, _ in (*CASES, *LAID)} | elsewhere | adjoints == set(Operation.__subclasses__())


# -- whole programs -----------------------------------------------------------------------------------------------


def small(write: Callable[[Builder], list[tuple[str, str]]]) -> Program:
    build = Builder("test")
    return build.program(write(build))


def test_gradients_of_several_uses_and_several_outputs_add_up() -> None:
    def write(build: Builder) -> list[tuple[str, str]]:
        x = build(ops.Load("x", KEYS), name="x")
        square = build(ops.Map(X0 * X1), x, x, name="square")
        third = build(ops.Map(X0 + X1 * 3), square, x, name="third")
        return [("y0", third), ("y1", square), ("y2", square), ("y3", x)]

    assert_adjoint(small(write))


def test_constants_have_no_gradient_and_unused_results_one_of_zeros() -> None:
    def write(build: Builder) -> list[tuple[str, str]]:
        one = build(ops.Constant(sympy.S.One, ("1", "1", "N2", "1", "1")), name="one")
        h = build(ops.Load("x0", STATES), name="x0")
        _, blocks = build.apply(ops.Tree(2), one, h, name="tree")
        return [("o", blocks)]

    assert_adjoint(small(write))


def test_grouped_heads_get_the_sum_over_their_group() -> None:
    def write(build: Builder) -> list[tuple[str, str]]:
        q = build(ops.Load("q", ("B", "T", "H/3", "K")), name="q")
        chunks = build(ops.Chunk(2), q, name="chunks")
        scores = build(ops.Dot(transpose_y=True), chunks, chunks, name="scores")
        every = build(ops.Repeat(1), scores, name="every")
        gate = build(ops.Load("g", PAIRS), name="g")
        return [("o", build(ops.Map(X0 * X1), every, gate, name="gated"))]

    assert_adjoint(small(write))


def test_an_input_without_effect_has_a_gradient_of_zeros() -> None:
    load = Instruction(("x1",), ops.Load("x1", TOKENS), (), (TOKENS,))
    used = program_of(ops.Map(2 * X0), (TOKENS,))
    joint = differentiate(Program("test", (load, *used.instructions), used.outputs))
    assert [name for name, _ in joint.outputs] == ["y0", "d_x1", "d_x0"]
    given = {name: random_value(TOKENS, SIZES, 1) for name in ("x0", "x1", "d_y0")}
    made = interpret(joint, given, SIZES)
    assert made["d_x1"].count_nonzero() == 0
    torch.testing.assert_close(made["d_x0"], 2 * given["d_y0"])


def test_an_operation_without_an_adjoint_is_an_error() -> None:
    scan = Instruction(("p",), ops.Scan(reverse=True), ("a", "h"), (STATES,))
    with pytest.raises(TypeError, match="has no adjoint"):
        Adjoints(Builder("test")).of(scan, ["d"])
