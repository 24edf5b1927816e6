"""Products read what a path has rounded, scans what it has not, and compute what they did."""

from __future__ import annotations

import pytest
from compilation import assert_near, inputs_of, joint, library_spec, lowered, random_value, sizes_of, small_shape

from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.schedule.narrowing import narrowed

NAMES = ["deltanet", "gated_deltanet", "log_linear_kda", "rwkv7"]


@pytest.mark.parametrize("name", ["log_linear_gated_deltanet", "log_linear_kda"])
def test_no_later_product_reads_what_was_rounded(name: str) -> None:
    spec = library_spec(name)
    program = narrowed(joint(lowered(spec, small_shape(spec))))
    rounded: set[str] = set()
    replaced = 0
    for instruction in program.instructions:
        if instruction.op == ops.Cast(wide=False):
            rounded |= set(instruction.operands)
        elif isinstance(instruction.op, ops.Dot):
            assert not rounded & set(instruction.operands)
            replaced += any(x.endswith("_narrow") for x in instruction.operands)
    assert replaced


def test_scans_take_values_before_they_are_rounded() -> None:
    spec = library_spec("gated_deltanet")
    program = joint(lowered(spec, small_shape(spec)))
    before, after = (
        next(i for i in each.instructions if i.op == ops.SolvedScan(reverse=True))
        for each in (program, narrowed(program))
    )
    (rounding,) = (i for i in program.instructions if before.operands[3] in i.results)
    assert rounding.op == ops.Cast(wide=False)
    assert after.operands == (*before.operands[:3], rounding.operands[0], *before.operands[4:])


@pytest.mark.parametrize("name", NAMES)
def test_the_meaning_is_the_same(name: str) -> None:
    """The interpreter rounds nothing."""
    spec = library_spec(name)
    shape = small_shape(spec)
    program, sizes = joint(lowered(spec, shape)), sizes_of(shape)
    (gradient,) = (load for load in program.loads if load.name.startswith("d_"))
    inputs = inputs_of(spec, shape) | {gradient.name: random_value(gradient.axes, sizes, 1)}
    expected = interpret(program, inputs, sizes)
    for output, found in interpret(narrowed(program), inputs, sizes).items():
        assert_near(found, expected[output], 1e-12)
