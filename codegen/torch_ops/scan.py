"""The serial scans over chunks."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.handing import Ends
from maskdsl.codegen.torch_ops.operators import act, factors
from maskdsl.codegen.torch_ops.slots import Slots


def scan(operators: Tensor, writes: Tensor, reverse: bool = False, matrix: bool = False) -> Tensor:
    """S[0] = 0, S[n + 1] = A[n] S[n] + H[n]; reversed, P[N - 1] = 0, P[n - 1] = A[n]' P[n] + H[n]."""
    steps = factors(operators, matrix)
    shape = torch.broadcast_shapes(steps.shape[:3], writes.shape[:3])
    out = writes.new_empty(*shape, *writes.shape[3:])
    steps = (steps.mT if matrix and reverse else steps).expand(*shape, *steps.shape[3:])
    state = torch.zeros_like(out[:, :, 0])
    for n in _order(shape[2], reverse):
        out[:, :, n] = state
        state = act(steps[:, :, n], state) + writes[:, :, n]
    return out


def solved_scan(
    operators: Tensor,
    a: Tensor,
    b: Tensor,
    v: Tensor,
    inverse: Tensor,
    writes: Tensor | None = None,
    initial: Tensor | None = None,
    *,
    reverse: bool = False,
    final: bool = False,
    slots: Slots | None = None,
) -> tuple[Tensor, ...]:
    """W[n] = X[n] (u[n] + b[n] S[n]), S[n + 1] = A[n] S[n] + a[n]' W[n] + H[n]: S and W.

    Reversed, from the end, with a and b exchanged and X transposed. In `slots` every sequence begins with its own
    `initial` state, or with zeros, and its `final` one is a third result, both [B, H, S, K, V].
    """
    if reverse:
        a, b, inverse = b, a, inverse.mT
    given = [factors(operators, matrix=False), a, b, inverse, v, *([] if writes is None else [writes])]
    shape = torch.broadcast_shapes(*(x.shape[:3] for x in given))
    steps, a, b, inverse, v, *rest = (x.expand(*shape, *x.shape[3:]) for x in given)
    states = v.new_empty(*shape, a.shape[-1], v.shape[-1])
    answers = v.new_empty(*shape, *v.shape[3:])
    state = torch.zeros_like(states[:, :, 0])
    ends = None if slots is None else _Ends(slots, state, initial, reverse, final)
    for n in _order(shape[2], reverse):
        if ends is not None:
            state = ends.begin(n, state)
        states[:, :, n] = state
        answers[:, :, n] = inverse[:, :, n] @ (v[:, :, n] + b[:, :, n] @ state)
        state = steps[:, :, n] * state + a[:, :, n].mT @ answers[:, :, n]
        for each in rest:
            state += each[:, :, n]
        if ends is not None:
            ends.end(n, state)
    if ends is None:
        return states, answers
    return states.masked_fill_(~ends.slots.used[:, None, :, None, None], 0), answers, *ends.final


class _Ends:
    """The states that sequences begin with, and those that they end in, where these are asked for."""

    def __init__(self, slots: Slots, like: Tensor, initial: Tensor | None, reverse: bool, final: bool) -> None:
        self.slots, self.reverse = slots, reverse
        self._first, self._last = Ends(slots, initial), None
        if final:
            zeros = like.new_zeros(*like.shape[:2], slots.layout.positions.shape[1], *like.shape[2:])
            # a sequence without tokens ends in what it begins with
            self._last = Ends(slots, zeros if initial is None else zeros + initial)

    @property
    def final(self) -> list[Tensor]:
        """What all sequences have ended in, [B, H, S, K, V]."""
        return [] if self._last is None else [self._last.memory]

    def begin(self, n: int, state: Tensor) -> Tensor:
        """What slot n begins with, `state` having come to it."""
        return self._first.at_last(n, state) if self.reverse else self._first.at_first(n, state)

    def end(self, n: int, state: Tensor) -> None:
        """Slot n leaves a state."""
        if self._last is not None and self.reverse:
            self._last.keep_first(n, state)
        elif self._last is not None:
            self._last.keep_last(n, state)


def _order(count: int, reverse: bool) -> range:
    return range(count - 1, -1, -1) if reverse else range(count)
