"""Packed sequences by kernels on a GPU: PyTorch's numbers, nothing read back, nothing compiled for other lengths."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from agreement import compiled
from compilation import library_spec
from gpu_calls import ALLOWED, NAMES, inputs_of, shape_of
from segments import corpus, packed
from torch import Tensor
from variants import VARIANTS, chunk_of

from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.triton import program
from maskdsl.spec import Spec

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LENGTHS = [70, 0, 1, 300, 64, 129, 0]


def bounds_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths], device="cuda", dtype=torch.int32).cumsum(0, dtype=torch.int32)


def packed_inputs(spec: Spec, dtype: torch.dtype, capacity: int = 9) -> dict[str, Tensor]:
    shape = shape_of(spec, sum(LENGTHS) + capacity, B=1)
    return inputs_of(spec, shape, dtype)


@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize("name", NAMES)
def test_definitions(name: str, dtype: torch.dtype) -> None:
    spec, bounds = library_spec(name), bounds_of(LENGTHS)
    inputs = packed_inputs(spec, dtype)
    o = Attention(spec, "triton")(**inputs, cu_seqlens=bounds)
    cotangent = torch.randn_like(o)
    found = [o.detach(), *torch.autograd.grad(o, list(inputs.values()), cotangent)]
    wide = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    exact = Attention(spec, "torch")(**wide, cu_seqlens=bounds)
    expected = [exact.detach(), *torch.autograd.grad(exact, list(wide.values()), cotangent.double())]
    for each, x, truth in zip(["o", *inputs], found, expected, strict=True):
        error = (x.double() - truth).norm() / truth.norm().clamp(min=1e-30)
        # the gradient of a parameter is a sum of terms of both signs over all tokens, of which little may be left
        assert error <= ALLOWED[dtype] * (1 if truth.ndim > 2 else 3), f"{each}: {error:.1e}"
    assert o[:, bounds[-1] :].count_nonzero() == 0


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "operator, window"])
def test_other_lengths_compile_nothing_and_wait_for_nothing(name: str) -> None:
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    lengths = [[33, 0, 8], [1, 40, 0]]
    tokens = [corpus(attention.spec, each) for each in lengths]
    inputs, first = packed(tokens[0], [(0, n) for n in lengths[0]])
    leaves = {n: x.float().cuda().requires_grad_() for n, x in inputs.items()}
    cu_seqlens, others = first.to("cuda", torch.int32), bounds_of(lengths[1])

    def run() -> list[Tensor]:
        o = attention(**leaves, cu_seqlens=cu_seqlens)
        return [o.detach(), *torch.autograd.grad(o.square().sum(), list(leaves.values()))]

    run()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with mock.patch.object(program, "compiled", side_effect=AssertionError):
            run()
            cu_seqlens.copy_(others)
            found = run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    wide = {n: x.detach().double().requires_grad_() for n, x in leaves.items()}
    exact = Attention(attention.spec, "torch", chunk_of(name))(**wide, cu_seqlens=others)
    truth = [exact.detach(), *torch.autograd.grad(exact.square().sum(), list(wide.values()))]
    for x, y in zip(found, truth, strict=True):
        assert (x.double() - y).norm() <= 3e-5 * y.norm()


@pytest.mark.parametrize("name", ["number", "number, weak hierarchy", "operator", "operator, weak hierarchy"])
def test_a_graph_is_replayed_for_other_lengths(name: str) -> None:
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs, _ = packed(corpus(attention.spec, [41]), [(0, 41)])
    leaves = {n: x.float().cuda().requires_grad_() for n, x in inputs.items()}
    cu_seqlens = torch.zeros(4, device="cuda", dtype=torch.int64)

    def run() -> list[Tensor]:
        o = attention(**leaves, cu_seqlens=cu_seqlens)
        return [o.detach(), *torch.autograd.grad(o.square().sum(), list(leaves.values()))]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = run()
    for lengths in ([41, 0, 0], [3, 30, 5], [0, 0, 1]):
        cu_seqlens.copy_(bounds_of(lengths))
        graph.replay()
        for x, y in zip(replayed, run(), strict=True):
            assert torch.equal(x, y)
