"""Calls cut along their tokens, and what a state means whatever form it has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskdsl.lowering.memory import memories
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.state import State
from maskdsl.spec import Spec

Memories = Mapping[str, Mapping[str, Tensor]]


def part(spec: Spec, inputs: Mapping[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    """The tokens from `start` to `stop` of a call; parameters as they are."""
    by_token = {each.name for each in spec.inputs if "T" in each.kind.value}
    return {name: x[:, start:stop] if name in by_token else x for name, x in inputs.items()}


def sequences(spec: Spec, inputs: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    """Some sequences of a call."""
    by_token = {each.name for each in spec.inputs if "T" in each.kind.value}
    return {name: x[rows] if name in by_token else x for name, x in inputs.items()}


def folded(buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The buffers of a memory with its logs multiplied in."""
    kept = {name: x.double() for name, x in buffers.items() if name != "logs"}
    if "logs" in buffers:
        name = "keys" if "keys" in kept else "states"
        factors = buffers["logs"].exp()
        kept[name] = kept[name] * factors.reshape(*factors.shape, *[1] * (kept[name].ndim - factors.ndim))
    return kept


def distance(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """How far two memories are from each other, relative to the second; infinite where they are of different kinds."""
    found, wanted = folded(found), folded(wanted)
    if {name: x.shape for name, x in found.items()} != {name: x.shape for name, x in wanted.items()}:
        return float("inf")
    errors = [(found[name] - x).norm() / x.norm().clamp(min=1e-30) for name, x in wanted.items()]
    return max((error.item() for error in errors), default=0.0)


def assert_same_state(found: Memories, wanted: Memories, tolerance: float) -> None:
    """The same memories for every attend; a sum may list its terms in another order."""
    rest = dict(wanted)
    assert len(found) == len(rest)
    for name, memory in found.items():
        attend = name.rpartition("_")[0]
        terms = {each: distance(memory, rest[each]) for each in rest if each.rpartition("_")[0] == attend}
        nearest = min(terms, key=terms.__getitem__)
        assert terms[nearest] <= tolerance, (name, terms)
        del rest[nearest]


def start(attention: Attention, inputs: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> State:
    """The state before the first token of a call like this one."""
    sizes: dict[str, int] = {}
    for each in attention.spec.inputs:
        sizes |= dict(zip(each.kind.value, inputs[each.name].shape, strict=True))
    kept = {axis for memory in memories(attention.spec) for buffer in memory.buffers for axis in buffer.axes}
    names = {"heads": ("H", "H"), "key": ("K", "K"), "value": ("V", "V"), "levels": ("L", "M")}
    given = {name: sizes[size] for name, (size, axis) in names.items() if axis in kept}
    return attention.init_state(sizes["B"], **given, dtype=dtype)


def steps(attention: Attention, state: State, inputs: Mapping[str, Tensor]) -> Tensor:
    """All tokens of a call one after the other, [B, T, H, V]."""
    length = next(inputs[each.name].shape[1] for each in attention.spec.inputs if "T" in each.kind.value)
    return torch.cat([attention.step(state, **part(attention.spec, inputs, t, t + 1)) for t in range(length)], 1)
