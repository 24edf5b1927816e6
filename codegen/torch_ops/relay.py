"""States handed on from slot to slot, one a sequence or one a level.

The loop over slots, the chain, hands on what slots in the middle of a sequence see. What a sequence begins with is read
by its first slot and joins the chain after it, and what it ends with is gathered after its last one: both are done for
all sequences at once, and by all levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.handing import Ends, Steps, runs, shared
from maskdsl.codegen.torch_ops.operators import reduce_to
from maskdsl.codegen.torch_ops.sights import Sights, join, spread, spread_adjoint
from maskdsl.codegen.torch_ops.slots import Slots
from maskdsl.mask.levels import Admissibility


def relay(
    slots: Slots,
    r: Tensor,
    operators: Tensor,
    pushed: Tensor,
    v: Tensor,
    initial: Tensor,
    lam: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    base: int,
    admissibility: Admissibility,
) -> tuple[Tensor, Tensor]:
    """o and the final states [B, H, S(, M), K, V]."""
    if lam is None:
        out, final = _Relay(slots, r, operators, pushed, v, initial[:, :, :, None], None, a, b, None).forward()
        return out, final[:, :, :, 0]
    sights = Sights(slots, lam.shape[-1], base, admissibility, v.dtype)
    return _Relay(slots, r, operators, pushed, v, initial, lam, a, b, sights).forward()


def relay_adjoint(
    slots: Slots,
    do: Tensor,
    d_final: Tensor,
    r: Tensor,
    operators: Tensor,
    pushed: Tensor,
    v: Tensor,
    initial: Tensor,
    lam: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    base: int,
    admissibility: Admissibility,
) -> tuple[Tensor, ...]:
    """do, dF -> dR, dA, dP, dv, dI[, dlam][, da, db]."""
    if lam is None:
        call = _Relay(slots, r, operators, pushed, v, initial[:, :, :, None], None, a, b, None)
        found = call.adjoint(do, d_final[:, :, :, None])
        found[4] = found[4][:, :, :, 0]
    else:
        sights = Sights(slots, lam.shape[-1], base, admissibility, v.dtype)
        found = _Relay(slots, r, operators, pushed, v, initial, lam, a, b, sights).adjoint(do, d_final)
    given = [x for x in (r, operators, pushed, v, initial, lam, a, b) if x is not None]
    return tuple(reduce_to(d, x) for d, x in zip(found, given, strict=True))


class _Relay:
    """One call. States are [B, H, .., M, K, V], those of the chain [B, H, .., M', K, V].

    Without `sights` there are no levels, M = M' = 1.
    """

    def __init__(
        self,
        slots: Slots,
        r: Tensor,
        operators: Tensor,
        pushed: Tensor,
        v: Tensor,
        initial: Tensor,
        lam: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
        sights: Sights | None,
    ) -> None:
        batch = shared([x for x in (r, operators, pushed, v, initial, lam, a, b) if x is not None])

        def whole(x: Tensor) -> Tensor:
            return x.expand(*batch, slots.count, *x.shape[3:])

        self.slots, self.sights, self.runs = slots, sights, runs(slots.count)
        self.r, self.pushed, self.v = whole(r), whole(pushed), whole(v)
        self.lam = None if lam is None else whole(lam)
        self.steps = Steps(whole(operators.exp()), *(None if x is None else whole(x) for x in (a, b)))
        self.first, self.last = self.steps.taken(slots.at_first), self.steps.taken(slots.at_last)
        self.initial = initial.expand(*batch, slots.layout.positions.shape[1], *initial.shape[3:])
        self.moved = self.first.act(self.initial)
        self.there = slots.there[:, None, :, None, None, None]
        self.alone = slots.alone[:, None, :, None, None, None]

    def forward(self) -> tuple[Tensor, Tensor]:
        """o and the final states."""
        out = self.slots.in_first(spread(*self._first_reads()) @ self.initial.flatten(3, 4))
        state, joining, entering = self._nothing(), self._joining(), Ends(self.slots, self._nothing_at_ends())
        for run in self.runs:
            states, state = self._chain(run, state, joining, entering)
            out[:, :, run] += spread(self.r[:, :, run], self._weights(run)) @ states.flatten(3, 4)
        final = self._ending(self.last.act(entering.memory), self.moved)
        written = (spread(*self._last_writes()).mT @ self.slots.at_last(self.v)).unflatten(3, final.shape[3:5])
        return out, torch.where(self.there, final + written, self.initial)

    def adjoint(self, do: Tensor, d_final: Tensor) -> list[Tensor]:
        """dR, dA, dP, dv, dI[, dlam][, da, db]."""
        joining, entering = self._joining(), Ends(self.slots, self._nothing_at_ends())
        before = [self._nothing()]
        for run in self.runs:
            before.append(self._chain(run, before[-1], joining, entering)[1])
        d_ending = torch.where(self.there, d_final, 0)
        d_last, d_moved = self._ending_adjoint(d_ending)
        leaving, d_joining = Ends(self.slots, self.last.pull(d_last)), Ends(self.slots, self._nothing_at_ends())
        back, parts = self._nothing(), []
        for run, state in zip(reversed(self.runs), before[-2::-1], strict=True):
            states, _ = self._chain(run, state, joining)
            part, back = self._chain_adjoint(run, states, do, leaving, d_joining, back)
            parts.append(part)
        d_r, d_p, d_v, *found = (torch.cat(each[::-1], 2) for each in zip(*parts, strict=True))
        d_lam, d_steps = ([], found) if self.lam is None else (found[:1], found[1:])

        d_moved = d_moved + join(None if self.sights is None else self.sights.joining.mT, d_joining.memory)
        reads = self._first_reads_adjoint(self.slots.at_first(do))
        d_initial = torch.where(self.there, self.first.pull(d_moved) + reads.pop(), d_final)
        writes = self._last_writes_adjoint(d_ending)
        begins, ends = self.first.gradients(self.initial, d_moved), self.last.gradients(entering.memory, d_last)
        for place, found_there, added in (
            (self.slots.in_first, [d_r, *d_lam], reads),
            (self.slots.in_last, [d_p, d_v], writes),
            (self.slots.in_first, d_steps, begins),
            (self.slots.in_last, d_steps, ends),
        ):
            for x, more in zip(found_there, added, strict=True):
                x += place(more)
        d_a, *rank_one = d_steps
        return [d_r, d_a, d_p, d_v, d_initial, *d_lam, *rank_one]

    # -- the middle of sequences ----------------------------------------------------------------------------------

    def _chain(self, run: slice, state: Tensor, joining: Ends, entering: Ends | None = None) -> tuple[Tensor, Tensor]:
        """The states before the slots of a run, [B, H, n, M', K, V], and what the last one hands on.

        `state` is what the slot before handed on. `joining` is what first slots hand on in its place, besides what they
        write; `entering` takes what last slots begin with.
        """
        writes, states = self._writes(run), []
        nothing = Ends(self.slots)
        for n in range(run.start, run.stop):
            state = nothing.at_first(n, state)
            states.append(state)
            if entering is not None:
                entering.keep_last(n, state)
            moved = join(None if self.sights is None else self.sights.merging[:, n], self.steps.at(n).act(state))
            state = joining.at_first(n, moved) + writes[:, :, n - run.start]
        return torch.stack(states, 2), state

    def _chain_adjoint(
        self, run: slice, states: Tensor, do: Tensor, leaving: Ends, d_joining: Ends, back: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """dR, dP, dv[, dlam], dA[, da, db] of a run, and the gradient of what the slot before it handed on.

        `back` is that of what the run hands on. `leaving` has those of what last slots begin with, and `d_joining`
        takes those of what first slots hand on.
        """
        d_out, rows, weights = do[:, :, run], self.r[:, :, run], self._weights(run)
        reads = (spread(rows, weights).mT @ d_out).unflatten(3, states.shape[3:5])
        nothing = Ends(self.slots)
        after, moved = [], []
        for n in reversed(range(run.start, run.stop)):
            after.append(nothing.at_last(n, back))
            d_joining.keep_first(n, after[-1])
            moved.append(join(None if self.sights is None else self.sights.merging[:, n].mT, after[-1]))
            back = leaving.at_last(n, self.steps.at(n).pull(moved[-1])) + reads[:, :, n - run.start]
        d_after, d_moved = (torch.stack(each[::-1], 2) for each in (after, moved))
        d_r, d_weights = spread_adjoint(d_out @ states.flatten(3, 4).mT, rows, weights)
        found = [d_r, *self._writes_adjoint(run, d_after)]
        if self.sights is not None and d_weights is not None:
            found.append(self.sights.read_adjoint(d_weights, run))
        return [*found, *self.steps.within(run).gradients(states, d_moved)], back

    def _weights(self, run: slice) -> Tensor | None:
        return None if self.sights is None or self.lam is None else self.sights.read(self.lam, run)

    def _writes(self, run: slice) -> Tensor:
        """What slots add to what they hand on, [B, H, n, M', K, V]."""
        pushed, v = self.pushed[:, :, run], self.v[:, :, run]
        if self.sights is None:
            return (pushed.mT @ v)[:, :, :, None]
        if self.sights.weak:
            return self.sights.written[:, None, run, :, None, None] * (pushed.mT @ v)[:, :, :, None]
        levels = self.sights.written[:, None, run]
        return (spread(pushed, levels).mT @ v).unflatten(3, (levels.shape[-1], pushed.shape[-1]))

    def _writes_adjoint(self, run: slice, gradient: Tensor) -> list[Tensor]:
        """dP, dv."""
        pushed, v = self.pushed[:, :, run], self.v[:, :, run]
        if self.sights is not None and not self.sights.weak:
            levels = self.sights.written[:, None, run]
            d_p, _ = spread_adjoint(v @ gradient.flatten(3, 4).mT, pushed, levels)
            return [d_p, spread(pushed, levels) @ gradient.flatten(3, 4)]
        if self.sights is not None:
            gradient = self.sights.written[:, None, run, :, None, None] * gradient
        gradient = gradient.sum(3)
        return [v @ gradient.mT, pushed @ gradient]

    # -- the ends of sequences ------------------------------------------------------------------------------------

    def _nothing(self) -> Tensor:
        """No state of the chain, [B, H, M', K, V]."""
        return self._nothing_at_ends()[:, :, 0]

    def _nothing_at_ends(self) -> Tensor:
        count = 1 if self.sights is None else self.sights.merging.shape[-1]
        return self.initial.new_zeros(*self.initial.shape[:3], count, *self.initial.shape[4:])

    def _joining(self) -> Ends:
        """What initial states are to the slots after the first ones."""
        return Ends(self.slots, join(None if self.sights is None else self.sights.joining, self.moved))

    def _first_reads(self) -> tuple[Tensor, Tensor | None]:
        """Queries of first slots, [B, H, S, C, K], and the weights with which they read initial states."""
        rows = self.slots.at_first(self.r)
        if self.sights is None or self.lam is None:
            return rows, None
        return rows, self.sights.read_first(self.slots.at_first(self.lam))

    def _first_reads_adjoint(self, d_out: Tensor) -> list[Tensor]:
        """dR[, dlam], dI."""
        rows, weights = self._first_reads()
        d_r, d_weights = spread_adjoint(d_out @ self.initial.flatten(3, 4).mT, rows, weights)
        d_initial = (spread(rows, weights).mT @ d_out).unflatten(3, self.initial.shape[3:5])
        if self.sights is None or d_weights is None:
            return [d_r, d_initial]
        return [d_r, self.sights.read_first_adjoint(d_weights), d_initial]

    def _last_writes(self) -> tuple[Tensor, Tensor | None]:
        """Keys of last slots, [B, H, S, C, K], and the levels at which they end."""
        return self.slots.at_last(self.pushed), None if self.sights is None else self.sights.written_last[:, None]

    def _last_writes_adjoint(self, gradient: Tensor) -> list[Tensor]:
        """dP, dv."""
        rows, levels = self._last_writes()
        d_p, _ = spread_adjoint(self.slots.at_last(self.v) @ gradient.flatten(3, 4).mT, rows, levels)
        return [d_p, spread(rows, levels) @ gradient.flatten(3, 4)]

    def _ending(self, chain: Tensor, alone: Tensor) -> Tensor:
        """What last slots hand on: of the chain's states, or of initial ones where they are first slots too."""
        if self.sights is None:
            return torch.where(self.alone, alone, chain)
        return join(self.sights.ending, chain) + join(self.sights.ending_alone, alone)

    def _ending_adjoint(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        if self.sights is None:
            return torch.where(self.alone, 0, gradient), torch.where(self.alone, gradient, 0)
        return join(self.sights.ending.mT, gradient), join(self.sights.ending_alone.mT, gradient)
