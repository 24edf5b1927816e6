"""Calls cut along their tokens, and what a state means whatever form it has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskdsl.spec import Spec

State = Mapping[str, Mapping[str, Tensor]]


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


def assert_same_state(found: State, wanted: State, tolerance: float) -> None:
    """The same memories for every attend; a sum may list its terms in another order."""
    rest = dict(wanted)
    assert len(found) == len(rest)
    for name, memory in found.items():
        attend = name.rpartition("_")[0]
        terms = {each: distance(memory, rest[each]) for each in rest if each.rpartition("_")[0] == attend}
        nearest = min(terms, key=terms.__getitem__)
        assert terms[nearest] <= tolerance, (name, terms)
        del rest[nearest]


def stacked(outputs: list[Tensor]) -> Tensor:
    """Outputs [B, H, V] of single tokens as [B, T, H, V]."""
    return torch.stack(outputs, 1)
