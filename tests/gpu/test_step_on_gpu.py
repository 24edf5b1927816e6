"""Token by token on a GPU: the oracle's numbers, and no reading back between tokens."""

from __future__ import annotations

import pytest
import torch
from agreement import compiled, inputs_of
from tokens import part, start, steps
from variants import VARIANTS

import maskdsl
from maskdsl.runtime.oracle import recurrent

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_are_the_oracles(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 40, B=2)
    truth = recurrent(attention.spec, inputs)
    state = start(attention, inputs).to("cuda")
    output = steps(attention, state, {each: x.cuda() for each, x in inputs.items()}).cpu()
    assert (output - truth).norm() <= 1e-10 * truth.norm()
    state = start(attention, inputs, torch.float32).to("cuda")
    output = steps(attention, state, {each: x.float().cuda() for each, x in inputs.items()}).cpu()
    assert (output - truth).norm() <= 1e-5 * truth.norm()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_waits_for_nothing(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs = {each: x.cuda() for each, x in inputs_of(attention, 7, B=3).items()}
    state, slots = start(attention, inputs).to("cuda"), torch.tensor([2, 0, 1], device="cuda")
    attention.step(state, **part(attention.spec, inputs, 0, 1))
    torch.cuda.set_sync_debug_mode("error")
    try:
        attention.step(state, **part(attention.spec, inputs, 1, 2))
        attention.step(state, **part(attention.spec, inputs, 2, 3), slots=slots)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_position_beyond_the_levels_is_seen() -> None:
    attention = compiled(*VARIANTS["number, weak hierarchy"])
    inputs = {each: x.cuda() for each, x in inputs_of(attention, 8).items()}
    state = start(attention, inputs).to("cuda")
    steps(attention, state, inputs)
    with pytest.raises(maskdsl.CallError, match="'lam' has 4 levels, but a sequence at position 8 needs 5"):
        attention.step(state, **part(attention.spec, inputs, 0, 1))
