"""Two sets of queries that meet the same keys are scored at once."""

from __future__ import annotations

import torch

import maskdsl
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.program import Builder, Program
from maskdsl.lowering.lower import lower
from maskdsl.schedule.paired import paired

ROWS = ("B", "H", "N4", "C4", "K")


def scored(below: int, chained: bool = False) -> Program:
    """Queries with keys, and keys with each other or, where that is `chained`, with what has become of the first."""
    build = Builder("test")
    q, k, g = (build(ops.Load(name, ROWS), name=name) for name in ("q", "k", "g"))
    first = build(ops.DecayDot(1, 1, 1, 0), q, k, g, name="first")
    other = (
        build(ops.Dot(), first, k, name="other") if chained else build(ops.Map(2 * ops.argument(0)), k, name="other")
    )
    second = build(ops.DecayDot(1, 1, 1, below), other, k, g, name="second")
    return build.program([("x", first), ("y", second)])


def made(program: Program) -> list[type[ops.Operation]]:
    return [type(i.op) for i in program.instructions if isinstance(i.op, ops.DecayDot | ops.DecayDots)]


def test_two_sets_of_queries() -> None:
    before = scored(-1)
    after = paired(before)
    assert made(after) == [ops.DecayDots]
    sizes = {"B": 1, "H": 1, "T": 8, "K": 3}
    inputs = {name: torch.randn(1, 1, 2, 4, 3, dtype=torch.float64) for name in ("q", "k")}
    inputs["g"] = -torch.rand(1, 1, 2, 4, 3, dtype=torch.float64)
    expected = interpret(before, inputs, sizes)
    for name, found in interpret(after, inputs, sizes).items():
        torch.testing.assert_close(found, expected[name])


def test_no_change() -> None:
    for program in (scored(0), scored(-1, chained=True)):
        assert paired(program) == program


def test_the_system_of_a_path_and_its_scores() -> None:
    assert made(paired(lower(maskdsl.compile("kda").spec))) == [ops.DecayDots]
    assert made(paired(lower(maskdsl.compile("gla").spec))) == [ops.DecayDot]
