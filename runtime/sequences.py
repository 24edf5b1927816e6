"""Calls with sequences: packed into one batch row, resumed from states, ending in states.

What a GPU holds is never read: lengths and positions are checked where they are on a processor, and trusted elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from maskdsl.chunk.axes import extent
from maskdsl.codegen.kernels.programs import BOUNDS
from maskdsl.codegen.torch_ops.slots import Layout
from maskdsl.diagnostics import CallError
from maskdsl.language.syntax import Range
from maskdsl.lowering.hand import Hand, anywhere
from maskdsl.lowering.memory import POSITIONS, memories
from maskdsl.runtime.arguments import Bound, Sizes, bind, needed_levels
from maskdsl.runtime.arguments import bound as rebind
from maskdsl.runtime.folded import fold, unfold
from maskdsl.runtime.function import differentiated
from maskdsl.runtime.state import State, state_for
from maskdsl.spec import Input, Spec

SHORT = 32
"""Tokens that kernels of steps take one by one in less time than a program over chunks takes to launch: some hundred
small kernels, against two a token."""


@dataclass(frozen=True)
class Sequences:
    """A checked call: its tensors, how they are laid out, and the state that it begins with, None for one of zeros.

    No sequence ends beyond position `furthest`.
    """

    spec: Spec
    bound: Bound
    layout: Layout
    hand: Hand
    initial: State | None
    furthest: int

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a laid-out program is given, by name; tokens of no sequence hold numbers that their inputs may have."""
        rows = self._entering(torch.float64 if self.wide else torch.float32)
        entering = {name: x.unflatten(0, (self.bound.sizes.B, -1)).transpose(1, 2) for name, x in rows.items()}
        return {**_filled(self.spec, self.bound.tensors, self.layout), **entering}

    @property
    def by_position(self) -> bool:
        """Whether states come in or go out that have to do with positions."""
        handed = self.hand.initial or self.hand.final
        return handed and not all(map(anywhere, memories(self.spec)))

    @property
    def for_kernels(self) -> Sequences:
        """The same call as kernels take it: batch rows that go on from positions of their own are one row for them."""
        if not (self.by_position and self.layout.whole):
            return self
        sizes = self.bound.sizes
        by_token = {each.name for each in _by_token(self.spec)}
        joined = {n: x.flatten(0, 1)[None] if n in by_token else x for n, x in self.bound.tensors.items()}
        bounds = torch.arange(0, sizes.B * sizes.T + 1, sizes.T, device=self.layout.positions.device)[None]
        layout = Layout(self.layout.positions.reshape(1, -1), sizes.B * sizes.T, bounds)
        bound = Bound(joined, dataclasses.replace(sizes, B=1, T=sizes.B * sizes.T))
        return dataclasses.replace(self, bound=bound, layout=layout)

    @property
    def rows(self) -> dict[str, Tensor]:
        """What kernels are given: inputs as they came, and states with a row for each sequence, [B * S, H, ...]."""
        return {**self.bound.tensors, **self._entering(torch.float32)}

    @property
    def places(self) -> dict[str, Tensor]:
        """Where kernels find the sequences of a batch row."""
        bounds = {} if self.layout.whole else {BOUNDS: self.layout.bounds[0]}
        return {**bounds, POSITIONS: self.layout.positions[0]} if self.by_position else bounds

    def _entering(self, dtype: torch.dtype) -> dict[str, Tensor]:
        folded = {} if self.initial is None else fold(self.initial, dtype)
        return {f"{memory}.{name}": x for memory, buffers in folded.items() for name, x in buffers.items()}

    @property
    def wide(self) -> bool:
        """Whether the call is computed in float64."""
        state = None if self.initial is None else self.initial.dtype
        return torch.float64 in {state, *(x.dtype for x in self.bound.tensors.values())}

    @property
    def training(self) -> bool:
        """Whether gradients may be asked for."""
        held = [] if self.initial is None else [x for _, x in self.initial.named()]
        return differentiated([*self.bound.tensors.values(), *held])

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compute: no token, or no number of one."""
        sizes = self.bound.sizes
        return 0 in (sizes.B, sizes.T, sizes.H, sizes.V)

    @property
    def short(self) -> bool:
        """Whether to go token by token: a few of them, without gradients, in every sequence as many, not in float64."""
        few = self.layout.whole and 1 <= self.layout.length <= SHORT
        return few and not self.wide and not self.training

    def begin(self) -> State:
        """A state of the call's own, in float32, before its first token."""
        if self.initial is not None:
            return self.initial.to(torch.float32)
        sizes = {axis: size or 0 for axis, size in vars(self.bound.sizes).items() if axis in "BHKVL"}
        return state_for(self.spec, sizes, self.layout.positions.device, torch.float32)

    def tokens(self) -> Iterator[dict[str, Tensor]]:
        """The inputs of each token."""
        by_token = {each.name for each in _by_token(self.spec)}
        for t in range(self.layout.length):
            yield {name: x[:, t : t + 1] if name in by_token else x for name, x in self.bound.tensors.items()}

    def output(self, o: Tensor) -> Tensor:
        """The output, zero for tokens of no sequence."""
        return o if self.layout.whole else torch.where(self.layout.used[..., None, None], o, 0)

    def state(self, final: Mapping[str, Tensor]) -> State:
        """The state after the call, from the memories of all sequences, [B * S, H, ...]."""
        kept: dict[str, dict[str, Tensor]] = {memory.name: {} for memory in memories(self.spec)}
        for name, buffer in final.items():
            memory, own = name.split(".")
            kept[memory][own] = buffer
        return unfold(self.spec, kept, self.layout.after.flatten().clone(), self.furthest)


def sequences(
    spec: Spec,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    initial_state: object,
    output_final_state: bool,
    cu_seqlens: object,
    check_inputs: bool = False,
) -> Sequences:
    """A call of `spec` with sequences. Raises CallError naming what is wrong."""
    bound = bind(spec, args, kwargs, longest=1)
    sizes, device = bound.sizes, next(iter(bound.tensors.values())).device
    bounds = None if cu_seqlens is None else _bounds(cu_seqlens, bound, device)[None]
    count = 1 if bounds is None else bounds.shape[1] - 1
    state = None if initial_state is None else _state(spec, initial_state, bound, sizes.B * count, device)
    layout = layout_of(sizes, state, bounds, device)
    tensors = _filled(spec, bound.tensors, layout) if check_inputs else bound.tensors
    furthest = furthest_of(layout, state, lambda end: needed_levels(spec, end + output_final_state) <= (sizes.L or 0))
    # a packed call on a device is trusted: all its tokens in one sequence would need more levels than it may have
    reached = furthest + output_final_state if layout.whole or device.type == "cpu" else 1
    bound = rebind(spec, tensors, [], check_inputs, reached)
    return Sequences(spec, bound, layout, Hand(state is not None, output_final_state), state, furthest)


def layout_of(sizes: Sizes, state: State | None, bounds: Tensor | None, device: torch.device) -> Layout:
    """Where the sequences of a call lie, `bounds` [1, S + 1] where they are packed."""
    count = 1 if bounds is None else bounds.shape[1] - 1
    if state is None:
        positions = torch.zeros(sizes.B, count, device=device, dtype=torch.int64)
    else:
        # of its own, since the state may go on before gradients are asked for
        positions = state.positions.reshape(sizes.B, count).clone()
    return Layout(positions, sizes.T, bounds)


def furthest_of(layout: Layout, state: State | None, allowed: Callable[[int], bool]) -> int:
    """A position beyond which no sequence ends: the last end on a processor, elsewhere what the host knows.

    Where that is not allowed, the device is asked for the positions of `state`.
    """
    if layout.after.device.type == "cpu":
        return int(layout.after.max())
    before = 0 if state is None else state.furthest
    if state is not None and layout.whole and not allowed(before + layout.length):
        before = state.look()
    return before + layout.length


def _filled(spec: Spec, tensors: Mapping[str, Tensor], layout: Layout) -> Mapping[str, Tensor]:
    """Inputs whose tokens of no sequence are replaced by a number that they may have."""
    if layout.whole:
        return tensors
    filled = {each.name: _filled_input(tensors[each.name], each.range, layout) for each in _by_token(spec)}
    return {**tensors, **filled}


def _by_token(spec: Spec) -> Iterator[Input]:
    return (each for each in spec.inputs if "T" in each.kind.value)


def _filled_input(x: Tensor, declared: Range, layout: Layout) -> Tensor:
    low, high = declared.low, declared.high
    if low is not None and high is not None:
        number = (low + high) / 2
    elif low is not None:
        number = low + 1.0
    else:
        number = 1.0 if high is None else high - 1.0
    return torch.where(layout.used.unflatten(1, (-1, *(1,) * (x.ndim - 2))), x, number)


def _bounds(given: object, bound: Bound, device: torch.device) -> Tensor:
    """`cu_seqlens`, checked."""
    expected = "cu_seqlens says where the sequences of a batch row begin and end, [S + 1], from 0 on"
    if not isinstance(given, Tensor):
        raise CallError(f"'cu_seqlens' is a {type(given).__name__}, not a tensor; {expected}.")
    if given.dtype not in (torch.int32, torch.int64):
        dtype = str(given.dtype).removeprefix("torch.")
        raise CallError(f"'cu_seqlens' has dtype {dtype}; convert it to int32 or int64.")
    if given.ndim != 1 or len(given) < 2:
        raise CallError(f"'cu_seqlens' has shape {list(given.shape)}; {expected}.")
    if given.device != device:
        raise CallError(f"'cu_seqlens' is on '{given.device}', but the inputs are on '{device}'; move it there.")
    if bound.sizes.B != 1:
        raise CallError(
            f"With 'cu_seqlens' all sequences lie in one batch row, but the inputs have B = {bound.sizes.B}; "
            "concatenate the rows along T."
        )
    numbers = given.tolist() if device.type == "cpu" else [0]
    if numbers[0] != 0:
        raise CallError(f"'cu_seqlens' begins with {numbers[0]}, not with 0.")
    for place, (start, end) in enumerate(pairwise(numbers)):
        if end < start:
            raise CallError(f"'cu_seqlens' falls from {start} to {end} at entry {place + 1}; it has to rise or stay.")
    if numbers[-1] > bound.sizes.T:
        raise CallError(f"'cu_seqlens' ends with {numbers[-1]}, but the inputs have T = {bound.sizes.T} tokens.")
    return given.to(torch.int64, copy=True)


def _state(spec: Spec, given: object, bound: Bound, count: int, device: torch.device) -> State:
    """`initial_state`, checked against the inputs of a call with `count` sequences."""
    if not isinstance(given, State):
        raise CallError(f"'initial_state' is a {type(given).__name__}, not a state of '{spec.name}'.")
    if given.spec is not spec and given.spec != spec:
        raise CallError(f"'initial_state' is one of another '{given.spec.name}', not of this '{spec.name}'.")
    if given.device != device:
        there = f"'initial_state' is on '{given.device}', but the inputs are on '{device}'"
        raise CallError(f"{there}; move one with .to().")
    if given.batch != count:
        raise CallError(f"'initial_state' has {given.batch} sequences, but the call has {count}.")
    problems = list(_size_problems(spec, given, bound))
    if problems:
        raise CallError("\n".join(problems))
    return given


def _size_problems(spec: Spec, state: State, bound: Bound) -> Iterator[str]:
    sizes = dict(zip("BTHKVL", bound.sizes.known, strict=True)) | {"B": state.batch}
    for memory in memories(spec):
        for buffer in memory.buffers:
            found, needed = state.held[memory.name][buffer.name].shape, [extent(a, sizes) for a in buffer.axes]
            if list(found) != needed:
                axes = f"[{', '.join(buffer.axes)}]{'; M = L - 1' if 'M' in buffer.axes else ''}"
                yield (
                    f"'{memory.full_name(buffer)}' of 'initial_state' has shape {list(found)}, but for these inputs it "
                    f"is {needed} ({axes})."
                )
