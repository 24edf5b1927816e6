"""What benchmarks measure on a GPU."""

from __future__ import annotations

import pytest
import torch

import maskdsl
from maskdsl.runtime.benchmark import Effort, Problem, compare, open_bench
from maskdsl.runtime.benchmark.meter import CudaMeter

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_memory_is_what_the_work_holds() -> None:
    peak = CudaMeter().peak_megabytes(lambda: torch.empty(100_000_000, dtype=torch.int8, device="cuda"))
    assert peak == pytest.approx(100, rel=0.03)


def test_device_time_grows_with_the_work_and_host_time_does_not() -> None:
    meter = CudaMeter()
    x = torch.randn(4096, 4096, device="cuda")
    short, long = (min(meter.milliseconds(lambda c=c: [x @ x for _ in range(c)]) for _ in range(3)) for c in (4, 40))
    assert long == pytest.approx(10 * short, rel=0.4)
    assert min(meter.host_milliseconds(lambda: [x @ x for _ in range(40)]) for _ in range(3)) < long / 2


def test_softmax_attention_stands_beside_a_spec() -> None:
    attention = maskdsl.compile("retention")
    sizes = {"batch": 1, "length": 512, "heads": 4, "key": 64, "value": 64, "key_heads": 4}
    problem = Problem.of(attention.spec, dtype=torch.bfloat16, device="cuda", **sizes)
    bench = open_bench("cuda", torch.bfloat16, Effort(1, 3))
    own, flash = (entry.row for entry in compare(attention, problem, problem.inputs(), bench, ("flash",)))
    assert own.note == flash.note == ""
    for row in (own, flash):
        assert row.forward is not None
        assert row.training is not None
        assert row.peak is not None
        assert 0 < row.forward < row.training
        assert row.peak > 0
