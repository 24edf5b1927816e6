"""Laid-out programs, interpreted: sequences in slots, memories handed in and out."""

from __future__ import annotations

import pytest
import torch
from compilation import (
    assert_near,
    inputs_of,
    joint,
    legal_chunks,
    library_spec,
    masked,
    sizes_of,
    small_shape,
    spec_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spec_texts
from torch import Tensor

from maskdsl import library
from maskdsl.chunk import ops
from maskdsl.chunk.interpret import interpret
from maskdsl.chunk.program import Program
from maskdsl.chunk.sequences import Sequences
from maskdsl.chunk.text import parse, to_text
from maskdsl.lowering.hand import Hand, handed
from maskdsl.lowering.lower import lower
from maskdsl.lowering.memory import memories
from maskdsl.runtime.oracle import dense
from maskdsl.spec import Spec

CUTS = Sequences(((0, 4, 4, 11),), ((0, 0, 0),))
"""One batch row with sequences of 4, 0 and 7 tokens."""


def loads(program: Program) -> dict[str, ops.Axes]:
    return {load.name: load.axes for load in program.loads}


def test_a_plain_program_is_not_laid_out() -> None:
    plain = lower(masked("semiseparable(g) * fenwick(lam)", "g : token <= 0", "lam : level"))
    laid = {ops.Lay, ops.Unlay, ops.Relay, ops.Slide}
    assert not laid & {type(each.op) for each in plain.instructions}
    assert [name for name, _ in plain.outputs] == ["o"]


@pytest.mark.parametrize("hand", [Hand(a, b, laid=True) for a in (False, True) for b in (False, True)], ids=str)
def test_memories_are_loaded_and_put_out_by_name(hand: Hand) -> None:
    mask = "semiseparable(g) + causal * fenwick(lam) + window(5) + window(1)"
    spec = masked(mask, "g : token <= 0", "lam : level")
    expected = {
        "attend_1_1.state": ("B", "H", "S", "K", "V"),
        "attend_1_2.states": ("B", "H", "S", "M", "K", "V"),
        "attend_1_4.keys": ("B", "H", "S", "R4", "K"),
        "attend_1_4.values": ("B", "H", "S", "R4", "V"),
    }
    assert {name: axes for memory in memories(spec) for name, axes in handed(memory).items()} == expected
    program = lower(spec, {}, 4, hand)
    own = dict.fromkeys(["q", "k", "v", "g", "lam"])
    assert {n: axes for n, axes in loads(program).items() if n not in own} == (expected if hand.initial else {})
    types = program.types
    assert {n: types[x] for n, x in program.outputs[1:]} == (expected if hand.final else {})


def test_decays_are_handed_on_multiplied_in() -> None:
    spec = masked("semiseparable(g) * fenwick(lam)", "g : token <= 0", "lam : level")
    (memory,) = memories(spec)
    assert [each.name for each in memory.buffers] == ["states", "logs"]
    assert list(handed(memory)) == ["attend_1_1.states"]


@pytest.mark.parametrize("name", library.names())
def test_the_text_parses_back(name: str) -> None:
    forward = lower(library_spec(name), hand=Hand(True, True, laid=True))
    for program in (forward, joint(forward)):
        assert parse(to_text(program)) == program


@settings(max_examples=12)
@given(st.data(), spec_texts())
def test_packed_random_specs(data: st.DataObject, text: str) -> None:
    """Outputs and gradients are those of the sequences alone."""
    spec = spec_of(text)
    program = lower(spec, {}, data.draw(legal_chunks(spec)), Hand(laid=True))
    assert_apart(spec, program)


def assert_apart(spec: Spec, program: Program) -> None:
    shape = small_shape(spec, length=CUTS.bounds[0][-1], batch=1)
    inputs = {name: x.requires_grad_() for name, x in inputs_of(spec, shape).items()}
    by_token = {each.name for each in spec.inputs if "T" in each.kind.value}

    def alone(start: int, end: int) -> Tensor:
        return dense(spec, {name: x[:, start:end] if name in by_token else x for name, x in inputs.items()})

    expected = torch.cat([alone(0, 4), alone(4, 11)], 1)
    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(expected, list(inputs.values()), cotangent, allow_unused=True)
    known = {name: x.detach() for name, x in inputs.items()} | {"d_o": cotangent}
    made = interpret(joint(program), known, sizes_of(shape) | {"S": 3}, CUTS)
    assert_near(made["o"], expected.detach(), 1e-10)
    largest = max(g.abs().max().item() for g in gradients if g is not None)
    for (name, x), gradient in zip(inputs.items(), gradients, strict=True):
        zero = torch.zeros_like(x)
        assert_near(made[f"d_{name}"], zero if gradient is None else gradient, 1e-9, rounding=largest)


def test_an_unused_memory_is_put_out_all_the_same() -> None:
    """An attend that simplification takes out of the output still sees its tokens."""
    lines = ["q, k : key", "v : value", "o = attend(q, k, v, causal)", "return v + 0 * o"]
    spec = spec_of("attention test:\n" + "".join(f"    {line}\n" for line in lines))
    program = lower(spec, {}, 4, Hand(True, True, laid=True))
    assert [name for name, _ in program.outputs] == ["o", "o_1.state"]


@pytest.mark.parametrize(
    "mask", ["semiseparable(g) * fenwick(lam)", "causal * fenwick(lam) + semiseparable(g) * window(5)"]
)
def test_memories_by_position_need_slots(mask: str) -> None:
    with pytest.raises(ValueError, match="go by position, for which a program has to be laid out"):
        lower(masked(mask, "g : token <= 0", "lam : level"), hand=Hand(initial=True))
