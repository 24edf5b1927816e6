"""What operations ask of their operands, and the types that they give."""

from __future__ import annotations

import pytest

from maskdsl.chunk import ops
from maskdsl.chunk.infer import TypeMismatch, infer
from maskdsl.chunk.ops import Axes, Operation

X0, X1 = ops.argument(0), ops.argument(1)
TOKENS: Axes = ("B", "T", "H")
KEYS: Axes = ("B", "T", "H", "K")
ROWS: Axes = ("B", "H", "N2", "C2", "K")
VALUES: Axes = ("B", "H", "N2", "C2", "V")
GATES: Axes = ("B", "H", "N2", "C2")
PAIRS: Axes = ("B", "H", "N2", "C2", "C2")
LEVELS: Axes = ("B", "H", "N2", "C2", "L")
STATES: Axes = ("B", "H", "N2", "K", "V")
NUMBER: Axes = ("B", "H", "N2", "1", "1")
DIAGONAL: Axes = ("B", "H", "N2", "K", "1")
MATRIX: Axes = ("B", "H", "N2", "K", "K")
NODES: Axes = ("B", "H", "E2b2", "K", "V")
NODE_MATRIX: Axes = ("B", "H", "E2b2", "K", "K")
NODE_TYPES: tuple[Axes, Axes] = (("B", "H", "E2b2", "1", "1"), NODES)
POSITIONS: Axes = ("B",)
KEPT: Axes = ("B", "H", "M", "K", "V")
NEW: Axes = ("B", "H", "1", "K", "V")
RING: Axes = ("B", "H", "1", "R3", "K")
FINAL: Axes = ("B", "H", "S", "K", "V")
BY_LEVEL: Axes = ("B", "H", "S", "M", "K", "V")
WINDOW: tuple[Axes, Axes] = (("B", "H", "S", "R3", "K"), ("B", "H", "S", "R3", "V"))

REFUSED: list[tuple[Operation, tuple[Axes, ...], str]] = [
    (ops.Load("q", KEYS), (KEYS,), "it takes 0 operands"),
    (ops.Constant(X0, TOKENS), (TOKENS,), "it takes 0 operands"),
    (ops.Identity(), (KEYS,), "it takes 0 operands"),
    (ops.Align(("B", "T", "1", "K")), (("B", "T", "V"),), "the same named axes"),
    (ops.Align(("T", "B")), (("B", "T"),), "the same named axes"),
    (ops.Expand(("B", "T", "V")), (("B", "T", "K"),), "axes K and V do not broadcast"),
    (ops.Expand(("B", "1")), (("B", "T"),), "axes that broadcast to the result"),
    (ops.Repeat(2), (KEYS,), "a key-side head axis"),
    (ops.GroupSum(2, 2), (("B", "T", "H/2", "K"),), "a full head axis"),
    (ops.Chunk(2), (ROWS,), "a token axis"),
    (ops.Chunk(2), (("B", "1", "H"),), "a token axis"),
    (ops.Unchunk(3), (ROWS,), "chunks of 3"),
    (ops.Cast(wide=True), (KEYS, KEYS), "1 operands"),
    (ops.Shift(1), (KEYS,), "a chunk axis"),
    (ops.Transpose(), (("B",),), "out of range"),
    (ops.Transpose(), (), "it takes 1 operands"),
    (ops.Weave(3), (ROWS, VALUES), "operands of one type"),
    (ops.Weave(3), (), "it takes operands"),
    (ops.Weave(4), (ROWS, ROWS), "invalid literal"),
    (ops.Pick(0, 2, 3), (ROWS,), "a woven axis"),
    (ops.Place(0, 2, 4), (ROWS,), "invalid literal"),
    (ops.Map(X0 + X1), (GATES,), "an operand for every argument"),
    (ops.Map(X0), (), "it takes operands"),
    (ops.Map(X0 + X1), (ROWS, VALUES), "axes K and V do not broadcast"),
    (ops.Map(X0 + X1), (ROWS, GATES), "is shorter"),
    (ops.Sum((4,)), (GATES,), "the axes to sum over"),
    (ops.Dot(), (ROWS, ROWS), "matching inner axes"),
    (ops.Dot(transpose_y=True), (ROWS, VALUES), "matching inner axes"),
    (ops.Dot(), (ROWS, STATES, STATES), "it takes 2 operands"),
    (ops.Dot(), (ROWS, ("B", "H/2", "N2", "K", "V")), "axes H and H/2 do not broadcast"),
    (ops.Cumsum(), (KEYS,), "a position axis"),
    (ops.Inverse(), (ROWS,), "a square system"),
    (ops.Spans(2, 0, 0), (GATES,), "2 decays a position"),
    (ops.SpansAdjoint(1, 0, 0), (ROWS,), "pairs of positions"),
    (ops.DecayDot(2, 0, 0, 0), (ROWS, ROWS, ROWS), "vectors and decays of the same channels"),
    (ops.DecayDot(1, 0, 0, 0), (ROWS, VALUES, ROWS), "vectors and decays of the same channels"),
    (ops.DecayDots(1, 0, 0), (ROWS, VALUES, ROWS, ROWS), "queries of one type"),
    (ops.DecayDotAdjoint(1, 0, 0, 0), (ROWS, ROWS, ROWS, ROWS), "a gradient of the result's type"),
    (ops.Tril(), (ROWS,), "a pair of position axes"),
    (ops.Near(1), (STATES,), "a pair of position axes"),
    (ops.Select(2, "weak"), (ROWS,), "level weights"),
    (ops.SelectAdjoint(2, "weak"), (LEVELS,), "pairs of positions"),
    (ops.Scan(), (NUMBER,), "it takes 2 or 3 operands"),
    (ops.Scan(), (NUMBER, STATES, FINAL), "an initial state where it has one"),
    (ops.Scan(initial=True), (NUMBER, STATES), "an initial state where it has one"),
    (ops.Scan(initial=True), (NUMBER, STATES, STATES), "an initial state for each sequence"),
    (ops.SolvedScan(), (NUMBER, ROWS, ROWS, VALUES), "operands"),
    (ops.Tree(2, final=True), (NUMBER, STATES), "keys, values and a state where it has a final one"),
    (ops.Walk(2, "weak", initial=True), (ROWS, NODE_MATRIX, NODES, LEVELS), "an initial state where it has one"),
    (ops.LeftAdjoint(2), (FINAL, ROWS, VALUES), "the gradient of final states"),
    (ops.LeftAdjoint(2, "strong"), (BY_LEVEL, ROWS, VALUES), "operators under strong admissibility"),
    (ops.SolvedScan(initial=True), (NUMBER, ROWS, ROWS, VALUES, PAIRS, STATES), "an initial state for each sequence"),
    (ops.SolvedScan(), (MATRIX, ROWS, ROWS, VALUES, PAIRS), "a number or a diagonal as operator"),
    (ops.SolvedScan(), (NUMBER, ROWS, VALUES, VALUES, PAIRS), "two factors of the same rows and channels"),
    (ops.SolvedScan(), (NUMBER, ROWS, ROWS, STATES, PAIRS), "values of the factors' rows"),
    (ops.SolvedScan(), (NUMBER, ROWS, ROWS, VALUES, ROWS), "a system of the factors' rows"),
    (ops.SolvedScan(), (NUMBER, ROWS, ROWS, VALUES, PAIRS, VALUES), "writes of the states' type"),
    (ops.SolvedScan(), (("B", "H", "N4", "1", "1"), ROWS, ROWS, VALUES, PAIRS), "axes N2 and N4 do not broadcast"),
    (ops.Scan(), (("B", "H", "N2", "V", "1"), STATES), "an operator on the states"),
    (ops.Scan(), (("B", "H", "N4", "K", "1"), STATES), "axes N2 and N4 do not broadcast"),
    (ops.Resume(), (ROWS, MATRIX, ROWS, VALUES, STATES), "a number as operator"),
    (ops.Resume(), (ROWS, NUMBER, VALUES, VALUES, STATES), "queries, keys and states of the same channels"),
    (ops.Resume(), (ROWS, NUMBER, ROWS, ROWS, STATES), "a value of the states' columns a key"),
    (ops.Resume(), (ROWS, NUMBER, ROWS, STATES), "operands"),
    (ops.Tree(2), (("B", "H", "N2", "1", "K"), STATES), "an operator on the states"),
    (ops.TreeAdjoint(2), (NODE_MATRIX, NODES, NODE_MATRIX, STATES), "gradients of the types of the nodes"),
    (ops.Walk(2, "weak"), (VALUES, NODE_MATRIX, NODES, LEVELS), "queries, operators, states and level weights"),
    (ops.Walk(2, "weak"), (ROWS, NODE_MATRIX, NODES, ROWS), "queries, operators, states and level weights"),
    (ops.Walk(2, "weak"), (ROWS, ROWS, NODES, LEVELS), "an operator on the states"),
    (ops.WalkAdjoint(2, "weak"), (ROWS, ROWS, NODE_MATRIX, NODES, LEVELS), "a gradient of the result's type"),
    (ops.Band(1, 2, 2, "weak"), (ROWS, MATRIX, VALUES, VALUES), "queries and keys of the same channels"),
    (ops.Band(1, 2, 2, "weak"), (ROWS, PAIRS, ROWS, VALUES), "an operator on the states"),
    (ops.Band(1, 2, 2, "weak"), (ROWS, MATRIX, ROWS, VALUES, ROWS), "level weights"),
    (ops.Band(1, 2, 2, "weak"), (ROWS, MATRIX, ROWS), "it takes operands"),
    (ops.Band(2, 4, 2, "weak", initial=True), (ROWS, NUMBER, ROWS, VALUES, LEVELS), "a memory where it has an initial"),
    (ops.Band(2, 4, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES, LEVELS, *WINDOW), "a memory where it has an initial one"),
    (ops.Band(2, 4, 2, "weak", initial=True), (ROWS, NUMBER, ROWS, VALUES, *WINDOW[::-1]), "keys of a window"),
    (ops.Band(2, None, 2, "weak", initial=True), (ROWS, NUMBER, ROWS, VALUES, *WINDOW), "a width where it has"),
    (ops.Keep(4), (MATRIX, ROWS, VALUES), "a number or a diagonal as operator"),
    (ops.Keep(4), (NUMBER, VALUES, VALUES), "keys, and a value a key"),
    (ops.Keep(4), (NUMBER, ROWS, VALUES, *WINDOW), "a memory where it has an initial one"),
    (ops.Keep(5, initial=True), (NUMBER, ROWS, VALUES, *WINDOW), "keys of a window"),
    (ops.KeepAdjoint(4), (*WINDOW[::-1], NUMBER, ROWS, VALUES), "gradients of the results'"),
    (ops.BandAdjoint(1, 2, 2, "weak"), (ROWS, ROWS, MATRIX, ROWS, VALUES), "a gradient of the result's type"),
    (ops.Split(3), (ROWS,), "level weights"),
    (ops.Split(3), (), "it takes 1 operands"),
    (ops.Regroup(2, "weak"), (POSITIONS, NEW), "it takes 3 or 4 operands"),
    (ops.Regroup(2, "weak"), (TOKENS, NEW, KEPT), "a position a sequence"),
    (ops.Regroup(2, "weak"), (POSITIONS, KEPT, KEPT), "a new row beside those of a state"),
    (ops.Regroup(2, "weak"), (POSITIONS, NEW, STATES), "a new row beside those of a state"),
    (ops.Regroup(2, "weak"), (POSITIONS, ("B", "H", "1", "V", "V"), KEPT), "axes K and V do not broadcast"),
    (ops.Regroup(2, "weak"), (POSITIONS, NEW, KEPT, ("B", "H", "M", "1", "V")), "the logs of its rows"),
    (ops.Regroup(2, "weak"), (POSITIONS, NEW, KEPT, NUMBER), "the logs of its rows"),
    (ops.Enter(), (("T",), RING, ("B", "H", "1", "1", "K")), "a position a sequence"),
    (ops.Enter(), (POSITIONS, ROWS, ("B", "H", "1", "1", "K")), "an entry of a ring"),
    (ops.Enter(), (POSITIONS, RING, RING), "an entry of a ring"),
    (ops.Enter(), (POSITIONS, ("1", *RING[1:]), ("B", "H", "1", "1", "K")), "an entry of a ring"),
    (ops.Enter(), (POSITIONS, RING), "it takes 3 operands"),
    (ops.SelectSlots(3, 2, "weak"), (TOKENS, LEVELS), "a position a sequence"),
    (ops.SelectSlots(3, 2, "weak"), (POSITIONS, ROWS), "level weights"),
    (ops.Lay(2), (("1", "T", "H"),), "batch rows with a token axis"),
    (ops.Lay(2), (ROWS,), "batch rows with a token axis"),
    (ops.Unlay(3), (ROWS,), "chunks of 3"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES), "it takes operands"),
    (ops.Relay(2, "weak"), (ROWS, MATRIX, ROWS, VALUES, FINAL), "a number or a diagonal as operator"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, VALUES, VALUES, FINAL), "queries and keys of the same channels"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES, STATES), "an initial state"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES, FINAL, LEVELS), "an initial state"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES, BY_LEVEL), "an initial state"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES, BY_LEVEL, ROWS), "level weights"),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES, FINAL, ROWS, VALUES), "two factors of the states' channels"),
    (ops.Relay(2, "weak"), (ROWS, ("B", "H", "N4", "1", "1"), ROWS, VALUES, FINAL), "axes N2 and N4 do not broadcast"),
    (ops.RelayAdjoint(2, "weak"), (VALUES, STATES, ROWS, NUMBER, ROWS, VALUES, FINAL), "gradients of the results'"),
    (ops.Slide(4, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES, FINAL, WINDOW[1]), "keys of a window"),
    (ops.Slide(4, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES, *WINDOW[::-1]), "keys of a window"),
    (ops.Slide(4, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES, WINDOW[0], WINDOW[0]), "values of a window"),
    (ops.Slide(5, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES, *WINDOW), "keys of a window"),
    (
        ops.SlideAdjoint(4, 2, "weak"),
        (VALUES, *WINDOW[::-1], ROWS, NUMBER, ROWS, VALUES, *WINDOW),
        "gradients of the results'",
    ),
    (Operation(), (KEYS,), "no rule for"),
]


@pytest.mark.parametrize(("op", "operands", "message"), REFUSED, ids=lambda x: type(x).__name__)
def test_bad_operands_are_refused(op: Operation, operands: tuple[Axes, ...], message: str) -> None:
    with pytest.raises(TypeMismatch, match=message):
        infer(op, operands)


def test_every_operation_has_a_refusal_of_its_own() -> None:
    assert {type(op) for op, _, _ in REFUSED} - {Operation} == set(Operation.__subclasses__())


TYPES: list[tuple[Operation, tuple[Axes, ...], tuple[Axes, ...]]] = [
    (ops.Load("q", KEYS), (), (KEYS,)),
    (ops.Identity(), (), (("1", "1", "1", "K", "K"),)),
    (ops.Repeat(2), (("B", "T", "H/3", "K"),), (KEYS,)),
    (ops.GroupSum(3, 1), (ROWS,), (("B", "H/3", "N2", "C2", "K"),)),
    (ops.Chunk(2), (KEYS,), (ROWS,)),
    (ops.Chunk(2), (TOKENS,), (GATES,)),
    (ops.Unchunk(2), (ROWS,), (KEYS,)),
    (ops.Transpose(), (ROWS,), (("B", "H", "N2", "K", "C2"),)),
    (ops.Weave(3), (ROWS, ROWS, ROWS), (("B", "H", "N2", "C2*3", "K"),)),
    (ops.Weave(3), (("B", "H", "N2", "C2*2", "K"),) * 2, (("B", "H", "N2", "C2*4", "K"),)),
    (ops.Pick(0, 2, 3), (("B", "H", "N2", "C2*2"),), (GATES,)),
    (ops.Place(1, 2, 3), (GATES,), (("B", "H", "N2", "C2*2"),)),
    (ops.Map(X0 * X1), (("1", "H", "1"), ("B", "1", "1")), (("B", "H", "1"),)),
    (ops.Sum((1, 3)), (KEYS,), (("B", "1", "H", "1"),)),
    (ops.Dot(transpose_y=True), (ROWS, ROWS), (PAIRS,)),
    (ops.Dot(transpose_x=True), (ROWS, VALUES), (STATES,)),
    (ops.Spans(2, 0, 1), (("B", "H", "N2", "C2*2"),), (PAIRS,)),
    (ops.SpansAdjoint(2, 0, 1), (PAIRS,), (("B", "H", "N2", "C2*2"),)),
    (ops.DecayDot(1, 1, 1, 0), (ROWS, ("1", "1", "N2", "C2", "K"), ROWS), (PAIRS,)),
    (ops.DecayDots(1, 1, 1), (ROWS, ROWS, ROWS, ROWS), (PAIRS,)),
    (ops.Select(2, "weak"), (LEVELS,), (PAIRS,)),
    (ops.SelectAdjoint(2, "weak"), (PAIRS,), (LEVELS,)),
    (ops.Scan(), (("1", "1", "N2", "1", "1"), STATES), (STATES,)),
    (ops.Scan(initial=True), (NUMBER, STATES, FINAL), (STATES,)),
    (ops.Scan(final=True), (NUMBER, STATES), (STATES, FINAL)),
    (ops.Scan(reverse=True, initial=True, final=True), (NUMBER, STATES, FINAL), (STATES, FINAL)),
    (ops.SolvedScan(), (DIAGONAL, ROWS, ROWS, VALUES, PAIRS), (STATES, VALUES)),
    (ops.SolvedScan(initial=True), (NUMBER, ROWS, ROWS, VALUES, PAIRS, FINAL), (STATES, VALUES)),
    (
        ops.SolvedScan(initial=True, final=True),
        (NUMBER, ROWS, ROWS, VALUES, PAIRS, STATES, FINAL),
        (STATES, VALUES, FINAL),
    ),
    (ops.SolvedScan(reverse=True), (NUMBER, ROWS, ROWS, VALUES, PAIRS, STATES), (STATES, VALUES)),
    (
        ops.SolvedScan(),
        (("1", "1", "N2", "1", "1"), ("1", *ROWS[1:]), ("1", *ROWS[1:]), VALUES, ("1", *PAIRS[1:])),
        (STATES, VALUES),
    ),
    (ops.Resume(), (ROWS, ("1", "1", "N2", "1", "1"), ("1", *ROWS[1:]), VALUES, STATES), (VALUES,)),
    (ops.Tree(3), (NUMBER, STATES), (("B", "H", "E2b3", "1", "1"), ("B", "H", "E2b3", "K", "V"))),
    (ops.TreeAdjoint(2), (NODE_MATRIX, NODES, NODE_MATRIX, NODES), (MATRIX, STATES)),
    (ops.Tree(2, True, True), (NUMBER, STATES, ROWS, VALUES, BY_LEVEL), (*NODE_TYPES, BY_LEVEL)),
    (
        ops.TreeAdjoint(2, True, True),
        (*NODE_TYPES, *NODE_TYPES, BY_LEVEL, NUMBER, BY_LEVEL),
        (NUMBER, STATES, BY_LEVEL),
    ),
    (ops.LeftAdjoint(2), (BY_LEVEL, ROWS, VALUES), (ROWS, VALUES)),
    (ops.LeftAdjoint(2, "strong"), (BY_LEVEL, NUMBER, ROWS, VALUES), (ROWS, VALUES)),
    (ops.Walk(2, "weak", initial=True), (ROWS, *NODE_TYPES, LEVELS, BY_LEVEL), (VALUES,)),
    (ops.Walk(2, "weak"), (ROWS, NODE_MATRIX, NODES, LEVELS), (VALUES,)),
    (ops.WalkAdjoint(2, "weak"), (VALUES, ROWS, NODE_MATRIX, NODES, LEVELS), (ROWS, NODE_MATRIX, NODES, LEVELS)),
    (ops.Band(1, 2, 2, "weak"), (ROWS, DIAGONAL, ROWS, VALUES), (VALUES,)),
    (ops.BandAdjoint(1, 2, 2, "weak"), (VALUES, ROWS, NUMBER, ROWS, VALUES), (ROWS, NUMBER, ROWS, VALUES)),
    (ops.Band(2, 4, 2, "weak", initial=True), (ROWS, NUMBER, ROWS, VALUES, LEVELS, *WINDOW), (VALUES,)),
    (
        ops.BandAdjoint(2, 4, 2, "weak", initial=True),
        (VALUES, ROWS, NUMBER, ROWS, VALUES, *WINDOW),
        (ROWS, NUMBER, ROWS, VALUES, *WINDOW),
    ),
    (ops.Keep(4), (NUMBER, ROWS, VALUES), WINDOW),
    (ops.Keep(4, initial=True), (DIAGONAL, ROWS, VALUES, *WINDOW), WINDOW),
    (ops.KeepAdjoint(4), (*WINDOW, NUMBER, ROWS, VALUES), (NUMBER, ROWS, VALUES)),
    (
        ops.KeepAdjoint(4, initial=True),
        (*WINDOW, DIAGONAL, ROWS, VALUES, *WINDOW),
        (DIAGONAL, ROWS, VALUES, *WINDOW),
    ),
    (ops.Split(2), (("B", "H", "L", "1"),), (("B", "H", "1", "1"), ("B", "H", "M", "1"))),
    (ops.Regroup(2, "weak"), (POSITIONS, ("1", "1", "1", "K", "V"), KEPT), (KEPT,)),
    (ops.Regroup(2, "weak"), (POSITIONS, NEW, KEPT, (*KEPT[:4], "1")), (KEPT, (*KEPT[:4], "1"))),
    (ops.Enter(), (POSITIONS, RING, ("1", "1", "1", "1", "K")), (RING,)),
    (ops.SelectSlots(3, 2, "weak"), (POSITIONS, ("1", "H", "1", "1", "L")), (("B", "H", "1", "1", "R3"),)),
    (ops.Lay(2), (("B", "T", "H/2"),), (("B", "H/2", "N2", "C2"),)),
    (ops.Unlay(2), (ROWS,), (KEYS,)),
    (ops.Relay(2, "weak"), (ROWS, DIAGONAL, ROWS, VALUES, ("1", "1", "1", "K", "V")), (VALUES, FINAL)),
    (ops.Relay(2, "weak"), (ROWS, NUMBER, ROWS, VALUES, ("1", *BY_LEVEL[1:]), LEVELS, ROWS, ROWS), (VALUES, BY_LEVEL)),
    (ops.Slide(4, 2, "weak"), (ROWS, NUMBER, ROWS, VALUES, ("1", "1", "1", "R3", "K"), WINDOW[1]), (VALUES, *WINDOW)),
    (
        ops.RelayAdjoint(2, "weak"),
        (VALUES, FINAL, ROWS, NUMBER, ROWS, VALUES, ("1", "1", "1", "K", "V")),
        (ROWS, NUMBER, ROWS, VALUES, ("1", "1", "1", "K", "V")),
    ),
    (
        ops.SlideAdjoint(4, 2, "weak"),
        (VALUES, *WINDOW, ROWS, NUMBER, ROWS, VALUES, *WINDOW, LEVELS),
        (ROWS, NUMBER, ROWS, VALUES, *WINDOW, LEVELS),
    ),
]


@pytest.mark.parametrize(("op", "operands", "results"), TYPES, ids=lambda x: type(x).__name__)
def test_types_of_results(op: Operation, operands: tuple[Axes, ...], results: tuple[Axes, ...]) -> None:
    assert infer(op, operands) == results
