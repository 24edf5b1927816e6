"""Calls with states and packed sequences on a GPU: the oracle's numbers, and nothing read back."""

from __future__ import annotations

import pytest
import torch
from agreement import compiled
from segments import corpus, gradients, in_segments, packed, whole
from variants import VARIANTS, chunk_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LENGTHS, FIRST = [70, 0, 41], [13, 0, 40]


@pytest.mark.parametrize("name", VARIANTS)
def test_segments_are_the_whole(name: str) -> None:
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    tokens = corpus(attention.spec, LENGTHS)
    expected, wanted = gradients(whole, tokens)
    there = tokens.with_tensors({n: x.cuda() for n, x in tokens.tensors.items()})
    made, found = gradients(lambda x: in_segments(attention, x, [FIRST, LENGTHS], capacity=3)[0], there)
    for output, truth in zip(made, expected, strict=True):
        torch.testing.assert_close(output.cpu(), truth, rtol=1e-10, atol=1e-11)
    for each, truth in wanted.items():
        torch.testing.assert_close(found[each].cpu(), truth, rtol=1e-9, atol=1e-10 * max(1.0, truth.abs().max().item()))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_call_waits_for_nothing(name: str) -> None:
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs, bounds = packed(corpus(attention.spec, LENGTHS), list(zip([0] * 3, FIRST, strict=True)), capacity=3)
    leaves = {n: x.cuda().requires_grad_() for n, x in inputs.items()}
    cu_seqlens = bounds.to("cuda", torch.int32)

    def run() -> None:
        _, state = attention(**leaves, cu_seqlens=cu_seqlens, output_final_state=True)
        attention(**leaves, cu_seqlens=cu_seqlens, initial_state=state).sum().backward()

    run()  # tables that are the same for every call are made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves.values())
