"""The split into a forward and a backward program: nothing lost, nothing expensive done twice."""

from __future__ import annotations

import pytest
import torch
from compilation import (
    assert_near,
    inputs_of,
    joint,
    legal_chunks,
    library_spec,
    lowered,
    masked,
    sizes_of,
    small_shape,
    spec_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spec_texts

from maskdsl import library
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.ops import Load
from maskdsl.chunk.program import Program, verify
from maskdsl.lowering.lower import lower
from maskdsl.runtime.sampling import Shape, shapes
from maskdsl.schedule.cost import TYPICAL, elements, flops
from maskdsl.schedule.storage import EXPENSIVE, Schedule, schedule
from maskdsl.spec import Spec

every_definition = pytest.mark.parametrize("name", library.names())


def split(name: str) -> tuple[Program, Schedule]:
    forward = lower(library_spec(name))
    return forward, schedule(forward, joint(forward))


def assert_equal_to_joint(spec: Spec, shape: Shape, chunk: int | None) -> None:
    """Forward, then backward from what it stored, gives what the joint program gives."""
    forward = lowered(spec, shape, chunk)
    whole = joint(forward)
    parts = schedule(forward, whole)
    sizes, inputs = sizes_of(shape), inputs_of(spec, shape)
    cotangent = torch.randn(shape.B, shape.T, shape.H, shape.V, generator=torch.Generator().manual_seed(3))
    known = inputs | {"d_o": cotangent.double()}
    expected = interpret(whole, known, sizes)
    made = interpret(parts.forward, inputs, sizes)
    assert list(made) == ["o", *parts.stored]
    gradients = interpret(parts.backward, known | {name: made[name] for name in parts.stored}, sizes)
    assert list(gradients) == [f"d_{each.name}" for each in spec.inputs]
    for name, value in {"o": made["o"], **gradients}.items():
        assert_near(value, expected[name], 1e-12)


@every_definition
def test_the_two_programs_do_what_the_joint_one_does(name: str) -> None:
    spec = library_spec(name)
    keys = [each.name for each in spec.inputs if each.kind.label == "key"]
    assert_equal_to_joint(spec, small_shape(spec, **dict(zip(keys, (2, 3), strict=False))), 4)


@settings(max_examples=8)
@given(st.data(), spec_texts())
def test_random_specs_split_without_loss(data: st.DataObject, text: str) -> None:
    spec = spec_of(text)
    assert_equal_to_joint(spec, data.draw(shapes(spec, longest=9)), data.draw(legal_chunks(spec)))


@every_definition
def test_nothing_expensive_is_computed_twice(name: str) -> None:
    _, parts = split(name)
    done = {(i.op, i.operands) for i in parts.forward.instructions}
    types = parts.backward.types
    again = [i for i in parts.backward.instructions if (i.op, i.operands) in done and not isinstance(i.op, Load)]
    for instruction in again:
        made = sum(elements(axes, TYPICAL) for axes in instruction.types)
        assert flops(instruction, types, TYPICAL) <= EXPENSIVE * made


@every_definition
def test_inputs_are_never_stored_a_second_time(name: str) -> None:
    forward, parts = split(name)
    loaded = {i.results[0] for i in forward.instructions if isinstance(i.op, Load)}
    assert not loaded & set(parts.stored)
    assert len(set(parts.stored)) == len(parts.stored)
    read = [load.name for load in parts.backward.loads]
    assert len(set(read)) == len(read)
    assert set(parts.stored) <= set(read)


@every_definition
def test_both_programs_verify_and_pass_what_they_say(name: str) -> None:
    forward, parts = split(name)
    verify(parts.forward)
    verify(parts.backward)
    assert [output for output, _ in parts.forward.outputs] == ["o", *parts.stored]
    inputs = {load.name for load in forward.loads}
    assert {load.name for load in parts.backward.loads} <= inputs | {"d_o"} | set(parts.stored)
    stored = {load.name: load.axes for load in parts.backward.loads if load.name in parts.stored}
    assert stored == {name: parts.forward.types[name] for name in parts.stored}


def test_plain_linear_attention_stores_no_more_than_its_states() -> None:
    forward = lower(masked("causal"))
    parts = schedule(forward, joint(forward))
    # q, k and v are inputs; scores and states cost a dot each to make again
    assert sum(elements(parts.forward.types[name], TYPICAL) for name in parts.stored) <= sum(
        elements(("B", "H", "N64", *rest), TYPICAL) for rest in (("C64", "C64"), ("K", "V"))
    )


def test_an_elementwise_chain_is_computed_again_from_its_inputs() -> None:
    forward = lower(masked("window(1)"))
    parts = schedule(forward, joint(forward))
    layouts = {"v_chunks", "q_chunks", "k_chunks"}
    assert layouts <= set(forward.types)
    assert not layouts & set(parts.stored)
