"""States as programs over chunks hand them over."""

from __future__ import annotations

import pytest
import torch
from agreement import compiled, inputs_of
from tokens import assert_same_state, part, sequences, start, steps
from torch import Tensor
from variants import VARIANTS

from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.folded import fold, unfold
from maskdsl.runtime.oracle import recurrent_with_state
from maskdsl.runtime.state import State


def aged(attention: Attention) -> tuple[dict[str, Tensor], State]:
    """Three sequences at positions 0, 5 and 23, and the inputs that brought them there."""
    inputs = inputs_of(attention, 30, B=3)
    state = start(attention, inputs)
    for row, age in ((1, 5), (2, 23)):
        alone = sequences(attention.spec, inputs, [row])
        for t in range(age):
            attention.step(state, **part(attention.spec, alone, t, t + 1), slots=torch.tensor([row]))
    return inputs, state


@pytest.mark.parametrize("name", VARIANTS)
def test_back_and_forth_means_the_same(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs, state = aged(attention)
    again = unfold(attention.spec, fold(state.clone(), torch.float64), state.positions.clone())
    assert again.furthest == 23
    layout = [(memory, buffer, x.shape, x.dtype) for memory, buffer, x in state.buffers()]
    assert layout == [(memory, buffer, x.shape, x.dtype) for memory, buffer, x in again.buffers()]
    assert all(not x.any() for _, buffer, x in again.buffers() if buffer == "logs")
    assert_same_state(again.memories, state.memories, 1e-12)
    token = part(attention.spec, inputs, 29, 30)
    torch.testing.assert_close(attention.step(again, **token), attention.step(state, **token), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["number, window", "diagonal, window", "operator, window"])
def test_a_window_comes_in_order_of_age(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs, state = aged(attention)
    folded = fold(state, torch.float64)["attend_1_1"]
    for row, age in enumerate((0, 5, 23)):
        held = min(age, 19)
        values = inputs["v"][row, age - held : age].transpose(0, 1)
        assert folded["values"][row, :, 19 - held :].equal(values)
        assert not folded["values"][row, :, : 19 - held].any()
        assert not folded["keys"][row, :, : 19 - held].any()


def test_gradients_flow_both_ways() -> None:
    attention = compiled(*VARIANTS["diagonal, window"])
    _, state = aged(attention)
    leaves = [x.detach().requires_grad_() for _, _, x in state.buffers()]
    names = [(memory, buffer) for memory, buffer, _ in state.buffers()]

    def run(*buffers: Tensor) -> tuple[Tensor, ...]:
        memories = {"attend_1_1": {buffer: x for (_, buffer), x in zip(names, buffers, strict=True)}}
        folded = fold(State(state.spec, memories, state.positions), torch.float64)
        back = unfold(state.spec, folded, state.positions)
        return (*folded["attend_1_1"].values(), *(x for _, buffer, x in back.buffers() if buffer != "logs"))

    assert torch.autograd.gradcheck(run, leaves)


def test_half_precision_is_multiplied_out_in_the_dtype_that_is_asked_for() -> None:
    attention = compiled(*VARIANTS["number, weak hierarchy"])
    _, state = aged(attention)
    half = state.to(torch.bfloat16)
    kept = half.memories["attend_1_1"]
    (states,) = fold(half, torch.float32)["attend_1_1"].values()
    assert states.equal(kept["states"].float() * kept["logs"].exp().float()[..., None, None])


def test_the_oracle_hands_over_the_same() -> None:
    attention = compiled(*VARIANTS["diagonal, weak hierarchy"])
    inputs, _ = aged(attention)
    state = start(attention, inputs)
    steps(attention, state, inputs)
    _, final = recurrent_with_state(attention.spec, inputs)
    torch.testing.assert_close(fold(state, torch.float64)["attend_1_1"]["states"], final["attend_1_1"]["states"])
