"""The hand-made module of kernels on a GPU: launches past Triton's own, new shapes, layouts and streams."""

from __future__ import annotations

import time

import decayed_calls
import decayed_sum
import pytest
import torch

from maskdsl.runtime.triton.program import Program

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("sizes", [(2, 7, 3, 5), (1, 130, 16, 16), (3, 64, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    g = -torch.rand(sizes[2], device="cuda")
    packed, weights = (torch.randn(*sizes[:3], 2 * sizes[3], device="cuda", dtype=dtype) for _ in range(2))
    for half in (slice(None, sizes[3]), slice(sizes[3], None)):
        v, w = packed[..., half], weights[..., half]
        found = decayed_calls.outcome(g.clone(), v.detach(), w)
        wanted = decayed_calls.expected(g.cpu(), v.cpu(), w.cpu())
        for result, reference in zip(found, wanted, strict=True):
            allowed = 1e-5 if dtype == torch.float32 else 1e-2
            assert (result.cpu() - reference).norm() <= allowed * reference.norm()


def test_the_current_stream() -> None:
    program = Program(decayed_sum)
    g, v = -torch.rand(3, device="cuda"), torch.randn(2, 7, 3, 5, device="cuda")
    wanted = decayed_calls.attention(g, v, program)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(1_000_000_000)  # cycles: longer than to launch what is compiled
        late = decayed_calls.attention(g, v.clone(), program)
    assert not stream.query()
    stream.synchronize()
    assert torch.equal(late, wanted)


def test_a_launch_costs_the_host_little() -> None:
    program = Program(decayed_sum)
    g, v = -torch.rand(3, device="cuda"), torch.randn(2, 7, 3, 5, device="cuda")
    costs = []
    for _ in range(200):
        start = time.perf_counter()
        decayed_calls.attention(g, v, program)
        costs.append(time.perf_counter() - start)
        torch.cuda.synchronize()
    assert sorted(costs)[100] < 100e-6
