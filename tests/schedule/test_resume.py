"""States that are read before every second chunk only: in which programs, and that their meaning stays."""

from __future__ import annotations

import pytest
from compilation import (
    assert_near,
    inputs_of,
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
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.program import Program
from maskdsl.runtime.sampling import Shape, shapes
from maskdsl.schedule.configuration import Configuration
from maskdsl.schedule.narrowing import narrowed
from maskdsl.schedule.plan import plan
from maskdsl.schedule.resume import resumed
from maskdsl.schedule.rows import hoist
from maskdsl.spec import Spec

RESUMED = ("linear_attention", "mamba2", "retention", "simple_gla")

training_or_not = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


def forward(spec: Spec, shape: Shape | None = None, chunk: int | None = None) -> Program:
    return narrowed(hoist(lowered(spec, shape or small_shape(spec), chunk)))


def count(program: Program, op: ops.Operation) -> int:
    return sum(i.op == op for i in program.instructions)


@training_or_not
def test_which_definitions_resume(training: bool) -> None:
    before = {name: forward(library_spec(name)) for name in library.names()}
    assert {name for name, program in before.items() if resumed(program, training) != program} == set(RESUMED)


def test_what_takes_the_place_of_a_scan() -> None:
    program = forward(library_spec("simple_gla"))
    training, inference = resumed(program, True), resumed(program, False)
    assert [count(each, ops.Resume()) for each in (program, training, inference)] == [0, 1, 1]
    assert [count(each, ops.Scan()) for each in (program, training, inference)] == [1, 1, 0]
    assert count(inference, ops.Scan(every=2)) == 1


def test_two_scans_stay() -> None:
    program = forward(library_spec("two_timescale"))
    assert count(program, ops.Scan()) == 2
    assert resumed(program, False) == program


def test_heads_that_share_keys_stay() -> None:
    spec = library_spec("mamba2")
    shared = forward(spec, small_shape(spec, q=2, k=2))
    assert resumed(shared, True) == resumed(shared, False) == shared


@pytest.mark.parametrize(
    "mask",
    [
        "semiseparable(x)",
        "semiseparable(g) + semiseparable(x)",
        "semiseparable(g) + window(100)",
        "semiseparable(g) * fenwick(lam)",
        "semiseparable(g) + fenwick(lam)",
        "rank1(-k, k) @ semiseparable(g) + semiseparable(g)",
    ],
)
def test_what_has_other_operations_between_chunks_stays(mask: str) -> None:
    declared = ("g : token <= 0", "x : channel <= 0", "lam : level")
    spec = masked(mask, *(line for line in declared if line.split()[0] in mask.replace("(", " ").replace(")", " ")))
    program = forward(spec)
    assert resumed(program, True) == resumed(program, False) == program


@training_or_not
@pytest.mark.parametrize("T", [1, 4, 5, 8, 9, 11])
@pytest.mark.parametrize("name", RESUMED)
def test_definitions_keep_their_meaning(name: str, T: int, training: bool) -> None:
    spec = library_spec(name)
    assert_same_meaning(spec, small_shape(spec, T), 4, training)


@settings(max_examples=15)
@given(st.data(), spec_texts(), st.booleans())
def test_random_specs_keep_their_meaning(data: st.DataObject, text: str, training: bool) -> None:
    spec = spec_of(text)
    assert_same_meaning(spec, data.draw(shapes(spec, longest=9)), data.draw(legal_chunks(spec)), training)


def assert_same_meaning(spec: Spec, shape: Shape, chunk: int | None, training: bool) -> None:
    """In inference also that no state is read that is not there: it would be no number."""
    before = forward(spec, shape, chunk)
    sizes, inputs = sizes_of(shape), inputs_of(spec, shape)
    expected, found = interpret(before, inputs, sizes)["o"], interpret(resumed(before, training), inputs, sizes)["o"]
    assert_near(found, expected, 1e-12)


@pytest.mark.parametrize("name", library.names())
def test_inference_keeps_nothing(name: str) -> None:
    configuration = Configuration((), 16, 16, 16, "bf16", training=False)
    found = plan(library_spec(name), configuration)
    assert found.kept == ()
    assert found.second.stages == ()
