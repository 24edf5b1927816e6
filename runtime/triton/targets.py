"""Kernels compiled for GPUs that need not be here: their code, and what they use of the hardware."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from maskdsl.runtime.triton.call import Form, Given, Launch
from maskdsl.runtime.triton.kernels import compiled, specialised
from maskdsl.runtime.triton.program import record
from maskdsl.schedule.unsupported import Unsupported

KIB = 1 << 10


@dataclass(frozen=True)
class Target:
    """A GPU as Triton names it, and the shared memory in bytes that a program may use there."""

    gpu: GPUTarget
    shared: int


TARGETS = {
    "sm_80": Target(GPUTarget("cuda", 80, 32), 163 * KIB),
    "sm_90": Target(GPUTarget("cuda", 90, 32), 227 * KIB),
    "sm_100": Target(GPUTarget("cuda", 100, 32), 227 * KIB),
    "gfx942": Target(GPUTarget("hip", "gfx942", 64), 64 * KIB),
}


@dataclass(frozen=True)
class Resources:
    """What a kernel uses: registers a thread, those spilled, bytes of stack a thread and of shared memory a program.

    `text` is its assembly, PTX or AMDGCN.
    """

    kernel: str
    warps: int
    stages: int
    registers: int
    spills: int
    stack: int
    shared: int
    text: str


def resources(launches: Sequence[Launch], target: Target) -> list[Resources]:
    """The resources of the kernel of every launch, in order; all are compiled in parallel.

    Raises RuntimeError naming the kernel where one does not compile, Unsupported inside Triton's interpreter.
    """
    if triton.knobs.runtime.interpret:
        raise Unsupported("Triton's interpreter compiles nothing; unset TRITON_INTERPRET.")
    kernels = compiled([specialised(launch, target.gpu) for launch in launches], target.gpu, target.shared)
    return [_resources(launch, kernel) for launch, kernel in zip(launches, kernels, strict=True)]


def excesses(used: Resources, target: Target) -> list[str]:
    """A sentence for each limit of the target that a kernel passes: shared memory, registers."""
    found = []
    if used.shared > target.shared:
        found.append(f"Kernel '{used.kernel}' uses {used.shared} bytes of shared memory of {target.shared}.")
    if used.spills:
        found.append(f"Kernel '{used.kernel}' spills {used.spills} registers.")
    return found


def launches_of(
    module: ModuleType, tensors: Mapping[str, Tensor], sizes: tuple[int, int, int, int, int, int], result: torch.dtype
) -> dict[str, list[Launch]]:
    """The launches, by direction, of a module on inputs like `tensors`, which may be on the meta device.

    `sizes` are B, T, H, K, V, L, and `result` the dtype of the output.
    """
    given = Given(sizes, {name: Form(x.shape, x.dtype) for name, x in tensors.items()}, result)
    (outputs, stored), forward = record(module, "forward", given, [tensors[name] for name in module.FORWARD])
    known = {**tensors, **dict(zip(module.GRADIENTS, outputs, strict=True))}
    _, backward = record(module, "backward", given, [known[name] for name in module.BACKWARD], list(stored))
    return {"forward": forward, "backward": backward}


def _resources(launch: Launch, kernel: Any) -> Resources:
    nvidia = "cubin" in kernel.asm
    registers, spills, stack = _of_cubin(kernel.asm["cubin"]) if nvidia else _of_amdgcn(kernel.asm["amdgcn"])
    text = kernel.asm["ptx" if nvidia else "amdgcn"]
    return Resources(kernel.name, launch.warps, launch.stages, registers, spills, stack, kernel.metadata.shared, text)


def _of_cubin(cubin: bytes) -> tuple[int, int, int]:
    """Registers, spilled registers and stack; a kernel has nothing on its stack but what was spilled."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    stack = _number(r"STACK:(\d+)", usage) + _number(r"LOCAL:(\d+)", usage)
    return _number(r"REG:(\d+)", usage), stack // 4, stack


def _of_amdgcn(text: str) -> tuple[int, int, int]:
    spills = _number(r"\.vgpr_spill_count: +(\d+)", text)
    return _number(r"\.vgpr_count: +(\d+)", text), spills, _number(r"\.private_segment_fixed_size: +(\d+)", text)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"There is no '{pattern}' in the resource usage of a kernel.")
    return int(found[1])
