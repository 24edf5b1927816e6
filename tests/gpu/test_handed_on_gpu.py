"""Calls with states by kernels on a GPU: PyTorch's numbers and gradients, nothing read back, in CUDA graphs too."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from agreement import compiled
from compilation import library_spec
from gpu_calls import ALLOWED, NAMES, inputs_of, shape_of
from segments import corpus, packed
from torch import Tensor
from variants import BESIDE, STRONG, VARIANTS, WINDOWS, chunk_of

from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.folded import fold
from maskdsl.runtime.state import State
from maskdsl.schedule.configuration import Configuration
from maskdsl.spec import Spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ENDS = [[70, 64, 0, 1], [71, 320, 5, 129]]
"""The positions that sequences have come to after each of two calls."""


def held(state: State) -> dict[str, Tensor]:
    return {f"{m}.{n}": x for m, kept in fold(state, state.dtype).items() for n, x in kept.items()}


def in_two_calls(attention: Attention, inputs: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The outputs of both calls, and the last state."""
    starts, state, outputs = [0] * len(ENDS[0]), None, []
    by_token = {each.name for each in attention.spec.inputs if "T" in each.kind.value}
    offsets = [sum(ENDS[1][:s]) for s in range(len(ENDS[1]))]
    for stops in ENDS:
        spans = list(zip(offsets, starts, stops, strict=True))
        part = {
            name: torch.cat([x[:, at + start : at + end] for at, start, end in spans], 1) if name in by_token else x
            for name, x in inputs.items()
        }
        lengths = torch.tensor([0, *(end - start for _, start, end in spans)], device="cuda", dtype=torch.int32)
        bounds = lengths.cumsum(0, dtype=torch.int32)
        o, state = attention(**part, initial_state=state, output_final_state=True, cu_seqlens=bounds)
        outputs.append(o)
        starts = stops
    assert state is not None
    return outputs, held(state)


def run(spec: Spec, backend: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs, the last state, and the gradients of a loss on all of them."""
    attention = Attention(spec, backend)  # type: ignore[arg-type]
    outputs, kept = in_two_calls(attention, inputs)
    assert isinstance(attention._latest, Configuration) == (backend == "triton")
    found = {"o": torch.cat(outputs, 1), **kept}
    generator = torch.Generator("cuda").manual_seed(0)
    losses = [(x * torch.randn(x.shape, generator=generator, device="cuda").to(x)).sum() for x in found.values()]
    gradients = torch.autograd.grad([loss.double() for loss in losses], list(inputs.values()))
    return {n: x.detach() for n, x in found.items()} | dict(zip(inputs, gradients, strict=True))


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "two_timescale"])
def test_definitions(name: str, dtype: torch.dtype) -> None:
    assert_right(library_spec(name), dtype)


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", ["number, strong hierarchy", "diagonal, strong hierarchy"])
def test_strong_hierarchies(name: str, dtype: torch.dtype) -> None:
    assert_right(compiled(*(VARIANTS | STRONG)[name]).spec, dtype)


def assert_right(spec: Spec, dtype: torch.dtype) -> None:
    inputs = inputs_of(spec, shape_of(spec, sum(ENDS[1]), B=1), dtype)
    found = run(spec, "triton", inputs)
    exact = run(spec, "torch", {name: x.detach().double().requires_grad_() for name, x in inputs.items()})
    for each, truth in exact.items():
        error = (found[each].double() - truth).norm() / truth.norm().clamp(min=1e-30)
        # the gradient of a parameter is a sum of terms of both signs over all tokens, of which little may be left
        assert error <= ALLOWED[dtype] * (1 if truth.ndim > 2 else 3), f"{each}: {error:.1e}"


SCANS = ["number", "operator", *(name for name in VARIANTS if "hierarchy" in name)]


@pytest.mark.parametrize("name", [*SCANS, *WINDOWS, *STRONG, *BESIDE])
def test_a_graph_goes_on_from_where_it_is(name: str) -> None:
    """A captured call reads lengths and positions on the device: replays go on from each other."""
    attention = compiled(*(VARIANTS | WINDOWS | STRONG | BESIDE)[name], chunk=chunk_of(name))
    inputs, _ = packed(corpus(attention.spec, [80, 80]), [(0, 40), (40, 80)])  # with levels for 80 tokens
    given = {n: x.float().cuda() for n, x in inputs.items()}
    bounds = torch.tensor([0, 40, 80], device="cuda")
    _, state = attention(**given, cu_seqlens=bounds, output_final_state=True)

    def call() -> tuple[Tensor, State]:
        return attention(**given, cu_seqlens=bounds, initial_state=state, output_final_state=True)

    with torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            call()  # compiles
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            o, after = call()
        for lengths in ([40, 40], [0, 33], [7, 1]):
            bounds.copy_(torch.tensor([0, lengths[0], sum(lengths)]))
            graph.replay()
            expected, truth = call()
            assert torch.equal(o, expected)
            assert torch.equal(after.positions, truth.positions)
            for each, x in held(truth).items():
                assert torch.equal(held(after)[each], x)


def test_calls_like_one_before_are_not_checked_again() -> None:
    """Packed or not; other lengths and positions are other numbers only."""
    attention = compiled(*VARIANTS["number, weak hierarchy"], chunk=8)
    # with levels for two calls of 80 tokens
    inputs, _ = packed(corpus(attention.spec, [160, 160]), [(0, 40), (40, 80)])
    given = {n: x.float().cuda().requires_grad_() for n, x in inputs.items()}
    bounds = torch.tensor([0, 40, 80], device="cuda")
    for packing in ({"cu_seqlens": bounds}, {}):
        _, first = attention(**given, output_final_state=True, **packing)
        state = first.detach()
        for _ in range(2):
            expected, after = attention(**given, initial_state=state, output_final_state=True, **packing)
            with mock.patch("maskdsl.runtime.compiled.sequences", side_effect=AssertionError("checked")):
                o, again = attention(**given, initial_state=state, output_final_state=True, **packing)
            assert torch.equal(o, expected)
            assert all(torch.equal(held(again)[each], x) for each, x in held(after).items())
            bounds.copy_(torch.tensor([0, 3, 70]))
