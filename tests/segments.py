"""Sequences computed whole by the dense oracle, and in segments by a compiled attention that hands its state on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from compilation import assert_near
from torch import Tensor

from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.oracle import dense
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.state import State
from maskdsl.spec import Spec


@dataclass(frozen=True)
class Corpus:
    """Sequences of different lengths: inputs by token one after another, [1, total, ...], and parameters once."""

    spec: Spec
    lengths: tuple[int, ...]
    tensors: dict[str, Tensor]

    def by_token(self, name: str) -> bool:
        """Whether an input has a token axis."""
        return "T" in next(each.kind for each in self.spec.inputs if each.name == name).value

    def tokens(self, sequence: int, start: int, end: int) -> dict[str, Tensor]:
        """The inputs of some tokens of one sequence, [1, n, ...]."""
        first = sum(self.lengths[:sequence])
        part = slice(first + start, first + end)
        return {name: x[:, part] if self.by_token(name) else x for name, x in self.tensors.items()}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Corpus:
        return Corpus(self.spec, self.lengths, dict(tensors))


def corpus(
    spec: Spec,
    lengths: Sequence[int],
    *,
    H: int = 2,
    K: int = 4,
    V: int = 3,
    key_heads: tuple[tuple[str, int], ...] = (),
    regime: Regime = "mild",
    dtype: torch.dtype = torch.float64,
) -> Corpus:
    """Random sequences, with levels for one position more than they have."""
    levels = max(1, needed_levels(spec, max(lengths) + 1))
    shape = Shape(1, max(1, sum(lengths)), H, K, V, levels, key_heads)
    return Corpus(spec, tuple(lengths), random_inputs(spec, shape, regime=regime, dtype=dtype))


def whole(given: Corpus) -> list[Tensor]:
    """The output of every sequence, [n, H, V], by the dense oracle."""
    found = []
    for number, length in enumerate(given.lengths):
        inputs = given.tokens(number, 0, length)
        v = next(inputs[each.name] for each in given.spec.inputs if each.kind is Kind.VALUE)
        found.append(dense(given.spec, inputs)[0] if length else v[0])
    return found


def packed(given: Corpus, cuts: Sequence[tuple[int, int]], capacity: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The tokens start to end - 1 of every sequence as one batch row, and where they lie.

    `capacity` more tokens follow that hold NaN; one does where there would be none at all.
    """
    parts = [given.tokens(number, start, end) for number, (start, end) in enumerate(cuts)]
    device = next(iter(given.tensors.values())).device
    bounds = torch.tensor([0, *(end - start for start, end in cuts)], device=device).cumsum(0)
    beyond = max(capacity, int(bounds[-1] == 0))
    joined = {}
    for name, x in given.tensors.items():
        if given.by_token(name):
            tail = x.new_full((1, beyond, *x.shape[2:]), torch.nan)
            joined[name] = torch.cat([*(part[name] for part in parts), tail], 1)
        else:
            joined[name] = x
    return joined, bounds


def in_segments(
    attention: Attention,
    given: Corpus,
    ends: Sequence[Sequence[int]],
    capacity: int = 0,
    dtype: torch.dtype = torch.int64,
) -> tuple[list[Tensor], State]:
    """The outputs of packed calls, each going on from the state of the one before, and the last state.

    `ends` are, for every call, the positions that the sequences have come to after it.
    """
    state, outputs = None, [[] for _ in given.lengths]  # type: tuple[State | None, list[list[Tensor]]]
    starts: Sequence[int] = [0] * len(given.lengths)
    for stops in ends:
        inputs, bounds = packed(given, list(zip(starts, stops, strict=True)), capacity)
        o, state = attention(**inputs, initial_state=state, output_final_state=True, cu_seqlens=bounds.to(dtype))
        assert o[:, bounds[-1] :].count_nonzero() == 0
        for own, start, end in zip(outputs, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            own.append(o[0, start:end])
        starts = stops
    assert state is not None
    assert state.positions.tolist() == list(starts)
    return [torch.cat(own) for own in outputs], state


def gradients(
    run: Callable[[Corpus], list[Tensor]], given: Corpus, chosen: Sequence[slice] | None = None
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The outputs of a run, and the gradient of every input for a loss on all of them, or on some tokens of each."""
    leaves = {name: x.detach().requires_grad_() for name, x in given.tensors.items()}
    outputs = run(given.with_tensors(leaves))
    generator = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
    parts = chosen or [slice(None)] * len(outputs)
    losses = [(o[part] * d[part]).sum() for o, d, part in zip(outputs, cotangents, parts, strict=True)]
    found = torch.autograd.grad(torch.stack(losses).sum(), list(leaves.values()), allow_unused=True)
    grads = {n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(leaves.items(), found, strict=True)}
    return [o.detach() for o in outputs], grads


def assert_whole(
    attention: Attention,
    given: Corpus,
    ends: Sequence[Sequence[int]],
    capacity: int = 0,
    dtype: torch.dtype = torch.int64,
    chosen: Sequence[slice] | None = None,
) -> None:
    """Outputs and gradients of packed calls are those of the whole sequences."""
    assert_run(lambda x: in_segments(attention, x, ends, capacity, dtype)[0], given, chosen)


def assert_run(
    run: Callable[[Corpus], list[Tensor]],
    given: Corpus,
    chosen: Sequence[slice] | None = None,
    tolerance: float = 1e-10,
) -> None:
    """Outputs of a run, and gradients of a loss on all of them or on some tokens, are those of the whole sequences."""
    expected, wanted = gradients(whole, given, chosen)
    made, found = gradients(run, given, chosen)
    assert_near(torch.cat(made), torch.cat(expected), tolerance)
    # a gradient whose parts cancel is exact to the rounding of its parts only
    largest = max((x.abs().max().item() for x in wanted.values() if x.numel()), default=0.0)
    for name, gradient in wanted.items():
        assert_near(found[name], gradient, 10 * tolerance, rounding=largest)
