"""The kernels of a spec for a GPU that need not be here, from the sizes of a call alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from maskdsl.chunk.axes import extent
from maskdsl.codegen.kernels.programs import BOUNDS
from maskdsl.lowering.hand import ALONE, Hand
from maskdsl.lowering.memory import LOGS, POSITIONS, memories
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import Bound, bind, needed_levels, result_dtype
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.state import State, state_for
from maskdsl.runtime.step import Token, bind_token
from maskdsl.runtime.triton.build import MODES, configuration_of, load, text_of
from maskdsl.runtime.triton.call import Launch
from maskdsl.runtime.triton.program import record
from maskdsl.runtime.triton.step import arguments, given_of, step_configuration
from maskdsl.runtime.triton.targets import TARGETS, Resources, Target, launches_of, resources
from maskdsl.schedule.configuration import Configuration, DeviceKind, Mode
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Kernels:
    """The kernels for calls of one shape, with vectors in the precision `mode` and everything else in float32.

    The batch row of a `packed` one holds two sequences. Sequences begin and end with states as `hand` tells; where
    these go by position, a call is packed. Properties and methods raise Unsupported where there are no kernels for the
    spec.
    """

    spec: Spec
    shape: Shape
    mode: Mode
    target: str
    chunk: int | None = None
    packed: bool = False
    hand: Hand = ALONE

    @cached_property
    def configuration(self) -> Configuration:
        """What the kernels depend on."""
        kind: DeviceKind = "hip" if self._target.gpu.backend == "hip" else "cuda"
        result = result_dtype(self.spec, self._bound)
        packed = self.packed or self.hand.laid
        return configuration_of(self._bound, result, self.chunk, kind, packed=packed, hand=self.hand)

    def text(self, direction: str) -> str:
        """The generated module that has a direction, "forward", "backward" or "step"."""
        if direction == "step":
            return text_of(self.spec, step_configuration(*self._step))
        return text_of(self.spec, self.configuration)

    def launches(self) -> dict[str, list[Launch]]:
        """What a call launches, by direction."""
        bound = self._bound
        module = load(self.spec, self.configuration).module
        return launches_of(module, self._tensors, bound.sizes.known, result_dtype(self.spec, bound))

    def step_launches(self) -> list[Launch]:
        """What a step launches, on a state in float32."""
        token, state, slots = self._step
        module = load(self.spec, step_configuration(token, state, slots)).module
        tensors = arguments(state, token, slots)
        _, launches = record(module, "step", given_of(self.spec, token), [tensors[name] for name in module.STEP])
        return launches

    def resources(self, direction: str) -> list[Resources]:
        """What each kernel of a direction uses of the target, compiled."""
        return resources(self.step_launches() if direction == "step" else self.launches()[direction], self._target)

    def assembly(self, direction: str) -> str:
        """The assembly of every kernel of a direction under a line that says what it uses."""
        comment = "//" if self._target.gpu.backend == "cuda" else ";"
        return "\n".join(
            dict.fromkeys(f"{comment} {_summary(each)}\n{each.text}" for each in self.resources(direction))
        )

    @property
    def _target(self) -> Target:
        return TARGETS[self.target]

    @cached_property
    def _bound(self) -> Bound:
        return bind(self.spec, (), self._inputs(self.shape))

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """The inputs, where sequences lie, and the states that they begin with."""
        found, sizes = dict(self._bound.tensors), self._bound.sizes
        packed = self.configuration.packed
        count = 2 if packed else sizes.B
        if packed:
            found[BOUNDS] = torch.empty(count + 1, dtype=torch.int64, device="meta")
        if self.hand.laid:
            found[POSITIONS] = torch.empty(count, dtype=torch.int64, device="meta")
        extents = dict(zip("BTHKVL", sizes.known, strict=True)) | {"B": count}
        for memory in memories(self.spec) if self.hand.initial else ():
            for buffer in memory.buffers:
                if buffer.name != LOGS:
                    shape = [extent(axis, extents) for axis in buffer.axes]
                    found[memory.full_name(buffer)] = torch.empty(shape, dtype=torch.float32, device="meta")
        return found

    @cached_property
    def _step(self) -> tuple[Token, State, None]:
        state = state_for(self.spec, vars(self.shape), "meta", torch.float32)
        inputs = self._inputs(dataclasses.replace(self.shape, T=1))
        return bind_token(self.spec, memories(self.spec), state, (), inputs, None), state, None

    def _inputs(self, shape: Shape) -> dict[str, Tensor]:
        dtypes = {mode: dtype for dtype, mode in MODES.items()}
        tensors = {}
        for each in self.spec.inputs:
            dtype = dtypes[self.mode] if each.kind in (Kind.KEY, Kind.VALUE) else torch.float32
            tensors[each.name] = torch.empty(shape.of(each), dtype=dtype, device="meta")
        return tensors


def usual_shape(spec: Spec, heads: int, key_heads: int, key: int, value: int) -> Shape:
    """Two sequences of 4096 tokens, with the levels that they need."""
    keys = tuple((each.name, key_heads) for each in spec.inputs if each.kind is Kind.KEY)
    return Shape(2, 4096, heads, key, value, max(1, needed_levels(spec, 4096)), keys)


def _summary(used: Resources) -> str:
    return (
        f"{used.kernel}: {used.registers} registers, {used.spills} spilled, {used.stack} bytes of stack, "
        f"{used.shared} bytes of shared memory, {used.warps} warps, {used.stages} stages"
    )
