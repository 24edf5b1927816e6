"""Windows from slot to slot: the last tokens before each slot, their keys moved on to it."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.handing import Ends, Steps, runs, shared
from maskdsl.codegen.torch_ops.operators import reduce_to
from maskdsl.codegen.torch_ops.positions import level
from maskdsl.codegen.torch_ops.sights import weigh, weigh_adjoint
from maskdsl.codegen.torch_ops.slots import Slots
from maskdsl.mask.levels import Admissibility


def slide(
    slots: Slots,
    r: Tensor,
    operators: Tensor,
    pushed: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    lam: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    width: int,
    base: int,
    admissibility: Admissibility,
) -> tuple[Tensor, Tensor, Tensor]:
    """o, and the keys [B, H, S, W, K] and values [B, H, S, W, V] after each sequence."""
    call = _Slide(slots, [r, operators, pushed, v, keys, values], lam, a, b, width, base, admissibility)
    out = call.v.new_empty(call.r.shape[:-1] + call.v.shape[-1:])
    final = Ends(slots, call.keys.clone()), Ends(slots, call.values.clone())
    memory = call.nothing()
    for run in call.runs:
        near, old, memory = call.memories(run, memory, final)
        out[:, :, run] = ((call.r[:, :, run] @ near) * call.weights(run)) @ old
    return out, final[0].memory.mT, final[1].memory


def slide_adjoint(
    slots: Slots,
    do: Tensor,
    d_keys: Tensor,
    d_values: Tensor,
    r: Tensor,
    operators: Tensor,
    pushed: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    lam: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    width: int,
    base: int,
    admissibility: Admissibility,
) -> tuple[Tensor, ...]:
    """do, dkeys, dvalues -> dR, dA, dP, dv, dkeys, dvalues[, dlam][, da, db]."""
    call = _Slide(slots, [r, operators, pushed, v, keys, values], lam, a, b, width, base, admissibility)
    entering = [call.nothing()]
    for run in call.runs[:-1]:
        entering.append(call.memories(run, entering[-1])[2])
    ends = (
        Ends(slots, d_keys.mT.expand(call.keys.shape).clone()),
        Ends(slots, d_values.expand(call.values.shape).clone()),
    )
    back = call.nothing()
    parts = []
    for run, memory in zip(reversed(call.runs), reversed(entering), strict=True):
        near, old, _ = call.memories(run, memory)
        part, back = call.gradients(run, near, old, do, ends, back)
        parts.append(part)
    d_r, d_a, d_p, d_v, *rest = (torch.cat(each[::-1], 2) for each in zip(*parts, strict=True))
    given = [x for x in (r, operators, pushed, v, keys, values, lam, a, b) if x is not None]
    found = [d_r, d_a, d_p, d_v, ends[0].memory.mT, ends[1].memory, *rest]
    return tuple(reduce_to(d, x) for d, x in zip(found, given, strict=True))


Memory = tuple[Tensor, Tensor]
"""Keys as columns, [B, H, K, W], on which operators act as on states, and values [B, H, W, V]."""


class _Slide:
    """One call: operands over all batch rows and heads, and where the tokens before each slot are."""

    def __init__(
        self,
        slots: Slots,
        operands: list[Tensor],
        lam: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
        width: int,
        base: int,
        admissibility: Admissibility,
    ) -> None:
        batch = shared([*operands, *(x for x in (lam, a, b) if x is not None)])
        count, sequences = slots.count, slots.layout.positions.shape[1]

        def whole(x: Tensor) -> Tensor:
            return x.expand(*batch, count, *x.shape[3:])

        r, operators, pushed, v, keys, values = operands
        self.r, self.pushed, self.v = whole(r), whole(pushed), whole(v)
        self.steps = Steps(whole(operators.exp()), *(None if x is None else whole(x) for x in (a, b)))
        self.lam = None if lam is None else whole(lam)
        self.keys = keys.mT.expand(*batch, sequences, keys.shape[4], keys.shape[3])
        self.values = values.expand(*batch, sequences, *values.shape[3:])
        self.begin = Ends(slots, self.keys), Ends(slots, self.values)
        self.runs = runs(count)
        self.slots, self.width, self.base, self.admissibility = slots, width, base, admissibility
        # the tokens after a slot, oldest first, in the row of those before it and of its own
        kept = torch.arange(width - 1, device=v.device)
        moved = (slots.end - slots.start)[..., None] + kept
        own = slots.end[..., None] - (width - 1) + kept - slots.origin[..., None] + (width - 1)
        self.order = torch.where(moved < width - 1, moved, own)

    def nothing(self) -> Memory:
        """The memory of no token."""
        return torch.zeros_like(self.keys[:, :, 0]), torch.zeros_like(self.values[:, :, 0])

    def weights(self, run: slice) -> Tensor:
        """What scores [B, H, n, C, W] are multiplied by: 1 in the window and 0 outside, times weights by level."""
        near = self._near(run)
        return near if self.lam is None else near * weigh(self.lam[:, :, run], self._levels(run))

    def memories(
        self, run: slice, memory: Memory, final: tuple[Ends, Ends] | None = None
    ) -> tuple[Tensor, Tensor, Memory]:
        """Keys and values that slots of a run read, and what the last one hands on; as `states` of a relay."""
        near, old = [], []
        for n in range(run.start, run.stop):
            keys, values = (ends.at_first(n, x) for ends, x in zip(self.begin, memory, strict=True))
            near.append(keys)
            old.append(values)
            moved = self.steps.at(n).act(keys[:, :, None])[:, :, 0]
            keys = self._taken(n, torch.cat([moved, self.pushed[:, :, n].mT], 3), 3)
            values = self._taken(n, torch.cat([values, self.v[:, :, n]], 2), 2)
            memory = keys, values
            if final is not None:
                final[0].keep_last(n, keys)
                final[1].keep_last(n, values)
        return torch.stack(near, 2), torch.stack(old, 2), memory

    def gradients(
        self, run: slice, near: Tensor, old: Tensor, do: Tensor, ends: tuple[Ends, Ends], back: Memory
    ) -> tuple[list[Tensor], Memory]:
        """dR, dA, dP, dv[, dlam][, da, db] of a run, and the gradient of what the slot before it handed on."""
        d_out, queries, weights = do[:, :, run], self.r[:, :, run], self.weights(run)
        scores, d_weighted = queries @ near, d_out @ old.mT
        d_scores = d_weighted * weights
        d_near, d_old = queries.mT @ d_scores, (scores * weights).mT @ d_out
        d_moved, d_keys, d_values = [], [], []
        for n in reversed(range(run.start, run.stop)):
            after = [end.at_last(n, x) for end, x in zip(ends, back, strict=True)]
            d_kept, d_own = self._placed(n, after[0], 3)
            d_past, d_new = self._placed(n, after[1], 2)
            d_moved.append(d_kept[:, :, None])
            d_keys.append(d_own.mT)
            d_values.append(d_new)
            place = n - run.start
            back = self.steps.at(n).pull(d_moved[-1])[:, :, 0] + d_near[:, :, place], d_past + d_old[:, :, place]
            for end, x in zip(ends, back, strict=True):
                end.keep_first(n, x)
        moved, d_p, d_v = (torch.stack(each[::-1], 2) for each in (d_moved, d_keys, d_values))
        d_a, *rank_one = self.steps.within(run).gradients(near[:, :, :, None], moved)
        found = [d_scores @ near.mT, d_a, d_p, d_v]
        if self.lam is not None:
            shares = d_weighted * scores * self._near(run)
            found.append(weigh_adjoint(shares, self._levels(run), self.lam.shape[-1]))
        return [*found, *rank_one], back

    def _tokens(self, run: slice) -> Tensor:
        """The positions of the tokens before each slot, [B, n, 1, W]."""
        kept = torch.arange(1 - self.width, 0, device=self.v.device)
        return (self.slots.start[:, run, None] + kept)[:, :, None]

    def _near(self, run: slice) -> Tensor:
        distance = self.slots.positions[:, run, :, None] - self._tokens(run)
        return (distance < self.width).to(self.v.dtype)[:, None]

    def _levels(self, run: slice) -> Tensor:
        assert self.lam is not None
        t, s = self.slots.positions[:, run, :, None], self._tokens(run).clamp(min=0)
        return level(t, s, self.lam.shape[-1], self.base, self.admissibility)

    def _taken(self, n: int, x: Tensor, dim: int) -> Tensor:
        """The tokens after a slot, of those before it and its own along axis `dim`."""
        return x.gather(dim, self._index(n, x, dim))

    def _placed(self, n: int, gradient: Tensor, dim: int) -> list[Tensor]:
        """The gradients of the tokens before a slot and of its own: each goes to one place."""
        shape = list(gradient.shape)
        shape[dim] += self.slots.size
        index = self._index(n, gradient, dim)
        whole = gradient.new_zeros(shape).scatter(dim, index, gradient)
        return list(whole.split([self.width - 1, self.slots.size], dim))

    def _index(self, n: int, like: Tensor, dim: int) -> Tensor:
        shape = [1, 1, 1, 1]
        shape[0], shape[dim] = self.order.shape[0], self.width - 1
        whole = list(like.shape)
        whole[dim] = self.width - 1
        return self.order[:, n].view(shape).expand(whole)
