"""One token of every sequence: the call checked against its state, run, and the state moved on in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from maskdsl.lowering.memory import LOGS, POSITIONS, Memory
from maskdsl.runtime.arguments import (
    Bound,
    Problem,
    Sizes,
    bound,
    fixed_sizes,
    longest,
    named,
    needed_levels,
    result_dtype,
)
from maskdsl.runtime.build import Signature
from maskdsl.runtime.precision import exact
from maskdsl.runtime.state import State
from maskdsl.schedule.token import StepConfiguration
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Token:
    """A checked token: the inputs with a time axis of 1, and whether they came without one."""

    bound: Bound
    without_time: bool


@dataclass(frozen=True)
class StepRoute:
    """How checked steps run whose inputs, states and slots are laid out alike.

    `sizes` and `without_time` are those of their tokens, of which `by_token` have a time axis. No sequence may be
    further along than `room`. `choice` says what their program depends on.
    """

    sizes: Sizes
    without_time: bool
    by_token: frozenset[str]
    room: int
    choice: Signature | StepConfiguration
    run: Callable[[State, Token, Tensor | None], Tensor]

    def serves(self, state: State, slots: Tensor | None) -> bool:
        """Whether nothing else has to be looked at, as slots on a CPU are, and states that may have come too far."""
        return state.furthest <= self.room and (slots is None or slots.device.type != "cpu")

    def token(self, given: Mapping[str, Tensor]) -> Token:
        """The token of another step."""
        if self.without_time:
            given = {name: x.unsqueeze(1) if name in self.by_token else x for name, x in given.items()}
        return Token(Bound(dict(given), self.sizes), self.without_time)


def step_route(
    spec: Spec,
    token: Token,
    choice: Signature | StepConfiguration,
    run: Callable[[State, Token, Tensor | None], Tensor],
) -> StepRoute:
    """The route of steps like a checked one."""
    by_token = frozenset(each.name for each in spec.inputs if "T" in each.kind.value)
    room = longest(spec, token.bound.sizes.L or 0) - 1
    return StepRoute(token.bound.sizes, token.without_time, by_token, room, choice, run)


def bind_token(
    spec: Spec,
    memories: Sequence[Memory],
    state: State,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    slots: Tensor | None,
) -> Token:
    """The arguments of a step, by name or in declared order, each [B, 1, ...] or all of those by token [B, ...].

    `memories` are those of the spec; `slots` [B] are the sequences of the state that the batch goes on with, all of
    them where None. Raises CallError with every problem found: of the inputs, of the state beside them, of the slots.
    """
    given, problems = named(spec, args, kwargs)
    by_token = {each.name: each for each in spec.inputs if "T" in each.kind.value and each.name in given}
    short = [name for name, each in by_token.items() if _ndim(given[name]) == len(each.kind.value) - 1]
    without_time = bool(short) and len(short) == len(by_token)
    if without_time:
        given = {name: x.unsqueeze(1) if name in by_token else x for name, x in given.items()}
    elif short:
        message = f"The time axis is left out of {_quoted(short)} only; leave it out of every input by token or none."
        problems.append(Problem(None, message))
    whole = [each.name for each in spec.inputs if _ndim(given.get(each.name)) == len(each.kind.value)]
    tensors = {name: given[name] for name in whole}
    problems += _state_problems(spec, memories, state, tensors, slots)
    return Token(bound(spec, given, problems), without_time)


def run_token(module: ModuleType, spec: Spec, state: State, token: Token, slots: Tensor | None) -> Tensor:
    """The output [B, 1, H, V] or [B, H, V]; the state, or its `slots`, is one token further afterwards.

    It computes in float64 if an input or the state has it, else in float32, whatever autocast says.
    """
    tensors = token.bound.tensors
    rows = None if slots is None else slots.long()
    dtypes = {x.dtype for x in tensors.values()} | {state.dtype}
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    with torch.no_grad(), exact(state.device):
        values = {name: x.to(dtype) for name, x in tensors.items()} | {POSITIONS: _read(state.positions, rows)}
        for memory, name, buffer in state.buffers():
            values[f"{memory}.{name}"] = _read(buffer, rows).to(buffer.dtype if name == LOGS else dtype)
        arguments = {parameter: values[name] for parameter, name in module.STEP.items()}
        output, kept = module.step(token.bound.sizes.known, **arguments)
        new = dict(zip(module.KEPT, kept, strict=True))
        for memory, name, buffer in state.buffers():
            _write(buffer, new[f"{memory}.{name}"].to(buffer.dtype), rows)
        advance(state, slots)
        result: Tensor = output.to(result_dtype(spec, token.bound))
    return result.squeeze(1) if token.without_time else result


def advance(state: State, slots: Tensor | None, counted: bool = False) -> None:
    """Count the token of every sequence that has had one, unless positions have been `counted` on already."""
    if not counted:
        if slots is None:
            state.positions.add_(1)
        else:
            state.positions.index_add_(0, slots, torch.ones_like(slots, dtype=torch.int64))
    state.furthest += 1


def _read(buffer: Tensor, rows: Tensor | None) -> Tensor:
    return buffer if rows is None else buffer.index_select(0, rows)


def _write(buffer: Tensor, new: Tensor, rows: Tensor | None) -> None:
    if rows is None:
        buffer.copy_(new)
    else:
        buffer.index_copy_(0, rows, new)


def _state_problems(
    spec: Spec, memories: Sequence[Memory], state: State, tensors: Mapping[str, Tensor], slots: Tensor | None
) -> Iterator[Problem]:
    """What does not fit between a state, its slots and the inputs."""
    if not isinstance(state, State):
        yield Problem(None, f"A step takes a state first, not a {type(state).__name__}; make one with init_state().")
        return
    if state.spec is not spec and state.spec != spec:
        message = (
            f"The state is that of another spec, '{state.spec.name}'; make one of '{spec.name}' with init_state()."
        )
        yield Problem(None, message)
        return
    wrong_slots = None if slots is None else _slots_problem(state, slots)
    if wrong_slots is not None:
        yield Problem(None, wrong_slots)
        slots = None
    sizes = {"B": state.batch if slots is None else len(slots), "T": 1} | _state_sizes(memories, state)
    yield from _size_problems(spec, sizes, tensors)
    for name, x in tensors.items():
        if x.device != state.device:
            message = f"Input '{name}' is on '{x.device}', but the state is on '{state.device}'; move one with .to()."
            yield Problem(name, message)
    yield from _level_problems(spec, state, tensors, slots)


def _slots_problem(state: State, slots: object) -> str | None:
    if not isinstance(slots, Tensor) or slots.dtype not in (torch.int32, torch.int64) or slots.ndim != 1:
        return "'slots' is a tensor [B] of integers, the sequence of the state for each row of the batch."
    if slots.device != state.device:
        there, here = slots.device, state.device
        return f"'slots' is on '{there}', but the state is on '{here}'; move it with .to('{here}')."
    if slots.device.type == "cpu":
        missing = [slot for slot in slots.tolist() if not 0 <= slot < state.batch]
        if missing:
            return f"'slots' names sequence {missing[0]}, but the state has those from 0 to {state.batch - 1}."
        if len(slots.unique()) < len(slots):
            return "'slots' names a sequence twice; a step gives each of them one token."
    return None


def _size_problems(spec: Spec, kept: Mapping[str, int], tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    """Sizes of inputs that differ from those of the state, each told of the first input that has it."""
    for axis, (size, name) in fixed_sizes(spec, tensors).items():
        if size == kept.get(axis, size):
            continue
        message = {
            "T": f"Input '{name}' has T = {size}, but a step takes one token a sequence: [B, 1, ...] or [B, ...].",
            "B": f"Input '{name}' has B = {size}, but the step is one of {kept['B']} sequences; choose them by slots=.",
            "L": f"Input '{name}' has L = {size}, but the state was made for levels = {kept.get('L')}.",
        }
        usual = f"Input '{name}' has {axis} = {size}, but the state has {axis} = {kept[axis]}."
        yield Problem(name, message.get(axis, usual))


def _state_sizes(memories: Sequence[Memory], state: State) -> dict[str, int]:
    """The dimensions that the buffers of a state show."""
    sizes: dict[str, int] = {}
    for memory in memories:
        for buffer in memory.buffers:
            shape = state.held[memory.name][buffer.name].shape
            sizes |= {axis: size for axis, size in zip(buffer.axes, shape, strict=True) if axis in ("H", "K", "V", "M")}
    return sizes | ({"L": sizes.pop("M") + 1} if "M" in sizes else {})


def _level_problems(spec: Spec, state: State, tensors: Mapping[str, Tensor], slots: Tensor | None) -> Iterator[Problem]:
    """A position beyond the levels; a GPU is only asked where what the host knows does not rule it out."""
    if "L" not in (fixed := fixed_sizes(spec, tensors)):
        return
    found, name = fixed["L"]
    position = state.furthest
    if state.device.type == "cpu" or needed_levels(spec, position + 1) > found:
        position = state.look(slots)
    needed = needed_levels(spec, position + 1)
    if needed > found:
        message = f"Input '{name}' has {found} levels, but a sequence at position {position} needs {needed}."
        yield Problem(name, message)


def _ndim(given: object) -> int | None:
    return given.ndim if isinstance(given, Tensor) else None


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
