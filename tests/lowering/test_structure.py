"""What lowering makes of a mask: which operations, over which heads, and what is shared."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from compilation import inputs_of, joint, lowered, masked, sizes_of, small_shape

import maskdsl
from maskdsl import codegen, library
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.ops import Operation
from maskdsl.chunk.program import Instruction, Program
from maskdsl.lowering.chunking import chunk_size
from maskdsl.lowering.lower import lower
from maskdsl.mask.normal import Hierarchy, Term
from maskdsl.mask.scalars import ONE
from maskdsl.runtime.oracle import dense

GATE, LAM, STRENGTH = "g : token <= 0", "lam : level", "b : token in [0, 1]"


def made_by(program: Program, *kinds: type[Operation]) -> list[Instruction]:
    """The instructions of some kinds."""
    return [i for i in program.instructions if isinstance(i.op, kinds)]


def graph_of(program: Program) -> set[str]:
    """The operations between chunks."""
    kinds = (ops.Scan, ops.SolvedScan, ops.Tree, ops.Walk, ops.Band)
    return {type(i.op).__name__ for i in made_by(program, *kinds)}


@pytest.mark.parametrize(
    ("mask", "declared", "expected"),
    [
        ("causal", [], {"Scan"}),
        ("semiseparable(g)", [GATE], {"Scan"}),
        ("delta(k, b)", [STRENGTH], {"SolvedScan"}),
        ("fenwick(lam)", [LAM], {"Tree", "Walk"}),
        ("semiseparable(g) * delta(k, b) * fenwick(lam, 3)", [GATE, STRENGTH, LAM], {"Tree", "Walk"}),
        ('fenwick(lam, admissibility="strong")', [LAM], {"Tree", "Walk", "Band"}),
        ("window(200)", [], {"Band"}),
        ("fenwick(lam) * window(200)", [LAM], {"Band"}),
        ("window(1)", [], set()),
        ("fenwick(g)", [GATE], {"Scan"}),
        ("causal + window(200) + fenwick(lam)", [LAM], {"Scan", "Band", "Tree", "Walk"}),
    ],
)
def test_the_graph_between_chunks(mask: str, declared: list[str], expected: set[str]) -> None:
    assert graph_of(lower(masked(mask, *declared))) == expected


@pytest.mark.parametrize(
    ("width", "chunk", "lags"), [(2, 4, 1), (5, 4, 1), (6, 4, 2), (9, 4, 2), (10, 4, 3), (2, 1, 1), (9, 1, 8)]
)
def test_a_window_reaches_as_many_chunks_as_it_must(width: int, chunk: int, lags: int) -> None:
    (band,) = made_by(lower(masked(f"window({width})"), chunk=chunk), ops.Band)
    assert isinstance(band.op, ops.Band)
    assert (band.op.lags, band.op.width) == (lags, width)


def test_a_strong_hierarchy_reads_its_neighbour_position_by_position() -> None:
    (band,) = made_by(lower(masked('fenwick(lam, admissibility="strong")', LAM)), ops.Band)
    assert band.op == ops.Band(1, None, 2, "strong")
    assert len(band.operands) == 5


@pytest.mark.parametrize(("width", "cut"), [(3, True), (4, False), (5, False)])
def test_a_window_cuts_inside_chunks_only_where_it_is_narrower(width: int, cut: bool) -> None:
    assert bool(made_by(lower(masked(f"window({width})"), chunk=4), ops.Near)) == cut


def test_scores_are_computed_once_for_a_group_of_heads() -> None:
    spec = masked("semiseparable(g) * fenwick(lam)", GATE, LAM)
    program = lower(spec, {"q": 4, "k": 4})
    types = program.types
    scores = [i for i in made_by(program, ops.Dot) if types[i.results[0]][-2:] == ("C64", "C64")]
    assert [types[i.results[0]][1] for i in scores] == ["H/4"]
    assert [i for i in made_by(program, ops.Repeat) if types[i.results[0]][-2:] == ("C64", "C64")]


def test_different_groups_meet_over_all_heads() -> None:
    program = lower(masked("causal"), {"q": 4, "k": 2})
    types = program.types
    (scores,) = [i for i in made_by(program, ops.Dot) if types[i.results[0]][-2:] == ("C64", "C64")]
    assert types[scores.results[0]][1] == "H"


def test_a_gated_delta_shares_the_products_of_its_keys() -> None:
    program = lower(masked("semiseparable(g) * delta(k, b)", GATE, STRENGTH), {"k": 2})
    types = program.types
    square = [i for i in made_by(program, ops.Dot) if types[i.results[0]][-2:] == ("C32", "C32")]
    of_keys = [i for i in square if i.operands[0] == i.operands[1]]
    # reads k[c]' k[s] v[s] and the system k[c]' k[s] are one product; q k' serves scores and answers
    assert len(of_keys) == 1
    assert types[of_keys[0].results[0]][1] == "H/2"
    assert len([i for i in square if types[i.operands[0]][-1] == "K"]) == 2


def test_decays_a_channel_go_inside_the_dot() -> None:
    program = lower(masked("semiseparable(c)", "c : channel <= 0"))
    assert len(made_by(program, ops.DecayDot)) == 1
    assert not made_by(program, ops.Spans)


def test_every_input_has_a_gradient_even_where_simplification_removed_it() -> None:
    spec = masked("semiseparable(0 * g) * fenwick(0 * lam + 2)", GATE, LAM)
    program = lower(spec)
    assert [load.name for load in program.loads] == ["q", "k", "v", "g", "lam"]
    assert [name for name, _ in joint(program).outputs] == ["o", "d_q", "d_k", "d_v", "d_g", "d_lam"]


def test_an_output_without_inputs_is_refused() -> None:
    with pytest.raises(ValueError, match="The output of 'test' depends on none of its inputs"):
        lower(masked("causal, scale=0"))


@pytest.mark.parametrize(
    "mask",
    [
        "rank1(0 * k, k)",
        "delta(k, 0) @ rank1(k, 0 * k)",
        "semiseparable(0 * c) @ delta(0 * k + 0.1, 0 * g)",
        "fenwick(0 * lam + 2) * semiseparable(0 * g)",
        "causal, scale=1/Hk + Hk",
        "delta(k / Hk, 1)",
        "causal, scale=B * T * H / (K * V)",
    ],
)
def test_expressions_that_simplify_to_constants(mask: str) -> None:
    kinds = {"g": GATE, "c": "c : channel <= 0", "lam": LAM}
    spec = masked(mask, *(text for name, text in kinds.items() if re.search(rf"\b{name}\b", mask)))
    shape = small_shape(spec, q=3, k=3)
    inputs = inputs_of(spec, shape)
    made = interpret(lowered(spec, shape, 4), inputs, sizes_of(shape))["o"]
    assert (made - dense(spec, inputs)).abs().max() < 1e-9


# -- chunk sizes --------------------------------------------------------------------------------------------------


def term(base: int | None = None, window: int | None = None) -> Term:
    return Term((), None if base is None else Hierarchy(ONE, base, "weak"), window)


@pytest.mark.parametrize(
    ("base", "window", "size"),
    [
        (None, None, 64),
        (2, None, 64),
        (3, None, 81),
        (4, None, 64),
        (5, None, 125),
        (7, None, 49),
        (100, None, 100),
        (2, 500, 64),
        (None, 1, 64),
        (None, 256, 64),
        (None, 257, 128),
        (None, 1000, 256),
        (None, 10**6, 256),
    ],
)
def test_chosen_chunk_sizes(base: int | None, window: int | None, size: int) -> None:
    assert chunk_size(term(base, window)) == size


@pytest.mark.parametrize(("base", "wanted"), [(None, 48), (None, 1), (2, 1), (2, 32), (3, 27), (5, 5)])
def test_wanted_chunk_sizes(base: int | None, wanted: int) -> None:
    assert chunk_size(term(base), wanted) == wanted


@pytest.mark.parametrize(
    ("base", "wanted", "message"),
    [
        (None, 0, "at least one position, not 0"),
        (2, 0, "at least one position, not 0"),
        (2, -2, "at least one position, not -2"),
        (2, 48, "A chunk of 48 positions is no power of the hierarchy's base 2"),
        (3, 2, "no power of the hierarchy's base 3"),
        (5, 26, "no power of the hierarchy's base 5"),
    ],
)
def test_wrong_chunk_sizes(base: int | None, wanted: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chunk_size(term(base), wanted)


# -- no variant by name -------------------------------------------------------------------------------------------


def compiler_files() -> list[Path]:
    folders = [Path(maskdsl.__file__).parent / stage for stage in ("chunk", "lowering", "differentiation", "schedule")]
    folders.append(Path(str(codegen.__file__)).parent)
    return [file for folder in folders for file in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("file", compiler_files(), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_stage_knows_a_definition_by_name(file: Path) -> None:
    text = file.read_text(encoding="utf-8").lower()
    words = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    known = [name for name in library.names() if name in words or re.search(rf"\b{name}\b", text)]
    assert known == []


def test_the_compiler_has_files_to_look_through() -> None:
    assert len(compiler_files()) > 25


def test_rank_one_steps_and_they_alone_are_worked_out_in_float64() -> None:
    reflecting = lower(masked("semiseparable(g) * delta(k, b)", GATE, STRENGTH))
    assert {i.op.wide for i in reflecting.instructions if isinstance(i.op, ops.Cast)} == {True, False}
    (scan,) = made_by(reflecting, ops.SolvedScan)
    narrow = {r for i in reflecting.instructions if i.op == ops.Cast(wide=False) for r in i.results}
    assert scan.operands[4] in narrow
    assert not made_by(lower(masked("semiseparable(g)", GATE)), ops.Cast)
