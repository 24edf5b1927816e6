"""Calls with states that are laid out as one that has been checked: nothing of them is looked at twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskdsl.lowering.hand import Hand
from maskdsl.runtime.arguments import Bound, Sizes, longest
from maskdsl.runtime.function import differentiated
from maskdsl.runtime.sequences import Sequences, furthest_of, layout_of
from maskdsl.runtime.state import State
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Checked:
    """A checked call without its tensors. There are levels for sequences that end at position `room` at the latest."""

    spec: Spec
    sizes: Sizes
    hand: Hand
    room: int

    def another(self, tensors: dict[str, Tensor], state: State | None, cu_seqlens: Tensor | None) -> Sequences | None:
        """A call with tensors laid out like those; None where it has to be checked, since it may go too far."""
        bounds = None if cu_seqlens is None else cu_seqlens.to(torch.int64)[None]
        layout = layout_of(self.sizes, state, bounds, next(iter(tensors.values())).device)
        furthest = furthest_of(layout, state, lambda end: end <= self.room)
        if layout.whole and furthest > self.room:
            return None
        return Sequences(self.spec, Bound(tensors, self.sizes), layout, self.hand, state, furthest)


def without_tensors(call: Sequences) -> Checked:
    """What is known of every call laid out like a checked one."""
    sizes = call.bound.sizes
    return Checked(call.spec, sizes, call.hand, longest(call.spec, sizes.L or 0) - call.hand.final)


def states_layout(spec: Spec, state: object, final: bool) -> tuple[Any, ...]:
    """All of the states of a call that decides whether it is right and how it runs, but for their numbers."""
    if not isinstance(state, State):
        return final, type(state)
    # a spec is compared where it is another one only
    own = None if state.spec is spec else state.spec
    return final, own, differentiated(x for _, x in state.named()), *state.layout
