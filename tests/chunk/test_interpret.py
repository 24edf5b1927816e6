"""The interpreter, operation by operation, against results worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from maskdsl.chunk import ops
from maskdsl.chunk.infer import infer
from maskdsl.chunk.interpret import Interpreter, interpret
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Builder
from maskdsl.chunk.sequences import Sequences
from maskdsl.mask.levels import Admissibility
from maskdsl.scalar.symbols import dimension

X0, X1 = ops.argument(0), ops.argument(1)
ROW: Axes = ("B", "H", "N1", "C3")
HALF, QUARTER = math.log(1 / 2), math.log(1 / 4)


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def block(values: object) -> Tensor:
    """A nested list as one chunk of one head: [1, 1, 1, ...]."""
    return tensor(values)[None, None, None]


def chunks(values: object) -> Tensor:
    """A nested list whose first axis is that of chunks or nodes: [1, 1, N, ...]."""
    return tensor(values)[None, None]


def numbers(*values: float) -> Tensor:
    """One number a chunk, as a state, query, key or value: [1, 1, N, 1, 1]."""
    return chunks(values)[..., None, None]


def logs(*values: float) -> Tensor:
    """One number a chunk, as an operator."""
    return numbers(*values).log()


def run(op: Operation, *operands: Tensor, types: tuple[Axes, ...] | None = None, **sizes: int) -> list[Tensor]:
    """The results of one operation; types default to axes of one element, which few operations read."""
    given = types or tuple(("1",) * x.ndim for x in operands)
    sizes = {"B": 1, "T": 1, "H": 1, "K": 1, "V": 1, "L": 1} | sizes
    return list(Interpreter(sizes).step(op, list(operands), list(given)))


def result(op: Operation, *operands: Tensor, types: tuple[Axes, ...] | None = None, **sizes: int) -> Tensor:
    (only,) = run(op, *operands, types=types, **sizes)
    return only


def squeezed(x: Tensor) -> object:
    return x.squeeze().tolist()


def near(values: object) -> object:
    """What equals `values` up to the rounding of an exp of a log."""
    return pytest.approx(values, rel=1e-14, abs=1e-14)


# -- programs -----------------------------------------------------------------------------------------------------


def test_a_program_is_run_in_order_and_gives_its_outputs() -> None:
    build = Builder("test")
    x = build(ops.Load("x", ("B", "T", "H")), name="x")
    double = build(ops.Map(2 * X0), x, name="double")
    program = build.program([("o", build(ops.Sum((1,)), double, name="total")), ("twice", double)])
    made = interpret(program, {"x": tensor([[[1.0], [2.0]]])}, {"B": 1, "T": 2, "H": 1})
    assert {name: value.tolist() for name, value in made.items()} == {"o": [[[6.0]]], "twice": [[[2.0], [4.0]]]}


def test_a_shape_that_contradicts_its_type_is_an_error() -> None:
    build = Builder("test")
    program = build.program([("o", build(ops.Load("x", ("B", "T", "H")), name="x"))])
    with pytest.raises(AssertionError, match="has shape"):
        interpret(program, {"x": torch.zeros(1, 3, 1)}, {"B": 1, "T": 2, "H": 1})


# -- inputs and layout --------------------------------------------------------------------------------------------


def test_constant_and_identity() -> None:
    assert result(ops.Constant(1 / dimension("K") ** 2, ("1", "C2")), K=2).tolist() == [[0.25, 0.25]]
    assert squeezed(result(ops.Identity(), K=2)) == [[1, 0], [0, 1]]


def test_align_and_expand() -> None:
    x = tensor([[1, 2, 3]])
    assert result(ops.Align(("B", "1", "T")), x, B=1, T=3).shape == (1, 1, 3)
    assert result(ops.Expand(("H", "T")), x, H=2, T=3).tolist() == [[1, 2, 3], [1, 2, 3]]


def test_key_side_heads_are_shared_by_neighbours() -> None:
    x = tensor([1, 2])
    assert result(ops.Repeat(0), x, types=(("H/3",),), H=6).tolist() == [1, 1, 1, 2, 2, 2]
    assert result(ops.GroupSum(2, 0), tensor([1, 2, 10, 20])).tolist() == [3, 30]


def test_chunk_pads_with_zeros_and_unchunk_drops_them() -> None:
    x = tensor([1, 2, 3]).view(1, 3, 1)
    chunked = result(ops.Chunk(2), x)
    assert chunked.tolist() == [[[[1, 2], [3, 0]]]]
    assert torch.equal(result(ops.Unchunk(2), chunked, T=3), x)


@pytest.mark.parametrize(("by", "expected"), [(0, [1, 2, 3]), (1, [0, 1, 2]), (-2, [3, 0, 0]), (3, [0, 0, 0])])
def test_shift(by: int, expected: list[int]) -> None:
    assert squeezed(result(ops.Shift(by), chunks([1, 2, 3]))) == expected


def test_weave_pick_and_place() -> None:
    woven = result(ops.Weave(3), block([1, 2]), block([3, 4]))
    assert squeezed(woven) == [1, 3, 2, 4]
    assert squeezed(result(ops.Pick(1, 2, 3), woven)) == [3, 4]
    assert squeezed(result(ops.Place(1, 2, 3), block([3, 4]))) == [0, 3, 0, 4]
    assert squeezed(result(ops.Weave(4), block([[1], [2]]), block([[3], [4]]))) == [[1, 3], [2, 4]]


def test_transpose() -> None:
    assert squeezed(result(ops.Transpose(), block([[1, 2], [3, 4]]))) == [[1, 3], [2, 4]]


# -- arithmetic ---------------------------------------------------------------------------------------------------


def test_map_and_sum() -> None:
    assert result(ops.Map(X0 * X1 + dimension("K")), tensor([[1], [2]]), tensor([[10, 20]]), K=5).tolist() == [
        [15, 25],
        [25, 45],
    ]
    assert result(ops.Sum((1,)), tensor([[1, 2], [3, 4]])).tolist() == [[3], [7]]


@pytest.mark.parametrize(
    ("transpose_x", "transpose_y", "expected"),
    [
        (False, False, [[19, 22], [43, 50]]),
        (True, False, [[26, 30], [38, 44]]),
        (False, True, [[17, 23], [39, 53]]),
        (True, True, [[23, 31], [34, 46]]),
    ],
)
def test_dot(transpose_x: bool, transpose_y: bool, expected: list[list[int]]) -> None:
    x, y = block([[1, 2], [3, 4]]), block([[5, 6], [7, 8]])
    assert squeezed(result(ops.Dot(transpose_x, transpose_y), x, y)) == expected


@pytest.mark.parametrize(
    ("reverse", "exclusive", "expected"),
    [
        (False, False, [1, 11, 111]),
        (False, True, [0, 1, 11]),
        (True, False, [111, 110, 100]),
        (True, True, [110, 100, 0]),
    ],
)
def test_cumsum(reverse: bool, exclusive: bool, expected: list[int]) -> None:
    assert squeezed(result(ops.Cumsum(reverse, exclusive), block([1, 10, 100]))) == expected


def test_inverse_is_of_the_identity_less_the_system() -> None:
    system = block([[0, 0, 0], [2, 0, 0], [3, 4, 0]])
    torch.testing.assert_close(result(ops.Inverse(), system), block([[1.0, 0, 0], [2, 1, 0], [11, 4, 1]]))


# -- pairs of positions -------------------------------------------------------------------------------------------

SPANS = {
    (0, 0): [[0, 0], [11, 0]],
    (0, 1): [[0, 0], [10, 0]],
    (0, 2): [[0, 0], [0, 0]],
    (1, 0): [[1, 0], [111, 100]],
    (1, 1): [[0, 0], [110, 0]],
    (1, 2): [[0, 0], [100, 0]],
    (2, 0): [[11, 0], [1111, 1100]],
    (2, 1): [[10, 0], [1110, 1000]],
    (2, 2): [[0, 0], [1100, 0]],
}
"""Sums of the decays 1, 10 of the first position and 100, 1000 of the second, by the points (row, column)."""


@pytest.mark.parametrize(("row", "column"), SPANS)
def test_spans_of_two_decays_a_position(row: int, column: int) -> None:
    assert squeezed(result(ops.Spans(2, row, column), block([1, 10, 100, 1000]))) == SPANS[row, column]


def test_spans_adjoint_gives_every_decay_the_pairs_it_lies_between() -> None:
    pairs = block([[0, 0], [1, 0]])
    assert squeezed(result(ops.SpansAdjoint(2, 2, 1), pairs)) == [0, 1, 1, 1]
    assert squeezed(result(ops.SpansAdjoint(1, 1, 1), block([[5, 7], [2, 9]]))) == [0, 2]


def test_decay_dot() -> None:
    q, k, g = block([[1, 2], [3, 4]]), block([[5, 6], [7, 8]]), block([[9, 9], [HALF, QUARTER]])
    expected = [[17, 0], [13.5, 53]]
    torch.testing.assert_close(result(ops.DecayDot(1, 1, 1, 0), q, k, g), block(expected))
    torch.testing.assert_close(result(ops.DecayDot(1, 1, 1, -1), q, k, g), block([[0, 0], [13.5, 0]]))
    # queries before the decay of their position, keys before that of theirs
    torch.testing.assert_close(result(ops.DecayDot(1, 0, 0, -1), q, k, g * 0 + HALF), block([[0, 0], [19.5, 0]]))


def test_decay_dots() -> None:
    q, r, k, g = (
        block([[1, 2], [3, 4]]),
        block([[1, 0], [2, 0]]),
        block([[5, 6], [7, 8]]),
        block([[9, 9], [HALF, QUARTER]]),
    )
    torch.testing.assert_close(result(ops.DecayDots(1, 1, 1), q, r, k, g), block([[17, 5], [13.5, 53]]))


def test_decay_dot_adjoint() -> None:
    q, k, g = block([[1.0], [3]]), block([[5.0], [7]]), block([[9.0], [HALF]])
    types = ((*ROW, "C3"), ROW, ROW, ROW)
    dq, dk, dg = run(ops.DecayDotAdjoint(1, 1, 1, 0), block([[0.0, 0], [1, 0]]), q, k, g, types=types)
    assert [squeezed(x) for x in (dq, dk, dg)] == [[0, 2.5], [1.5, 0], [0, 7.5]]


def test_tril_and_near() -> None:
    ones = block([[1, 1, 1]] * 3)
    assert squeezed(result(ops.Tril(-1), ones)) == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert squeezed(result(ops.Near(1), ones)) == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert squeezed(result(ops.Near(2), ones)) == [[1, 1, 1], [1, 1, 1], [0, 1, 1]]


LAM = [[10 * c + level for level in range(3)] for c in range(4)]
SELECTED: dict[tuple[int, Admissibility], list[list[int]]] = {
    (2, "weak"): [[0, 0, 0, 0], [11, 10, 0, 0], [22, 22, 20, 0], [32, 32, 31, 30]],
    (3, "weak"): [[0, 0, 0, 0], [11, 10, 0, 0], [21, 21, 20, 0], [32, 32, 32, 30]],
    (2, "strong"): [[0, 0, 0, 0], [11, 10, 0, 0], [22, 21, 20, 0], [32, 32, 31, 30]],
}


@pytest.mark.parametrize(("base", "admissibility"), SELECTED)
def test_select(base: int, admissibility: Admissibility) -> None:
    made = result(ops.Select(base, admissibility), block(LAM))
    assert squeezed(made) == SELECTED[base, admissibility]


def test_select_adjoint_sums_by_level() -> None:
    gradient = block([[1, 9, 9, 9], [2, 3, 9, 9], [4, 5, 6, 9], [7, 8, 10, 20]])
    made = result(ops.SelectAdjoint(2, "weak"), gradient, L=3)
    assert squeezed(made) == [[1, 0, 0], [3, 2, 0], [6, 0, 9], [20, 10, 15]]


# -- the graph between chunks -------------------------------------------------------------------------------------

A, H = logs(2, 3, 5), numbers(1, 10, 100)
MATRIX_AND_STATE: tuple[Axes, Axes] = (("B", "H", "N1", "K", "K"), ("B", "H", "N1", "K", "V"))


def test_scan_of_numbers() -> None:
    assert squeezed(result(ops.Scan(), A, H)) == near([0, 1, 13])
    assert squeezed(result(ops.Scan(reverse=True), A, H)) == near([310, 100, 0])


def test_scan_from_a_state_to_a_state() -> None:
    states, last = run(ops.Scan(initial=True, final=True), A, H, numbers(4))
    assert squeezed(states) == near([4, 9, 37])
    assert squeezed(last) == near(5 * 37 + 100)
    states, first = run(ops.Scan(reverse=True, initial=True, final=True), A, H, numbers(4))
    assert squeezed(states) == near([3 * 120 + 10, 120, 4])
    assert squeezed(first) == near(2 * 370 + 1)


def test_a_scan_may_keep_every_second_state() -> None:
    kept = result(ops.Scan(every=2), A, H)
    assert squeezed(kept[:, :, ::2]) == near([0, 13])
    assert kept[:, :, 1].isnan().all()


def test_resume() -> None:
    """The states of odd chunks are not read."""
    queries, pushed, v, states = numbers(10, 100, 1000), numbers(2, 8, 1), numbers(7, 5, 1), numbers(4, math.nan, 82)
    assert squeezed(result(ops.Resume(), queries, A, pushed, v, states)) == near([40, 100 * (2 * 4 + 14), 82000])


def test_scan_of_matrices_transposes_on_the_way_back() -> None:
    swap = chunks([[[0, 1], [0, 0]]] * 2)
    states = chunks([[[1], [10]], [[100], [1000]]])
    types = MATRIX_AND_STATE
    assert result(ops.Scan(), swap, states, types=types)[0, 0, 1].tolist() == [[1], [10]]
    later = chunks([[[0], [0]], [[1], [10]], [[100], [1000]]])
    three = chunks([[[0, 1], [0, 0]]] * 3)
    assert result(ops.Scan(), three, later, types=types)[0, 0, 2].tolist() == [[1], [10]]
    # A' (100, 1000) = (0, 100)
    back = result(ops.Scan(reverse=True), three, later, types=types)
    assert back[0, 0].tolist() == [[[1], [110]], [[100], [1000]], [[0], [0]]]


def test_scan_of_diagonals_acts_on_rows() -> None:
    diagonal = chunks([[[2], [3]]] * 3).log()
    states = chunks([[[1], [10]], [[0], [0]], [[0], [0]]])
    assert squeezed(result(ops.Scan(), diagonal, states)[0, 0, 1]) == [1, 10]
    assert squeezed(result(ops.Scan(), diagonal, states)[0, 0, 2]) == near([2, 30])


def test_a_matrix_of_one_channel_is_no_log() -> None:
    assert squeezed(result(ops.Scan(), numbers(2, 3, 5), H, types=MATRIX_AND_STATE)) == [0, 1, 13]


def test_scan_that_solves_systems() -> None:
    """One row a chunk: W = 2 (u + 3 S), S' = A S + 5 W + H."""
    a, b, v, inverse = numbers(5, 5, 5), numbers(3, 3, 3), numbers(1, 10, 100), numbers(2, 2, 2)
    states, answers = run(ops.SolvedScan(), logs(7, 11, 13), a, b, v, inverse)
    second = 11 * 10 + 5 * 80
    assert squeezed(states) == near([0, 10, second])
    assert squeezed(answers) == near([2, 2 * (10 + 3 * 10), 2 * (100 + 3 * second)])
    states, _ = run(ops.SolvedScan(), logs(7, 11, 13), a, b, v, inverse, numbers(1000, 0, 0))
    assert squeezed(states) == near([0, 1010, 11 * 1010 + 5 * 2 * (10 + 3 * 1010)])


def test_scan_that_solves_systems_from_a_state_to_a_state() -> None:
    a, b, v, inverse = numbers(5), numbers(3), numbers(1), numbers(2)
    handing = ops.SolvedScan(initial=True, final=True)
    states, answers, last = run(handing, logs(7), a, b, v, inverse, numbers(4))
    assert [squeezed(x) for x in (states, answers, last)] == near([4, 26, 7 * 4 + 5 * 26])


def test_scan_that_solves_systems_exchanges_its_factors_on_the_way_back() -> None:
    """From the end the state is read by a, and written by b."""
    a, b, v, inverse = numbers(5, 5, 5), numbers(3, 3, 3), numbers(1, 10, 100), numbers(2, 2, 2)
    states, answers = run(ops.SolvedScan(reverse=True), logs(7, 11, 13), a, b, v, inverse)
    second = 11 * 600 + 3 * 2 * (10 + 5 * 600)
    assert squeezed(states) == near([second, 600, 0])
    assert squeezed(answers) == near([2 * (1 + 5 * second), 2 * (10 + 5 * 600), 200])


def test_a_system_has_a_row_for_each_step() -> None:
    """Rows of a and b are terms of a sum, and the system hands from the first to the second."""
    a, b = chunks([[[1, 0], [0, 100]]] * 2), chunks([[[0, 1], [1, 0]]] * 2)
    v, inverse = chunks([[[2], [3]]] * 2), chunks([[[1, 0], [10, 1]]] * 2)
    states, answers = run(ops.SolvedScan(), logs(1, 1), a, b, v, inverse)
    assert answers[0, 0].squeeze(-1).tolist() == [[2, 23], [2 + 2300, 10 * 2302 + 3 + 2]]
    assert states[0, 0].squeeze(-1).tolist() == [[0, 0], [2, 2300]]
    back, d_answers = run(ops.SolvedScan(reverse=True), logs(1, 1), a, b, v, inverse)
    assert d_answers[0, 0, 1].squeeze(-1).tolist() == [2 + 30, 3]
    assert back[0, 0].squeeze(-1).tolist() == [[3, 32], [0, 0]]


@pytest.mark.parametrize(
    ("base", "operator", "state"), [(2, 2 * 3, 3 * 1 + 10), (3, 2 * 3 * 5, 5 * (3 * 1 + 10) + 100)]
)
def test_tree(base: int, operator: int, state: int) -> None:
    ea, eh = run(ops.Tree(base), A, H)
    assert squeezed(ea) == near([math.log(a) for a in (2, 3, 5, operator)])
    assert squeezed(eh) == near([1, 10, 100, state])


def test_tree_composes_later_after_earlier() -> None:
    upper, lower = [[1, 1], [0, 1]], [[1, 0], [1, 1]]
    ea, eh = run(ops.Tree(2), chunks([upper, lower]), chunks([[[1], [0]], [[0], [10]]]), types=MATRIX_AND_STATE)
    assert ea[0, 0, 2].tolist() == [[1, 1], [1, 2]]
    assert eh[0, 0, 2].tolist() == [[1], [11]]


def test_tree_adjoint() -> None:
    ea, eh = run(ops.Tree(2), A, H)
    nothing, last = numbers(0, 0, 0, 0), numbers(0, 0, 0, 1)
    node = ("B", "H", "E1b2", "1", "1")
    given = {"types": (node,) * 4, "T": 3}
    d_a, d_h = run(ops.TreeAdjoint(2), ea, eh, nothing, last, **given)  # type: ignore[arg-type]
    assert (squeezed(d_a), squeezed(d_h)) == (near([0, 3 * 1, 0]), near([3, 1, 0]))
    assert [squeezed(x) for x in run(ops.TreeAdjoint(2), ea, eh, last, nothing, **given)] == [[1, 1, 0], [0, 0, 0]]  # type: ignore[arg-type]
    leaves = numbers(7, 8, 9, 0)
    assert [squeezed(x) for x in run(ops.TreeAdjoint(2), ea, eh, leaves, leaves, **given)] == [[7, 8, 9]] * 2  # type: ignore[arg-type]


WALKED = {"weak": [0, 1 * 1, 2 * 7 * 13, 3 * (5 * 100 + 7 * 5 * 13)], "strong": [0, 0, 2 * 7 * 1, 3 * 7 * 13]}
"""Queries 1, 2, 3 at chunks 1 to 3, of one position each; the weight of level 2 is 7, that of level 1 is 1, then 5."""


@pytest.mark.parametrize("admissibility", ["weak", "strong"])
def test_walk_over_four_chunks(admissibility: Admissibility) -> None:
    a, h = logs(2, 3, 5, 99), numbers(1, 10, 100, 99)
    ea, eh = run(ops.Tree(2), a, h)
    queries = numbers(99, 1, 2, 3)
    lam = chunks([[[99, 99, 99]], [[99, 1, 99]], [[99, 99, 7]], [[99, 5, 7]]])
    assert squeezed(result(ops.Walk(2, admissibility), queries, ea, eh, lam)) == near(WALKED[admissibility])


def test_walk_adjoint() -> None:
    ea, eh = run(ops.Tree(2), logs(2, 3, 5, 99), numbers(1, 10, 100, 99))
    types = (("B", "H", "N1", "C1", "V"),) * 5
    lam = chunks([[[99, 99, 99]], [[99, 1, 99]], [[99, 99, 7]], [[99, 5, 7]]])
    do = numbers(0, 0, 0, 1)
    dr, dea, deh, dlam = run(ops.WalkAdjoint(2, "weak"), do, numbers(99, 1, 2, 3), ea, eh, lam, types=types)
    assert squeezed(dr) == near([0, 0, 0, 5 * 100 + 7 * 5 * 13])
    assert dlam[0, 0, 3, 0].tolist() == near([0, 300, 3 * 5 * 13])
    d_a, d_h = run(ops.TreeAdjoint(2), ea, eh, dea, deh, types=(("B", "H", "E1b2", "1", "1"),) * 4, T=4)
    assert squeezed(d_h) == near([3 * 7 * 5 * 3, 3 * 7 * 5, 3 * 5, 0])
    assert squeezed(d_a) == near([0, 3 * (3 * 7 * 5 * 1), 5 * (3 * 7 * 13), 0])


def test_band_of_two_lags() -> None:
    queries, operators, keys, v = numbers(99, 2, 3), logs(99, 5, 99), numbers(7, 11, 99), numbers(1, 10, 99)
    plain = ops.Band(2, None, 2, "weak")
    far, close = 3 * 5 * 7 * 1, 3 * 11 * 10
    assert squeezed(result(plain, queries, operators, keys, v)) == near([0, 2 * 7 * 1, close + far])
    assert squeezed(result(ops.Band(1, None, 2, "weak"), queries, operators, keys, v)) == [0, 14, close]
    assert squeezed(result(ops.Band(2, 2, 2, "weak"), queries, operators, keys, v)) == [0, 14, close]
    lam = chunks([[[99, 99, 99]], [[99, 1, 99]], [[99, 4, 6]]])
    assert squeezed(result(plain, queries, operators, keys, v, lam)) == near([0, 14, 6 * close + 6 * far])
    strong = ops.Band(2, None, 2, "strong")
    assert squeezed(result(strong, queries, operators, keys, v, lam)) == near([0, 14, 4 * close + 6 * far])


def test_band_is_cut_by_position() -> None:
    queries, keys, v = chunks([[[1], [1]]] * 2), chunks([[[1], [10]]] * 2), chunks([[[1], [1]]] * 2)
    # positions 2 and 3 read of positions 0 and 1 those fewer than `width` back
    for width, expected in ((1, [0, 0]), (2, [10, 0]), (3, [11, 10]), (4, [11, 11])):
        made = result(ops.Band(1, width, 2, "weak"), queries, logs(1, 1), keys, v)
        assert made[0, 0].squeeze(-1).tolist() == [[0, 0], expected]


def test_band_adjoint() -> None:
    operands = [numbers(0, 0, 1), numbers(99, 2, 3), logs(99, 5, 99), numbers(7, 11, 99), numbers(1, 10, 99)]
    types = (("B", "H", "N1", "C1", "V"),) * 5
    dr, da, dp, dv = run(ops.BandAdjoint(2, None, 2, "weak"), *operands, types=types)
    assert squeezed(dr) == near([0, 0, 5 * 7 + 11 * 10])
    assert squeezed(da) == near([0, 5 * (3 * 7), 0])
    assert squeezed(dp) == near([3 * 5, 3 * 10, 0])
    assert squeezed(dv) == near([3 * 5 * 7, 3 * 11, 0])


# -- the state of a step ------------------------------------------------------------------------------------------


def test_split() -> None:
    near_weight, far_weights = run(ops.Split(0), tensor([2, 3, 5]), L=3)
    assert (near_weight.tolist(), far_weights.tolist()) == ([2], [3, 5])


def rows(*values: float) -> Tensor:
    """One number a level for a single sequence, as rows of a state: [1, 1, M, 1, 1]."""
    return tensor(values)[None, None, :, None, None]


@pytest.mark.parametrize(
    ("base", "admissibility", "position", "expected"),
    [
        # the token 1, and 10, 100, 1000 at levels 1 to 3
        (2, "weak", 4, [1 + 10, 100, 1000]),
        (2, "weak", 5, [0, 1 + 10 + 100, 1000]),
        (2, "weak", 3, [0, 0, 1 + 10 + 100 + 1000]),
        (2, "weak", 7, [0, 0, 0]),
        (3, "weak", 7, [1 + 10, 100, 1000]),
        (3, "weak", 8, [0, 0, 1 + 10 + 100 + 1000]),
        (2, "strong", 4, [1, 10 + 100, 1000]),
        (2, "strong", 5, [1, 10, 100 + 1000]),
    ],
)
def test_regroup(base: int, admissibility: Admissibility, position: int, expected: list[float]) -> None:
    made = result(ops.Regroup(base, admissibility), torch.tensor([position]), rows(1), rows(10, 100, 1000))
    assert squeezed(made) == expected


def test_regroup_with_logs() -> None:
    """Logs that meet become the largest of them, and what stood under smaller ones is made smaller."""
    log = rows(HALF, QUARTER, -800)
    kept = (torch.tensor([5]), rows(1), rows(10, 100, 1000), log)
    weak, weak_logs = run(ops.Regroup(2, "weak"), *kept)
    assert (squeezed(weak), squeezed(weak_logs)) == (near([0, 1 + 5 + 25, 1000]), [0, 0, -800])
    strong, strong_logs = run(ops.Regroup(2, "strong"), *kept)
    assert (squeezed(strong), squeezed(strong_logs)) == (near([1, 10, 100]), [0, HALF, QUARTER])


def test_every_sequence_regroups_at_its_own_position() -> None:
    kept = rows(10, 100).expand(3, 1, 2, 1, 1)
    made = result(ops.Regroup(2, "weak"), torch.tensor([1, 2, 3]), rows(1), kept)
    assert squeezed(made) == [[0, 111], [11, 100], [0, 0]]


def test_enter() -> None:
    ring = tensor([[7, 8, 9]] * 2)[:, None, None, :, None]
    made = result(ops.Enter(), torch.tensor([4, 3]), ring, tensor(1)[None, None, None, None, None])
    assert squeezed(made) == [[7, 1, 9], [1, 8, 9]]


def test_select_slots() -> None:
    lam = tensor([2, 3, 5, 7])[None, None, None, None]
    # position 5 sees tokens 3, 4 and 2 in slots 0, 1 and 2; position 1 sees token 0 only
    made = result(ops.SelectSlots(3, 2, "weak"), torch.tensor([5, 1]), lam)
    assert squeezed(made) == [[7, 3, 7], [3, 2, 2]]
    made = result(ops.SelectSlots(3, 2, "strong"), torch.tensor([5]), lam)
    assert squeezed(made) == [5, 3, 5]


def test_an_operation_without_meaning_is_an_error() -> None:
    with pytest.raises(TypeError, match="no meaning"):
        run(Operation(), tensor([1]))


def test_results_have_the_inferred_number() -> None:
    pair: tuple[Axes, ...] = (("B", "H", "N1", "1", "1"), ("B", "H", "N1", "K", "V"))
    assert len(run(ops.Tree(2), A, H, types=pair)) == len(infer(ops.Tree(2), pair))


# -- sequences in slots -------------------------------------------------------------------------------------------

PACKED = Sequences(((0, 2, 2, 5),), ((3, 9, 0),))
"""Positions 3 and 4 of one sequence, none of the next, 0 to 2 of the third: slots of 2 are [3], [4], [0, 1] and [2]."""


def laid(op: Operation, *operands: Tensor, types: tuple[Axes, ...] | None = None, **sizes: int) -> list[Tensor]:
    given = types or tuple(("1",) * x.ndim for x in operands)
    sizes = {"B": 1, "T": 5, "H": 1, "K": 1, "V": 1, "L": 1, "S": 3} | sizes
    return list(Interpreter(sizes, PACKED).step(op, list(operands), list(given)))


def test_slots_of_sequences() -> None:
    found = PACKED.slots(0, 2)
    assert [(s.sequence, s.origin, s.start, s.end, s.token) for s in found] == [
        (0, 2, 3, 4, 0),
        (0, 4, 4, 5, 1),
        (2, 0, 0, 2, 2),
        (2, 2, 2, 3, 4),
    ]
    assert [(s.first, s.last) for s in found] == [(True, False), (False, True)] * 2
    assert [list(s.rows()) for s in found] == [[(1, 0)], [(0, 1)], [(0, 2), (1, 3)], [(0, 4)]]


def test_lay_and_unlay() -> None:
    x = tensor([1, 2, 3, 4, 5]).view(1, 5, 1)
    (made,) = laid(ops.Lay(2), x)
    assert made[0, 0].tolist() == [[0, 1], [2, 0], [3, 4], [5, 0], [0, 0]]
    assert torch.equal(laid(ops.Unlay(2), made + 0)[0], x)
    rubbish = made + 100 * (made == 0)
    assert torch.equal(laid(ops.Unlay(2), rubbish)[0], x)


R = [[0, 1], [2, 0], [3, 4], [5, 0], [0, 0]]
K = [[0, 6], [7, 0], [8, 9], [1, 0], [0, 0]]
V = [[0, 1], [10, 0], [1, 10], [3, 0], [0, 0]]
"""Queries, keys at the end of their slot, and values of the five slots."""


def test_relay() -> None:
    """Sequences begin with 100, 200 and 300; slots multiply by 2, 3, 5, 7 before they write."""
    rows = [chunks(x)[..., None] for x in (R, K, V)]
    out, final = laid(ops.Relay(2, "weak"), rows[0], logs(2, 3, 5, 7, 1), *rows[1:], numbers(100, 200, 300))
    states = [100, 2 * 100 + 6 * 1, 300, 5 * 300 + 8 * 1 + 9 * 10]
    assert squeezed(out) == near2([[0, states[0]], [2 * states[1], 0], [900, 1200], [5 * states[3], 0], [0, 0]])
    assert squeezed(final) == near([3 * states[1] + 70, 200, 7 * states[3] + 3])


def test_relay_of_a_rank_one_step() -> None:
    """a' b of the slots are 2, 0, 1, 0."""
    rows = [chunks(x)[..., None] for x in (R, K, V)]
    a = chunks([[0, 1], [0, 0], [1, 1], [0, 0], [0, 0]])[..., None]
    b = chunks([[0, 2], [0, 0], [1, 0], [0, 0], [0, 0]])[..., None]
    _, final = laid(ops.Relay(2, "weak"), rows[0], logs(1, 1, 1, 1, 1), *rows[1:], numbers(100, 200, 300), a, b)
    assert squeezed(final) == near([100 + 2 * 100 + 6 + 70, 200, 300 + 300 + 98 + 3])


def test_scan_that_solves_systems_of_sequences() -> None:
    """One row a slot: W = 2 (u + 3 S), S' = A S + 5 W + H, from 100, 200 and 300, or from there back."""
    a, b, v, inverse = numbers(5, 5, 5, 5, 5), numbers(3, 3, 3, 3, 3), numbers(1, 2, 3, 4, 0), numbers(2, 2, 2, 2, 2)
    operands = logs(7, 11, 13, 17, 1), a, b, v, inverse, numbers(1000, 0, 0, 0, 0), numbers(100, 200, 300)
    number: Axes = ("B", "H", "N2", "1", "1")
    row: Axes = ("B", "H", "N2", "C2", "1")
    types = (number, row, row, row, number, number, ("B", "H", "S", "K", "V"))
    states, answers, final = laid(ops.SolvedScan(initial=True, final=True), *operands, types=types)
    second, fourth = 7 * 100 + 5 * 2 * (1 + 3 * 100) + 1000, 13 * 300 + 5 * 2 * (3 + 3 * 300)
    assert squeezed(states) == near([100, second, 300, fourth, 0])
    written = [2 * (1 + 3 * 100), 2 * (2 + 3 * second), 2 * (3 + 3 * 300), 2 * (4 + 3 * fourth), 0]
    assert squeezed(answers) == near(written)
    assert squeezed(final) == near([11 * second + 5 * written[1], 200, 17 * fourth + 5 * written[3]])
    back, _, first = laid(ops.SolvedScan(True, True, True), *operands, types=types)
    begun, third = 11 * 100 + 3 * 2 * (2 + 5 * 100), 17 * 300 + 3 * 2 * (4 + 5 * 300)
    assert squeezed(back) == near([begun, 100, third, 300, 0])
    last = 7 * begun + 3 * 2 * (1 + 5 * begun) + 1000, 200, 13 * third + 3 * 2 * (3 + 5 * third)
    assert squeezed(first) == near(last)


def test_relay_by_level() -> None:
    """What is at levels 1 and 2 from position 3 is at 3 from 4; tokens 0 and 1 are at 2 from 2."""
    rows = [chunks(x)[..., None] for x in (R, K, V)]
    lam = chunks([[[9, 1, 10, 100]] * 2] * 5)
    initial = tensor([[1, 2, 0], [4, 5, 6], [0, 0, 0]]).view(1, 1, 3, 3, 1, 1)
    operands = rows[0], logs(2, 1, 1, 1, 1), *rows[1:], initial, lam
    out, final = laid(ops.Relay(2, "weak"), *operands, L=4)
    carried = 2 * (1 + 2) + 6
    assert squeezed(out) == near2([[0, 1 * 1 + 10 * 2], [2 * 100 * carried, 0], [0, 0], [5 * 10 * 98, 0], [0, 0]])
    # as seen from 5, token 4 is at level 1; as seen from 3, token 2
    assert final.flatten(3).squeeze().tolist() == [near([70, 0, carried]), [4, 5, 6], near([3, 98, 0])]


def test_slide() -> None:
    """A window of 3: two tokens are kept, the older one first."""
    rows = [chunks(x)[..., None] for x in (R, K, V)]
    keys, values = (tensor(x).view(1, 1, 3, 2, 1) for x in ([[1, 2], [3, 4], [0, 0]], [[10, 20], [30, 40], [0, 0]]))
    out, *kept = laid(ops.Slide(3, 2, "weak"), rows[0], logs(2, 1, 5, 1, 1), *rows[1:], keys, values)
    # position 3 reads 1 and 2, position 4 reads 2, whose key was moved on, and 3; position 2 reads 0 and 1
    far = [10 + 40, 2 * (2 * 2 * 20 + 6 * 1), 0, 5 * (8 * 1 + 9 * 10)]
    assert squeezed(out) == near2([[0, far[0]], [far[1], 0], [0, 0], [far[3], 0], [0, 0]])
    assert kept[0].squeeze().tolist() == near2([[6, 7], [3, 4], [9, 1]])
    assert kept[1].squeeze().tolist() == near2([[1, 10], [30, 40], [10, 3]])


def test_relay_adjoint() -> None:
    """A gradient of the third sequence's final state: its own slots multiply it by 7 and 5."""
    rows = [chunks(x)[..., None] for x in (R, K, V)]
    types: tuple[Axes, ...] = ((*ROW[:3], "C2", "V"), ("B", "H", "S", "K", "V"))
    types += tuple(("1",) * 5 for _ in range(5))
    operands = rows[0], logs(2, 3, 5, 7, 1), *rows[1:], numbers(100, 200, 300)
    given = laid(ops.RelayAdjoint(2, "weak"), 0 * rows[2], numbers(0, 0, 1), *operands, types=types)
    dr, da, dp, dv, di = map(squeezed, given)
    assert (dr, di) == ([[0, 0]] * 5, near([0, 0, 35]))
    assert dp == near2([[0, 0], [0, 0], [7 * 1, 7 * 10], [3, 0], [0, 0]])
    assert dv == near2([[0, 0], [0, 0], [7 * 8, 7 * 9], [1, 0], [0, 0]])
    assert da == near([0, 0, 7 * 1500, 7 * (1500 + 98), 0])


def near2(values: list[list[float]]) -> list[object]:
    return [near(row) for row in values]
