"""A generated module and what has been compiled of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor

from maskdsl.runtime.triton.call import Call, Given, Launch, Launcher, Recorder
from maskdsl.runtime.triton.kernels import compiled, specialised

PLANS = 1024
"""How many plans, one for every shape and layout of the tensors of a call, are kept; beyond that all are made anew."""

_lock = threading.Lock()


class Program:
    """A generated module; its kernels are compiled at the first call of each shape and layout.

    All launches of a call follow from the shapes, strides and dtypes of its tensors. So they are recorded once on the
    meta device and compiled; later calls only start them, without a look at their arguments.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self._plans: dict[Any, tuple[Launcher, ...]] = {}
        self._launchers: dict[tuple[int, str], Launcher] = {}

    def forward(self, given: Given, tensors: Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The outputs, and the tensors that the backward pass, where there is one, wants besides its inputs."""
        found: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = self._run("forward", self.module.FORWARD, given, tensors)
        return found

    def backward(self, given: Given, tensors: Mapping[str, Tensor], stored: list[Tensor]) -> dict[str, Tensor]:
        """A gradient for every input, in its dtype or in float32.

        The list `stored` is emptied, so that memory comes back as soon as its tensors are used up.
        """
        found = self._run("backward", self.module.BACKWARD, given, tensors, stored)
        return dict(zip(self.module.AXES, found, strict=True))

    def step(self, given: Given, tensors: Mapping[str, Tensor]) -> Tensor:
        """The output of one token; the buffers among the tensors, which are dense, are changed in place."""
        found: Tensor = self._run("step", self.module.STEP, given, tensors)
        return found

    def _run(
        self, direction: str, names: Sequence[str], given: Given, tensors: Mapping[str, Tensor], *stored: list[Tensor]
    ) -> Any:
        arguments = [tensors[name] for name in names]
        device = arguments[0].device
        layouts = [(x.dtype, x.shape, x.stride()) for x in arguments]
        key = direction, given.sizes, given.dtypes, device.index, *layouts
        with _on(device):
            launchers = self._plans.get(key)
            if launchers is None:
                _, launches = record(self.module, direction, given, arguments, *stored)
                launchers = self._plan(launches, device)
                if len(self._plans) >= PLANS:
                    self._plans.clear()
                self._plans[key] = launchers
            return getattr(self.module, direction)(Call(given, device, iter(launchers)), *arguments, *stored)

    def _plan(self, launches: Sequence[Launch], device: torch.device) -> tuple[Launcher, ...]:
        if device.type == "cpu":
            return tuple(_interpreted(launch) for launch in launches)
        target = triton.runtime.driver.active.get_current_target()
        with _lock:  # where Triton caches its kernels is a setting of the process
            sources = [specialised(launch, target) for launch in launches]
            new = [source for source in sources if (device.index, source.key) not in self._launchers]
            shared = triton.runtime.driver.active.utils.get_device_properties(device.index)["max_shared_mem"]
            for source, kernel in zip(new, compiled(new, target, shared), strict=True):
                self._launchers[device.index, source.key] = _launcher(kernel, device.index)
            return tuple(self._launchers[device.index, source.key] for source in sources)


def record(
    module: ModuleType, direction: str, given: Given, arguments: Sequence[Tensor], *stored: list[Tensor]
) -> tuple[Any, list[Launch]]:
    """What "forward" or "backward" returns for tensors like these, on the meta device, and its launches."""
    recorder = Recorder(given)
    lists = ([_meta(x) for x in each] for each in stored)
    returned = getattr(module, direction)(recorder, *(_meta(x) for x in arguments), *lists)
    return returned, recorder.launches


def _meta(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _on(device: torch.device) -> AbstractContextManager[Any]:
    return nullcontext() if device.type == "cpu" else torch.cuda.device(device)


def _launcher(kernel: Any, device: int) -> Launcher:
    """Start a compiled kernel on the current stream, past all that `kernel[grid](...)` looks at on every call."""
    run = kernel.run  # loads the kernel on the current device
    function, metadata = kernel.function, kernel.packed_metadata
    stream = triton.runtime.driver.active.get_current_stream

    def launch(programs: int, args: tuple[Any, ...]) -> None:
        run(programs, 1, 1, stream(device), function, metadata, None, None, None, *args)

    return launch


def _interpreted(launch: Launch) -> Launcher:
    kernel = launch.kernel

    def interpret(programs: int, args: tuple[Any, ...]) -> None:
        kernel[(programs,)](*args)

    return interpret
