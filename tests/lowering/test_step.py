"""The program of one token: what it is made of, and, interpreted token by token, the dense oracle's output."""

from __future__ import annotations

import pytest
import torch
from compilation import assert_near, attention, inputs_of, library_spec, masked, sizes_of, small_shape, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spec_texts
from tokens import part
from torch import Tensor
from variants import VARIANTS

from maskdsl import library
from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.program import Program
from maskdsl.lowering.memory import POSITIONS, memories
from maskdsl.lowering.step import lower_step
from maskdsl.runtime.oracle import dense
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, regimes, shapes
from maskdsl.spec import Spec

GATE, LAM = "g : token <= 0", "lam : level"


def stepped(spec: Spec, shape: Shape) -> Program:
    return lower_step(spec, {name: shape.H // own for name, own in shape.key_heads})


def interpreted(spec: Spec, shape: Shape, inputs: dict[str, Tensor]) -> Tensor:
    """All tokens of a call, one after the other, from buffers of zeros."""
    program, sizes = stepped(spec, shape), sizes_of(shape) | {"T": 1}
    kept = {
        memory.full_name(buffer): torch.zeros([ax.extent(axis, sizes) for axis in buffer.axes], dtype=torch.float64)
        for memory in memories(spec)
        for buffer in memory.buffers
    }
    outputs = []
    for t in range(shape.T):
        positions = {POSITIONS: torch.full((shape.B,), t)}
        kept = interpret(program, part(spec, inputs, t, t + 1) | kept | positions, sizes)
        outputs.append(kept.pop("o"))
    return torch.cat(outputs, 1)


@settings(max_examples=25)
@given(st.data(), spec_texts(), regimes())
def test_random_specs_mean_what_the_dense_oracle_says(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = spec_of(text)
    shape = data.draw(shapes(spec, longest=20))
    inputs = inputs_of(spec, shape, regime=regime)
    assert_near(interpreted(spec, shape, inputs), dense(spec, inputs), 1e-10)


@pytest.mark.parametrize("name", library.names())
def test_library_definitions_with_grouped_heads(name: str) -> None:
    spec = library_spec(name)
    keys = [each.name for each in spec.inputs if each.kind.label == "key"]
    shape = small_shape(spec, 9, **dict(zip(keys, (2, 3), strict=False)))
    inputs = inputs_of(spec, shape)
    assert_near(interpreted(spec, shape, inputs), dense(spec, inputs), 1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_way_to_compute_a_mask(name: str) -> None:
    spec = attention(*VARIANTS[name])
    shape = small_shape(spec, 23, batch=1)
    inputs = inputs_of(spec, shape)
    assert_near(interpreted(spec, shape, inputs), dense(spec, inputs), 1e-10)


@pytest.mark.parametrize(
    ("mask", "declared", "expected"),
    [
        ("causal", [], set()),
        ("window(1)", [], set()),
        ("window(4)", [], {"Enter"}),
        ("fenwick(lam)", [LAM], {"Split", "Regroup"}),
        ("window(1) * fenwick(lam)", [LAM], {"Split"}),
        ("window(4) * fenwick(lam)", [LAM], {"Split", "SelectSlots", "Enter"}),
    ],
)
def test_what_a_step_is_made_of(mask: str, declared: list[str], expected: set[str]) -> None:
    program = lower_step(masked(mask, *declared))
    kinds = (ops.Split, ops.Regroup, ops.Enter, ops.SelectSlots)
    assert {type(i.op).__name__ for i in program.instructions if isinstance(i.op, kinds)} == expected
    assert any(load.name == POSITIONS for load in program.loads) == bool(expected - {"Split"})


def test_every_buffer_is_loaded_and_put_out() -> None:
    spec = masked("window(5) * semiseparable(g) + fenwick(lam) * semiseparable(g) + causal", GATE, LAM)
    program = lower_step(spec)
    buffers = {memory.full_name(buffer): buffer.axes for memory in memories(spec) for buffer in memory.buffers}
    assert {load.name: load.axes for load in program.loads if "." in load.name} == buffers | {POSITIONS: ("B",)}
    (output, _), *kept = program.outputs
    assert output == "o"
    assert {name: program.types[value] for name, value in kept} == buffers


def test_a_decay_by_level_waits_in_its_log() -> None:
    """The rows of the state go into the regrouping as they were loaded: a step writes what it regroups only."""
    program = lower_step(masked("fenwick(lam) * semiseparable(g)", GATE, LAM))
    (regroup,) = [i for i in program.instructions if isinstance(i.op, ops.Regroup)]
    loaded = {i.results[0]: i.op.name for i in program.instructions if isinstance(i.op, ops.Load)}
    assert loaded[regroup.operands[2]] == "attend_1_1.states"
    wide = {r for i in program.instructions if i.op == ops.Cast(wide=True) for r in i.results}
    (logs,) = [i for i in program.instructions if regroup.operands[3] in i.results]
    assert wide & set(logs.operands)


def test_key_side_heads_are_shared() -> None:
    program = lower_step(masked("window(5)"), {"q": 2, "k": 2})
    types = program.types
    scores = [types[i.results[0]] for i in program.instructions if i.op == ops.Dot(transpose_y=True)]
    assert ("B", "H/2", "1", "1", "1") in scores
