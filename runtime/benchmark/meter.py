"""Time and memory of work on a device."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

Work = Callable[[], object]

COLD_BYTES = 1 << 30
"""Cleared before each timed pass on a GPU: many times the cache, and long enough for the host to run ahead."""


class Meter(Protocol):
    """Measures on one kind of device; None stands for what has no meaning there."""

    def seconds(self, work: Work) -> float:
        """Wall-clock time until the work is done."""

    def milliseconds(self, work: Work) -> float:
        """Time on the device, from cold caches."""

    def host_milliseconds(self, work: Work) -> float | None:
        """Time until an asynchronous call returns, on an idle device."""

    def peak_megabytes(self, work: Work) -> float | None:
        """The most memory held during the work above what was held before."""


class CpuMeter:
    """Wall-clock time."""

    def seconds(self, work: Work) -> float:
        """See `Meter`."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def milliseconds(self, work: Work) -> float:
        """See `Meter`."""
        return 1000 * self.seconds(work)

    def host_milliseconds(self, work: Work) -> None:
        """None: a call returns when its work is done."""
        return

    def peak_megabytes(self, work: Work) -> None:
        """None: the CPU's allocator does not count."""
        return


class CudaMeter:
    """Events on the current stream of the current GPU."""

    def __init__(self) -> None:
        self._cold = torch.empty(COLD_BYTES, dtype=torch.int8, device="cuda")

    def seconds(self, work: Work) -> float:
        """See `Meter`."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def milliseconds(self, work: Work) -> float:
        """See `Meter`."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._cold.zero_()
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def host_milliseconds(self, work: Work) -> float:
        """See `Meter`."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start)

    def peak_megabytes(self, work: Work) -> float:
        """See `Meter`."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6


def meter(device: str) -> Meter:
    """The meter of "cpu" or "cuda"."""
    return CpuMeter() if device == "cpu" else CudaMeter()


def median(measure: Callable[[Work], float], works: Sequence[Work], warmup: int, repeats: int) -> float:
    """The median over `repeats` passes after `warmup` untimed ones, taking the works in turn."""
    turn = itertools.cycle(works)
    for _ in range(warmup):
        next(turn)()
    return statistics.median(measure(next(turn)) for _ in range(repeats))
