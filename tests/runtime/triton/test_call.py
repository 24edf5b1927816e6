"""What host code asks of a call, and what a recording notes."""

from __future__ import annotations

import pytest
import torch

from maskdsl.runtime.triton.call import Call, Form, Given, Recorder


def given(result: torch.dtype) -> Given:
    return Given((2, 130, 3, 16, 5, 9), {"lam": Form(torch.Size([2, 130, 3, 9]), torch.float16)}, result)


@pytest.mark.parametrize("result", [torch.bfloat16, torch.float16, torch.float32])
def test_new_tensors(result: torch.dtype) -> None:
    at = Call(given(result), torch.device("cpu"), iter(()))
    assert (at.B, at.T, at.H, at.L, at.chunks(64), at.chunks(65)) == (2, 130, 3, 9, 3, 2)
    assert at.output(2, 3).dtype == result
    assert at.state(2, 3).dtype == (torch.bfloat16 if result == torch.bfloat16 else torch.float32)
    assert at.float(2, 3).dtype == torch.float32
    assert at.zeros(2, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (at.gradient("lam").shape, at.gradient("lam").dtype) == ((2, 130, 3, 9), torch.float16)
    assert at.strides(torch.empty(2, 3, 4).transpose(0, 1)) == (4, 12)


@pytest.mark.parametrize(
    ("programs", "chunks", "segments"),
    [
        (32, 512, 8),
        (64, 256, 4),
        (128, 128, 1),
        (1, 512, 32),
        (32, 64, 4),
        (32, 48, 1),
        (32, 0, 1),
        (0, 512, 32),
        (256, 512, 1),
    ],
)
def test_few_programs_go_through_long_scans_in_segments(programs: int, chunks: int, segments: int) -> None:
    at = Call(given(torch.float32), torch.device("cpu"), iter(()))
    assert at.segments(programs, chunks) == segments
    assert at.busy(programs) == (programs >= 256)


def test_a_recording() -> None:
    recorder = Recorder(given(torch.float32))
    x = recorder.float(4)
    recorder.launch("kernel", 6, x, 7, warps=4, stages=2)
    recorder.launch("kernel", 0, x, 7, warps=4, stages=2)
    (launch,) = recorder.launches
    assert x.is_meta
    assert (launch.kernel, launch.programs, launch.args, launch.warps, launch.stages) == ("kernel", 6, (x, 7), 4, 2)


def test_a_call_takes_the_launchers_of_its_recording() -> None:
    seen: list[object] = []
    launchers = [lambda programs, args, n=n: seen.append((n, programs, args)) for n in range(2)]
    at = Call(given(torch.float32), torch.device("cpu"), iter(launchers))
    for programs in (6, 0, 5):
        at.launch("kernel", programs, 1, 2, warps=4, stages=2)
    assert seen == [(0, 6, (1, 2)), (1, 5, (1, 2))]
