"""Programs: what the verifier refuses, what the builder makes once, what pruning leaves."""

from __future__ import annotations

import pytest

from maskdsl.chunk import ops
from maskdsl.chunk.program import Builder, Instruction, Invalid, Program, prune, verify

TOKENS = ("B", "T", "H")
LOAD = Instruction(("a",), ops.Load("a", TOKENS), (), (TOKENS,))
DOUBLE = Instruction(("b",), ops.Map(2 * ops.argument(0)), ("a",), (TOKENS,))


def program(*instructions: Instruction, output: str = "b") -> Program:
    return Program("test", instructions, (("o", output),))


def test_a_sound_program_is_returned_as_it_is() -> None:
    sound = program(LOAD, DOUBLE)
    assert verify(sound) is sound


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (program(DOUBLE, LOAD), "b = Map.* in program 'test': a not made yet"),
        (program(DOUBLE), "a not made yet"),
        (program(LOAD, LOAD, output="a"), "a made twice"),
        (program(LOAD, Instruction(("b", "b"), ops.Tree(2), ("a", "a"), (TOKENS, TOKENS))), "Tree does not take"),
        (program(LOAD, Instruction(("b",), DOUBLE.op, ("a",), (("B", "T"),))), "has type .*, should have"),
        (program(LOAD, Instruction(("b",), ops.Chunk(2), ("a", "a"), (TOKENS,))), "Chunk does not take"),
        (program(LOAD, DOUBLE, output="c"), "outputs of program 'test' never made: c"),
    ],
)
def test_what_the_verifier_refuses(broken: Program, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        verify(broken)


def test_the_builder_makes_equal_instructions_once() -> None:
    build = Builder("test")
    a = build(ops.Load("a", TOKENS), name="a")
    first, again = (build(ops.Map(2 * ops.argument(0)), a, name=name) for name in ("b", "c"))
    other = build(ops.Map(3 * ops.argument(0)), a, name="b")
    assert (first, again, other) == ("b", "b", "b_1")
    assert len(build.instructions) == 3


def test_the_builder_knows_what_it_starts_with() -> None:
    build = Builder("test", (LOAD, DOUBLE))
    assert build(DOUBLE.op, "a", name="anything") == "b"
    assert build.fresh("a") == "a_1"
    assert build.types == {"a": TOKENS, "b": TOKENS}


def test_fresh_names_avoid_names_that_look_like_numbered_ones() -> None:
    build = Builder("test")
    made = [build(ops.Load(name, TOKENS), name=name) for name in ("x_1", "x")]
    made.append(build(ops.Load("another", TOKENS), name="x"))
    assert made == ["x_1", "x", "x_2"]


def test_the_builder_refuses_bad_operands_at_once() -> None:
    build = Builder("test", (LOAD,))
    with pytest.raises(Exception, match="Transpose does not take"):
        build(ops.Transpose(), name="b")


def test_pruning_leaves_what_outputs_need() -> None:
    unused = Instruction(("c",), ops.Map(ops.argument(0) + 1), ("b",), (TOKENS,))
    assert prune(program(LOAD, DOUBLE, unused)) == program(LOAD, DOUBLE)
    assert prune(program(LOAD, DOUBLE, unused, output="a")) == program(LOAD, output="a")


def test_an_instruction_with_one_needed_result_stays_whole() -> None:
    number, state = ("B", "H", "N2", "1", "1"), ("B", "H", "N2", "K", "V")
    build = Builder("test")
    leaves = build(ops.Load("a", number), name="a"), build(ops.Load("h", state), name="h")
    _, blocks = build.apply(ops.Tree(2), *leaves, name="tree")
    made = build.program([("o", blocks)])
    assert [i.results for i in made.instructions] == [("a",), ("h",), ("tree", "tree_1")]


def test_origin_takes_no_part_in_equality() -> None:
    assert Instruction(("a",), LOAD.op, (), LOAD.types, origin="inputs") == LOAD


def test_the_graph_carries_values() -> None:
    graph = program(LOAD, DOUBLE).graph()
    assert list(graph.edges(data=True)) == [(0, 1, {"value": "a"})]
    assert graph.nodes[1]["instruction"] == DOUBLE
    assert program(LOAD, DOUBLE).loads == (LOAD.op,)
