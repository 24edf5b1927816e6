"""The bytes that a step cannot do without."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.positions import occupied
from maskdsl.lowering.memory import KEYS, LOGS, STATES, Memory, memories, stays
from maskdsl.mask.normal import Hierarchy
from maskdsl.runtime.state import State


def step_bytes(state: State, position: int, inputs: Mapping[str, Tensor], output: Tensor) -> int:
    """What the token after `position` others reads and writes once, in all sequences.

    Of a hierarchy, the levels that hold something and those that change; of a window, the tokens that it has and the
    one that comes. Where decays commute with everything they move logs in place of states.
    """
    moved = sum(x.nbytes for x in (*inputs.values(), output)) + 2 * state.positions.nbytes
    for memory in memories(state.spec):
        for name, buffer in state.held[memory.name].items():
            moved += _buffer_bytes(memory, name, buffer, position)
    return moved


def _buffer_bytes(memory: Memory, name: str, buffer: Tensor, position: int) -> int:
    held, hierarchy = {each.name for each in memory.buffers}, memory.term.hierarchy
    row = buffer[:, :, 0].nbytes
    if name == STATES:
        assert hierarchy is not None
        before, after = (_levels(p, buffer.shape[2] + 1, hierarchy) for p in (position, position + 1))
        changed = min(after, _moved(position, hierarchy)) if stays(memory.term) else after
        return row * (before + changed)
    if KEYS in held:
        seen = min(position, buffer.shape[2])
        moves = name == LOGS or (name == KEYS and not stays(memory.term))
        return row * (2 * seen if moves else seen + 1)
    return 2 * buffer.nbytes


def _levels(position: int, levels: int, hierarchy: Hierarchy) -> int:
    """How many levels hold something."""
    return int(occupied(torch.tensor(position), levels, hierarchy.base, hierarchy.admissibility).sum())


def _moved(position: int, hierarchy: Hierarchy) -> int:
    """How many rows are written at the most: one that takes all (weak), or each that something moves to (strong)."""
    if hierarchy.admissibility == "weak":
        return 1
    powers = (hierarchy.base**power for power in range(1, 64))
    return 2 + sum(1 for _ in takewhile(lambda power: (position + 1) % power == 0, powers))
