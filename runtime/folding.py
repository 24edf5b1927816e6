"""States as users keep them, and as programs hand them on: decays multiplied in, windows in order.

All of it is differentiable. A state has one row a sequence, [B * S, H, ...], a program [B, H, S, ...].
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from maskdsl.lowering.memory import KEYS, LOGS, VALUES, memories
from maskdsl.runtime.state import State
from maskdsl.spec import Spec


def folded(spec: Spec, state: State, rows: int) -> dict[str, Tensor]:
    """The buffers that programs of `spec` begin with, for sequences in `rows` batch rows."""
    found = {}
    for memory in memories(spec):
        kept = state.memories[memory.name]
        for name, buffer in kept.items():
            if name == LOGS:
                continue
            made = buffer
            if LOGS in kept and name != VALUES:
                logs = kept[LOGS]
                made = made * logs.exp().to(made.dtype).reshape(*logs.shape, *(1,) * (made.ndim - logs.ndim))
            if name in (KEYS, VALUES):
                made = _turned(made, state.positions)
            found[f"{memory.name}.{name}"] = made.unflatten(0, (rows, -1)).transpose(1, 2)
    return found


def unfolded(spec: Spec, positions: Tensor, buffers: Mapping[str, Tensor], furthest: int) -> State:
    """The state at `positions`, after a call, of the buffers that its program ended with; its logs are zero."""
    found: dict[str, dict[str, Tensor]] = {}
    for memory in memories(spec):
        kept = found[memory.name] = {}
        for buffer in memory.buffers:
            if buffer.name == LOGS:
                # logs come last, and their axes are the first ones of what they are the logs of
                like = next(iter(kept.values()))
                kept[LOGS] = like.new_zeros(like.shape[: len(buffer.axes)], dtype=torch.float64)
            else:
                made = buffers[memory.full_name(buffer)].transpose(1, 2).flatten(0, 1).contiguous()
                kept[buffer.name] = _turned(made, -positions) if buffer.name in (KEYS, VALUES) else made
    return State(spec, found, positions, furthest)


def _turned(x: Tensor, by: Tensor) -> Tensor:
    """result[b, :, i] = x[b, :, (i + by[b]) mod R]: from a ring to the order of tokens, and back with a minus."""
    place = torch.arange(x.shape[2], device=x.device)
    index = (place + by[:, None]) % x.shape[2]
    return x.gather(2, index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
