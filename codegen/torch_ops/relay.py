"""States handed on from slot to slot, one a sequence or one a level."""

from __future__ import annotations

import torch
from torch import Tensor

from maskdsl.codegen.torch_ops.handing import Ends, Steps, runs, shared, spread, unspread, weigh, weigh_adjoint
from maskdsl.codegen.torch_ops.operators import reduce_to
from maskdsl.codegen.torch_ops.positions import carry, level
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
    call = _Relay(slots, [r, operators, pushed, v, initial], lam, a, b, base, admissibility)
    out = call.v.new_empty(call.r.shape[:-1] + call.v.shape[-1:])
    final = Ends(slots, call.initial.clone())
    memory = torch.zeros_like(call.initial[:, :, 0])
    for run in call.runs:
        states, memory = call.states(run, memory, final)
        out[:, :, run] = call.queries(run) @ states.flatten(3, 4)
    return out, final.memory if lam is not None else final.memory[:, :, :, 0]


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
    call = _Relay(slots, [r, operators, pushed, v, initial], lam, a, b, base, admissibility)
    entering = [torch.zeros_like(call.initial[:, :, 0])]
    for run in call.runs[:-1]:
        entering.append(call.states(run, entering[-1])[1])
    ends = Ends(slots, (d_final if lam is not None else d_final[:, :, :, None]).expand(call.initial.shape).clone())
    back = torch.zeros_like(entering[0])
    parts = []
    for run, memory in zip(reversed(call.runs), reversed(entering), strict=True):
        states = call.states(run, memory)[0]
        part, back = call.gradients(run, states, do, ends, back)
        parts.append(part)
    d_r, d_a, d_p, d_v, *rest = (torch.cat(each[::-1], 2) for each in zip(*parts, strict=True))
    d_initial = ends.memory if lam is not None else ends.memory[:, :, :, 0]
    given = [x for x in (r, operators, pushed, v, initial, lam, a, b) if x is not None]
    return tuple(reduce_to(d, x) for d, x in zip([d_r, d_a, d_p, d_v, d_initial, *rest], given, strict=True))


class _Relay:
    """One call: operands over all batch rows and heads, and levels as slots see them.

    States are [B, H, M, K, V], M = 1 without levels.
    """

    def __init__(
        self,
        slots: Slots,
        operands: list[Tensor],
        lam: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
        base: int,
        admissibility: Admissibility,
    ) -> None:
        batch = shared([*operands, *(x for x in (lam, a, b) if x is not None)])
        count, sequences = slots.count, slots.layout.positions.shape[1]

        def whole(x: Tensor) -> Tensor:
            return x.expand(*batch, count, *x.shape[3:])

        r, operators, pushed, v, initial = operands
        self.r, self.pushed, self.v = whole(r), whole(pushed), whole(v)
        self.steps = Steps(whole(operators.exp()), *(None if x is None else whole(x) for x in (a, b)))
        self.initial = (initial if lam is not None else initial[:, :, :, None]).expand(
            *batch, sequences, *(initial.shape[3:] if lam is not None else (1, *initial.shape[3:]))
        )
        self.runs = runs(count)
        self.ends = Ends(slots, self.initial)
        self.lam = None if lam is None else whole(lam)
        if self.lam is not None:
            levels = self.lam.shape[-1]
            own = torch.arange(1, levels, device=v.device)
            start, end = slots.start, slots.end
            self.read = carry(slots.positions, start[..., None], levels, base, admissibility)
            # one level more than there are states, so that what has none is dropped
            moved = carry(end, start, levels + 1, base, admissibility)[..., :-1]
            self.merged = (moved[..., None, :] == own[:, None]).to(v.dtype)
            seen = level(end[..., None], slots.positions, levels + 1, base, admissibility)
            self.written = (seen[..., None] == own).to(v.dtype)

    def queries(self, run: slice) -> Tensor:
        """[B, H, n, C, M * K]."""
        return spread(self.r[:, :, run], self._weights(run))

    def keys(self, run: slice) -> Tensor:
        """[B, H, n, C, M * K], each at its level."""
        return spread(self.pushed[:, :, run], self._places(run))

    def states(self, run: slice, memory: Tensor, final: Ends | None = None) -> tuple[Tensor, Tensor]:
        """The states that slots of a run read, [B, H, n, M, K, V], and what the last one hands on.

        `memory` is what the slot before handed on; `final` takes what the last slots of sequences do.
        """
        writes = (self.keys(run).mT @ self.v[:, :, run]).unflatten(3, memory.shape[2:4])
        states = []
        for n in range(run.start, run.stop):
            memory = self.ends.entering(n, memory)
            states.append(memory)
            memory = self._merge(n, self.steps.act(n, memory)) + writes[:, :, n - run.start]
            if final is not None:
                final.keep(n, memory)
        return torch.stack(states, 2), memory

    def gradients(
        self, run: slice, states: Tensor, do: Tensor, ends: Ends, back: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """dR, dA, dP, dv[, dlam][, da, db] of a run, and the gradient of what the slot before it handed on.

        `back` is that of what the run hands on; `ends` gives those of final states and takes those of initial ones.
        """
        d_out = do[:, :, run]
        queries, keys = self.queries(run), self.keys(run)
        reads = (queries.mT @ d_out).unflatten(3, states.shape[3:5])
        after, moved = [], []
        for n in reversed(range(run.start, run.stop)):
            after.append(ends.leaving(n, back))
            moved.append(self._unmerge(n, after[-1]))
            back = self.steps.pull(n, moved[-1]) + reads[:, :, n - run.start]
            ends.keep_back(n, back)
        d_written, d_moved = (torch.stack(each[::-1], 2) for each in (after, moved))
        d_written = d_written.flatten(3, 4)
        d_r, d_weights = unspread(d_out @ states.flatten(3, 4).mT, self.r[:, :, run], self._weights(run))
        d_p, _ = unspread(self.v[:, :, run] @ d_written.mT, self.pushed[:, :, run], self._places(run))
        d_a, *rank_one = self.steps.gradients(run, states, d_moved)
        found = [d_r, d_a, d_p, keys @ d_written]
        if d_weights is not None and self.lam is not None:
            found.append(weigh_adjoint(d_weights, self.read[:, run], self.lam.shape[-1]))
        return [*found, *rank_one], back

    def _weights(self, run: slice) -> Tensor | None:
        return None if self.lam is None else weigh(self.lam[:, :, run], self.read[:, run])

    def _places(self, run: slice) -> Tensor | None:
        return None if self.lam is None else self.written[:, None, run]

    def _merge(self, n: int, states: Tensor) -> Tensor:
        """States by level as seen from the end of a slot."""
        return states if self.lam is None else self._joined(self.merged[:, n], states)

    def _unmerge(self, n: int, gradient: Tensor) -> Tensor:
        return gradient if self.lam is None else self._joined(self.merged[:, n].mT, gradient)

    @staticmethod
    def _joined(table: Tensor, states: Tensor) -> Tensor:
        return (table[:, None] @ states.flatten(3)).unflatten(3, states.shape[3:])
