"""A call cut into parts: handed on from piece to piece, packed into one row, continued token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from maskdsl.diagnostics import CallError
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.folded import fold
from maskdsl.runtime.oracle import recurrent_with_state
from maskdsl.runtime.sampling import Parts, Shape
from maskdsl.runtime.state import State, state_for
from maskdsl.runtime.verification.reference import Outputs

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class InParts:
    """The ways to compute a call in parts, and what the recurrence makes of the same sequences.

    `pieces` should be `whole`, `packed` and `steps` should be `alone`. The outputs are `o` and, where the call has
    levels for the position after its last token, the buffers of the final state as `maskdsl.runtime.folded` has them:
    without a past for `whole` and `pieces`, whose gradients are those of a call that asks for no state.
    """

    attention: Attention
    shape: Shape
    parts: Parts

    def whole(self, inputs: Inputs) -> Outputs:
        """The recurrence over the sequences as they are."""
        o, state = self._recurrence(inputs, 0, self.shape.T)
        return self._outputs(o, state.detach())

    def pieces(self, inputs: Inputs) -> Outputs:
        """A call for each piece, going on from the state of the one before; an empty first piece is a new state."""
        state = self._new_state(inputs) if 0 in self.parts.cuts else None
        outputs = []
        for start, end in self._spans:
            if start < end:
                given = self._between(inputs, start, end)
                if end < self.shape.T or self._final:
                    o, state = self.attention(**given, initial_state=state, output_final_state=True)
                else:
                    o = self.attention(**given, initial_state=state)
                outputs.append(o)
        return self._outputs(torch.cat(outputs, 1), None if state is None else state.detach())

    def alone(self, inputs: Inputs) -> Outputs:
        """The recurrence over every piece as a sequence of its own, laid out as packed calls are."""
        runs = [self._recurrence(inputs, start, end) for start, end in self._spans]
        o = torch.cat([o for o, _ in runs], 1).flatten(0, 1)
        o = torch.cat([o, o.new_zeros(self.parts.capacity, *o.shape[1:])])
        return self._outputs(o.unsqueeze(0), _joined([state for _, state in runs]))

    def packed(self, inputs: Inputs) -> Outputs:
        """One call in which every piece is a sequence; tokens of none hold NaN."""
        row = self._row(inputs, list(range(self.shape.B * self.shape.T)), self.parts.capacity)
        bounds = _bounds(inputs, self._lengths)
        if not self._final:
            return self._outputs(self.attention(**row, cu_seqlens=bounds), None)
        return self._outputs(*self._to_states(row, bounds))

    @torch.no_grad()
    def steps(self, inputs: Inputs) -> Outputs:
        """The same sequences, packed without their last tokens; these follow in steps, those of all ending together."""
        lengths, ends = self._lengths, list(accumulate(self._lengths))
        left = [min(self.parts.steps, length) for length in lengths]
        tokens = [t for end, n, more in zip(ends, lengths, left, strict=True) for t in range(end - n, end - more)]
        bounds = _bounds(inputs, [n - more for n, more in zip(lengths, left, strict=True)])
        row = self._row(inputs, tokens, capacity=0 if tokens else 1)
        begun, state = self._to_states(row, bounds)
        o = begun.new_zeros(ends[-1] + self.parts.capacity, *begun.shape[2:])
        o[tokens] = begun[0, : len(tokens)]
        for more in range(max(left), 0, -1):
            slots = [slot for slot, own in enumerate(left) if own >= more]
            places = [ends[slot] - more for slot in slots]
            chosen = None if len(slots) == len(left) else torch.tensor(slots, device=o.device)
            o[places] = self.attention.step(state, slots=chosen, **self._flat(inputs, places))
        return self._outputs(o.unsqueeze(0), state)

    def _to_states(self, row: Inputs, bounds: Tensor) -> tuple[Tensor, State]:
        """A packed call and the states after it; these are PyTorch's where a backend of kernels leaves none."""
        try:
            return self.attention(**row, cu_seqlens=bounds, output_final_state=True)
        except CallError:
            if self.attention.backend != "triton":
                raise
        _, state = Attention(self.attention.spec, "torch")(**row, cu_seqlens=bounds, output_final_state=True)
        return self.attention(**row, cu_seqlens=bounds), state

    @property
    def _final(self) -> bool:
        return needed_levels(self.attention.spec, self.shape.T + 1) <= self.shape.L

    @property
    def _spans(self) -> list[tuple[int, int]]:
        """From where to where the pieces of each sequence go."""
        return list(pairwise((0, *self.parts.cuts, self.shape.T)))

    @property
    def _lengths(self) -> list[int]:
        """The lengths of all pieces, those of a batch row after those of the row before."""
        return [end - start for start, end in self._spans] * self.shape.B

    def _recurrence(self, inputs: Inputs, start: int, end: int) -> tuple[Tensor, State]:
        """The output for some tokens, and the state after them where they are the first ones."""
        spec = self.attention.spec
        # no token leaves a state of zeros, of the same shapes as any
        o, kept = recurrent_with_state(spec, self._between(inputs, start, end) if start < end else inputs)
        if start == end:
            o, kept = o[:, :0], {name: {b: torch.zeros_like(x) for b, x in each.items()} for name, each in kept.items()}
        return o, State(spec, kept, torch.full((self.shape.B,), end - start, device=o.device))

    def _new_state(self, inputs: Inputs) -> State:
        first = next(iter(inputs.values()))
        return state_for(self.attention.spec, vars(self.shape), first.device, first.dtype)

    def _outputs(self, o: Tensor, state: State | None) -> Outputs:
        if state is None or not self._final:
            return {"o": o}
        folded = fold(state, o.dtype)
        return {"o": o} | {f"{memory}.{name}": x for memory, kept in folded.items() for name, x in kept.items()}

    def _by_token(self, inputs: Inputs) -> dict[str, Any]:
        return {each.name: inputs[each.name] for each in self.attention.spec.inputs if "T" in each.kind.value}

    def _between(self, inputs: Inputs, start: int, end: int) -> dict[str, Any]:
        """The tokens from `start` to `end` of every sequence."""
        return {**inputs, **{name: x[:, start:end] for name, x in self._by_token(inputs).items()}}

    def _flat(self, inputs: Inputs, tokens: Sequence[int]) -> dict[str, Any]:
        """Some of all tokens [B * T, ...], which lie as in a packed call."""
        return {**inputs, **{name: x.flatten(0, 1)[list(tokens)] for name, x in self._by_token(inputs).items()}}

    def _row(self, inputs: Inputs, tokens: Sequence[int], capacity: int) -> dict[str, Any]:
        """These tokens as one batch row, and `capacity` more of NaN."""
        flat = self._by_token(self._flat(inputs, tokens))
        rows = {name: torch.cat([x, x.new_full((capacity, *x.shape[1:]), torch.nan)])[None] for name, x in flat.items()}
        return {**inputs, **rows}


def _bounds(inputs: Inputs, lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], device=next(iter(inputs.values())).device)


def _joined(states: Sequence[State]) -> State:
    """States of S pieces of B sequences each as one of B * S, those of a sequence side by side."""
    first = states[0]
    kept = {
        memory: {name: torch.stack([s.memories[memory][name] for s in states], 1).flatten(0, 1) for name in buffers}
        for memory, buffers in first.memories.items()
    }
    return State(first.spec, kept, torch.stack([s.positions for s in states], 1).flatten())
