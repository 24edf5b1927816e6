"""What the host code of a generated module works with: the sizes of a call, new tensors, and launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskdsl.runtime.function import Sizes

Launcher = Callable[[int, tuple[Any, ...]], None]
"""Starts a compiled kernel on so many programs, with the arguments of the launch."""

BUSY = 256
"""Programs of a scan that an H200 does at once, two on each of its 132 multiprocessors."""

SHORTEST = 16
"""Chunks that a segment of a scan has at the least: joining it to the one before takes as long as a few."""

FEWEST = 4
"""Segments for which it pays to go through them twice, once for what they make of what comes in."""


@dataclass(frozen=True)
class Form:
    """The shape and dtype of an input."""

    shape: torch.Size
    dtype: torch.dtype


@dataclass(frozen=True)
class Given:
    """What all launches of a call share; `result` is the dtype of its output."""

    sizes: Sizes
    forms: Mapping[str, Form]
    result: torch.dtype

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Those of the result and of every input."""
        return self.result, *(form.dtype for form in self.forms.values())


@dataclass(frozen=True)
class Launch:
    """One launch: a kernel, the number of its programs, and its arguments, tensors and ints."""

    kernel: Any
    programs: int
    args: tuple[Any, ...]
    warps: int
    stages: int
    registers: int | None


class Allocator:
    """The sizes of a call and new tensors for it, on `device`."""

    def __init__(self, given: Given, device: torch.device) -> None:
        self.B, self.T, self.H, _, _, self.L = given.sizes
        self._given = given
        self._device = device

    def chunks(self, size: int) -> int:
        """How many chunks of `size` positions cover the sequence."""
        return -(-self.T // size)

    def busy(self, programs: int) -> bool:
        """Whether so many programs of a scan keep a GPU busy."""
        return programs >= BUSY

    def segments(self, programs: int, chunks: int) -> int:
        """How many segments a scan of so few `programs` goes through at once: 1 where that would cost more time."""
        count = min(BUSY // max(programs, 1), chunks // SHORTEST)
        return count if count >= FEWEST else 1

    def places(self, rows: int, sequences: int) -> Tensor:
        """A new tensor for where sequences lie, [rows, sequences + 1] int64, uninitialised."""
        return torch.empty((rows, sequences + 1), dtype=torch.int64, device=self._device)

    def float(self, *shape: int) -> Tensor:
        """A new float32 tensor, uninitialised."""
        return torch.empty(shape, dtype=torch.float32, device=self._device)

    def zeros(self, *shape: int) -> Tensor:
        """A new float32 tensor of zeros."""
        return torch.zeros(shape, dtype=torch.float32, device=self._device)

    def state(self, *shape: int) -> Tensor:
        """A new tensor in the dtype of states: bfloat16 in a bfloat16 call, else float32."""
        dtype = torch.bfloat16 if self._given.result == torch.bfloat16 else torch.float32
        return torch.empty(shape, dtype=dtype, device=self._device)

    def output(self, *shape: int) -> Tensor:
        """A new tensor in the dtype of the result."""
        return torch.empty(shape, dtype=self._given.result, device=self._device)

    def gradient(self, name: str) -> Tensor:
        """A new contiguous tensor of the shape and dtype of input `name`."""
        form = self._given.forms[name]
        return torch.empty(form.shape, dtype=form.dtype, device=self._device)

    def strides(self, x: Tensor) -> tuple[int, ...]:
        """All strides of `x` but the last, which is 1."""
        return x.stride()[:-1]


class Recorder(Allocator):
    """A call of tensors on the meta device: its launches are noted, in order, and nothing runs."""

    def __init__(self, given: Given) -> None:
        super().__init__(given, torch.device("meta"))
        self.launches: list[Launch] = []

    def launch(
        self, kernel: Any, programs: int, *args: Any, warps: int, stages: int, registers: int | None = None
    ) -> None:
        """Note a launch, unless it has no programs."""
        if programs:
            self.launches.append(Launch(kernel, programs, args, warps, stages, registers))


class Call(Allocator):
    """A call that runs: each launch takes the next of the launchers that a recording of the call has led to."""

    def __init__(self, given: Given, device: torch.device, launchers: Iterator[Launcher]) -> None:
        super().__init__(given, device)
        self._launchers = launchers

    def launch(
        self, kernel: Any, programs: int, *args: Any, warps: int, stages: int, registers: int | None = None
    ) -> None:
        """Start a kernel, unless it has no programs; `kernel`, `warps` and `stages` are those of the recording."""
        if programs:
            next(self._launchers)(programs, args)
