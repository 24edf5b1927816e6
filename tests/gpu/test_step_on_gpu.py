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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_waits_for_nothing(name: str, dtype: torch.dtype) -> None:
    attention = compiled(*VARIANTS[name])
    inputs = {each: x.to("cuda", dtype) for each, x in inputs_of(attention, 7, B=3).items()}
    state, slots = start(attention, inputs, dtype).to("cuda"), torch.tensor([2, 0, 1], device="cuda")
    attention.step(state, **part(attention.spec, inputs, 0, 1))
    torch.cuda.set_sync_debug_mode("error")
    try:
        attention.step(state, **part(attention.spec, inputs, 1, 2))
        attention.step(state, **part(attention.spec, inputs, 2, 3), slots=slots)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert state.positions.tolist() == [3, 3, 3]


def test_steps_run_as_kernels() -> None:
    attention = compiled(*VARIANTS["operator, weak hierarchy"])
    inputs = {each: x.float().cuda() for each, x in inputs_of(attention, 2).items()}
    state = start(attention, inputs, torch.float32).to("cuda")
    attention.step(state, **part(attention.spec, inputs, 0, 1))
    assert "tl.program_id" in attention.source("step")


@pytest.mark.parametrize("name", VARIANTS)
def test_short_calls_are_steps(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 40, B=2)
    truth = recurrent(attention.spec, inputs)
    single = {each: x.float().cuda() for each, x in inputs.items()}
    first, state = attention(**part(attention.spec, single, 0, 33), output_final_state=True)
    rest = attention(**part(attention.spec, single, 33, 40), initial_state=state)
    assert (torch.cat([first, rest], 1).cpu() - truth).norm() <= 1e-5 * truth.norm()
    assert "tl.program_id" in attention.source("step")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_replay_of_a_graph_is_one_token_more(name: str) -> None:
    attention = compiled(*VARIANTS[name])
    inputs = {each: x.float().cuda() for each, x in inputs_of(attention, 30, B=2).items()}
    eager, replayed = (start(attention, inputs, torch.float32).to("cuda") for _ in range(2))
    wanted = steps(attention, eager, inputs)
    token = {each: x.clone() for each, x in part(attention.spec, inputs, 0, 1).items()}
    attention.step(replayed.clone(), **token)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        o = attention.step(replayed, **token)
    for t in range(30):
        for each, x in part(attention.spec, inputs, t, t + 1).items():
            token[each].copy_(x)
        graph.replay()
        assert torch.equal(o, wanted[:, t : t + 1])
    assert replayed.positions.tolist() == [30, 30]
    for memory, kept in eager.memories.items():
        assert all(torch.equal(x, replayed.memories[memory][buffer]) for buffer, x in kept.items())


@pytest.mark.parametrize("K", [16, 128])
@pytest.mark.parametrize("V", [40, 64, 128, 200])
@pytest.mark.parametrize("name", ["log_linear_mamba2", "gated_deltanet", "log_linear_gla", "windowed_decay"])
def test_sizes_of_heads(name: str, K: int, V: int) -> None:
    attention = maskdsl.compile(name)
    inputs = inputs_of(attention, 20, B=2, K=K, V=V)
    truth = recurrent(attention.spec, inputs)
    state = start(attention, inputs, torch.float32).to("cuda")
    output = steps(attention, state, {each: x.float().cuda() for each, x in inputs.items()}).cpu()
    assert (output - truth).norm() <= 1e-5 * truth.norm()


def test_a_position_beyond_the_levels_is_seen() -> None:
    attention = compiled(*VARIANTS["number, weak hierarchy"])
    inputs = {each: x.cuda() for each, x in inputs_of(attention, 8).items()}
    state = start(attention, inputs).to("cuda")
    steps(attention, state, inputs)
    with pytest.raises(maskdsl.CallError, match="'lam' has 4 levels, but a sequence at position 8 needs 5"):
        attention.step(state, **part(attention.spec, inputs, 0, 1))
