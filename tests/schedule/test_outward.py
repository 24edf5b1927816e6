"""Factors of rows on the outside of products, which compute what they did."""

from __future__ import annotations

import pytest
from compilation import assert_near, inputs_of, joint, library_spec, lowered, random_value, sizes_of, small_shape

from maskdsl import library
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.schedule.outward import outward
from maskdsl.schedule.rows import hoist


@pytest.mark.parametrize("name", library.names())
def test_the_meaning_is_the_same(name: str) -> None:
    spec = library_spec(name)
    shape = small_shape(spec)
    program, sizes = hoist(joint(lowered(spec, shape))), sizes_of(shape)
    (gradient,) = (load for load in program.loads if load.name.startswith("d_"))
    inputs = inputs_of(spec, shape) | {gradient.name: random_value(gradient.axes, sizes, 1)}
    expected = interpret(program, inputs, sizes)
    for output, found in interpret(outward(program), inputs, sizes).items():
        assert_near(found, expected[output], 1e-12)


def test_normalised_keys_that_decay_by_channel_keep_the_keys_as_they_came() -> None:
    spec = library_spec("kda")
    program = outward(hoist(lowered(spec, small_shape(spec))))
    maker = {r: i for i in program.instructions for r in i.results}
    (scan,) = (i for i in program.instructions if isinstance(i.op, ops.SolvedScan))
    for factor in scan.operands[1:3]:
        assert maker[factor].op == ops.Map(ops.argument(0) * ops.argument(1))
        bare, rows = maker[factor].operands
        assert program.types[rows][-1] == "1"
        loads = [maker[maker[x].operands[0]].op for x in maker[bare].operands if isinstance(maker[x].op, ops.Chunk)]
        assert [op.name for op in loads if isinstance(op, ops.Load)] == ["k"]


@pytest.mark.parametrize("name", ["mamba2", "gla", "log_linear_attention"])
def test_what_is_not_normalised_stays(name: str) -> None:
    spec = library_spec(name)
    program = hoist(joint(lowered(spec, small_shape(spec))))
    assert outward(program) == program
