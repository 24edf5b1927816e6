"""A state as programs over chunks hand it over, and back: logs multiplied in, a window's tokens in order of age.

Both ways are differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskdsl.lowering.memory import KEYS, LOGS, STATES, VALUES, memories
from maskdsl.runtime.state import State
from maskdsl.spec import Spec


def fold(state: State, dtype: torch.dtype) -> dict[str, dict[str, Tensor]]:
    """The buffers by memory in one dtype, logs multiplied in, windows oldest first with zeros where no token was yet.

    What needs no change is the state's own tensor.
    """
    return {name: _folded(buffers, state.positions, dtype) for name, buffers in state.memories.items()}


def unfold(
    spec: Spec, folded: Mapping[str, Mapping[str, Tensor]], positions: Tensor, furthest: int | None = None
) -> State:
    """The state of which `folded` is the fold, in the dtype of that, all logs 0."""
    found = {}
    for memory in memories(spec):
        buffers = dict(folded[memory.name])
        if KEYS in buffers:
            buffers |= _turned(buffers, -positions)
        for buffer in memory.buffers:
            if buffer.name == LOGS:
                x = buffers[KEYS if KEYS in buffers else STATES]
                buffers[LOGS] = x.new_zeros(x.shape[: len(buffer.axes)], dtype=torch.float64)
        found[memory.name] = buffers
    return State(spec, found, positions, furthest)


def _folded(buffers: Mapping[str, Tensor], positions: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    kept = {name: x.to(dtype) for name, x in buffers.items() if name != LOGS}
    if LOGS in buffers:
        name = KEYS if KEYS in kept else STATES
        factors = buffers[LOGS].exp().to(dtype)
        kept[name] = kept[name] * factors.reshape(*factors.shape, *[1] * (kept[name].ndim - factors.ndim))
    # the oldest token that a ring of n holds, pos - n, lies in slot pos mod n
    return kept | _turned(kept, positions) if KEYS in kept else kept


def _turned(buffers: Mapping[str, Tensor], by: Tensor) -> dict[str, Tensor]:
    """result[b, :, i] = ring[b, :, (i + by[b]) mod n] for the rings [B, H, n, X] among the buffers."""
    count = buffers[KEYS].shape[2]
    slots = (torch.arange(count, device=by.device) + by[:, None]) % count
    rings = {name: buffers[name] for name in (KEYS, VALUES)}
    return {name: ring.gather(2, slots[:, None, :, None].expand(ring.shape)) for name, ring in rings.items()}
