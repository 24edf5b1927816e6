"""Calls of generated kernels, for a process in which Triton is the interpreter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from agreement import Outcome, outcome
from segments import Corpus, corpus, in_segments, packed
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import maskdsl
from maskdsl.chunk.axes import extent
from maskdsl.codegen.kernels import runs
from maskdsl.lowering.hand import Hand, anywhere
from maskdsl.lowering.memory import LOGS, STATES, memories
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.compiled import Backend
from maskdsl.runtime.folded import fold
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape
from maskdsl.runtime.state import State
from maskdsl.runtime.triton import call
from maskdsl.runtime.triton.build import text_of
from maskdsl.runtime.verification import Case, Comparison, compare
from maskdsl.runtime.verification.compare import ALLOWED
from maskdsl.schedule.configuration import Configuration, padded
from maskdsl.schedule.unsupported import Unsupported

NOISE = 4
"""How many times what rounding is allowed an error may be where that is more than `ALLOWED`: what is left is noise."""


def failures(text: str, case: Case, chunk: int | None = None) -> list[Comparison]:
    """The outputs and gradients of a call in which kernels and oracles differ by more than rounding."""
    attention = maskdsl.compile(text, "triton", chunk=chunk)
    return [
        c
        for c in compare(attention, case)
        if not (c.passed or c.error <= NOISE * c.allowed > NOISE * ALLOWED[torch.float32])
    ]


def without_gradients(text: str, inputs: Mapping[str, Tensor], full: bool) -> dict[str, Tensor]:
    """The outputs of a call that may be asked for gradients and of one that may not, on a `full` GPU where told."""
    with mock.patch.object(call, "BUSY", 0 if full else call.BUSY):
        attention = maskdsl.compile(text, "triton")
        leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
        found = {"training": attention(**leaves).detach(), "detached": attention(**inputs)}
        with torch.no_grad():
            found["no_grad"] = attention(**leaves)
        with torch.inference_mode():
            found["inference_mode"] = attention(**leaves)
        return found


def passes(text: str, inputs: Mapping[str, Tensor]) -> list[tuple[bool, bool]]:
    """Whether each call of a checkpointed one was for training, and whether there is a backward pass, in order."""
    attention = maskdsl.compile(text, "triton")
    seen = []

    def run(*x: Tensor) -> Tensor:
        output = attention(*x)
        configuration = attention._latest
        assert isinstance(configuration, Configuration)
        seen.append((configuration.training, "def backward" in attention.source("backward")))
        return output

    leaves = [x.detach().requires_grad_() for x in inputs.values()]
    checkpoint(run, *leaves, use_reentrant=True).sum().backward()
    return seen


def outcome_of(text: str, inputs: Mapping[str, Tensor]) -> Outcome:
    """The output and the gradients of a call."""
    return outcome(maskdsl.compile(text, "triton"), inputs)


def failures_of_a_full_gpu(text: str, case: Case) -> list[Comparison]:
    """The same where every call has heads enough to fill a GPU."""
    with mock.patch.object(call, "BUSY", 0):
        return failures(text, case)


def failures_in_runs(text: str, case: Case, chunk: int) -> list[Comparison]:
    """The same where a program takes few readers of a block, so that short calls have blocks of several runs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MASKDSL_CACHE": folder}),
        mock.patch.object(runs, "LEAST", 2),
    ):
        return failures(text, case, chunk)


def in_parallel_segments(failures: Callable[..., Any], chunks: int, *args: Any) -> Any:
    """What another of these functions finds where scans go through segments of so few chunks at once."""
    with mock.patch.multiple(call, SHORTEST=chunks, FEWEST=2):
        return failures(*args)


def case_of(
    text: str,
    T: int,
    *,
    B: int = 1,
    H: int = 2,
    K: int = 5,
    V: int = 3,
    key_heads: int | tuple[int, ...] = (),
    regime: Regime = "mild",
) -> Case:
    """A call with as many levels as it needs; `key_heads` are those of the key inputs, in declared order."""
    spec = maskdsl.compile(text).spec
    keys = [each.name for each in spec.inputs if each.kind is Kind.KEY]
    counts = (key_heads,) * len(keys) if isinstance(key_heads, int) else key_heads
    shape = Shape(B, T, H, K, V, max(1, needed_levels(spec, T)), tuple(zip(keys, counts, strict=False)))
    return Case(shape, regime, 0)


def supported(text: str, hands: bool = False) -> bool:
    """Whether there are kernels for a spec, or for calls that it `hands` states on."""
    spec = maskdsl.compile(text).spec
    laid = hands and not all(map(anywhere, memories(spec)))
    hand = Hand(hands, hands, laid)
    configuration = Configuration((), 4, 4, padded(4), "fp32", None, "interpreter", packed=laid, hand=hand)
    try:
        text_of(spec, configuration)
    except Unsupported:
        return False
    return True


def packed_failures(
    text: str, lengths: Sequence[int], capacity: int, chunk: int | None, regime: Regime = "mild", shared: int = 1
) -> dict[str, float]:
    """The errors of a packed call of kernels that are more than rounding; heads of keys serve `shared` ones each.

    Compared with PyTorch in float64, which other tests hold against the oracles, and with what float32 loses there.
    """
    spec = maskdsl.compile(text, "torch").spec
    keys = tuple((each.name, 1) for each in spec.inputs if each.kind is Kind.KEY) if shared > 1 else ()
    tokens = corpus(spec, lengths, H=max(2, shared), K=5, V=6, key_heads=keys, regime=regime)
    inputs, bounds = packed(tokens, [(0, length) for length in lengths], capacity)
    single = {name: x.float() for name, x in inputs.items()}
    exact = packed_outcome(text, "torch", chunk, inputs, bounds)
    errors = packed_outcome(text, "triton", chunk, single, bounds.to(torch.int32)).errors(exact)
    noise = packed_outcome(text, "torch", chunk, single, bounds).errors(exact)
    return {name: error for name, error in errors.items() if not error <= max(1e-5, NOISE * noise[name])}


def packed_outcome(
    text: str, backend: Backend, chunk: int | None, inputs: Mapping[str, Tensor], bounds: Tensor
) -> Outcome:
    """The output and gradients of a packed call; those of tokens of no sequence are zero."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    o = maskdsl.compile(text, backend, chunk=chunk)(**leaves, cu_seqlens=bounds)
    assert o[:, bounds[-1] :].count_nonzero() == 0
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype)
    # gradients of tokens of no sequence are nobody's business
    cotangent[:, bounds[-1] :] = torch.nan
    found = torch.autograd.grad(o, list(leaves.values()), cotangent)
    return Outcome({"o": o.detach(), **{f"d_{name}": g for name, g in zip(leaves, found, strict=True)}})


def handed_failures(
    text: str,
    lengths: Sequence[int],
    ends: Sequence[Sequence[int]],
    chunk: int | None,
    regime: Regime = "mild",
    shared: int = 1,
    widths: tuple[int, int] = (5, 6),
) -> dict[str, float]:
    """The errors of packed calls of kernels that are more than rounding, each going on from the last one's state.

    `ends` are the positions that sequences have come to after each call. The loss is on all outputs and on the last
    state, so that gradients of inputs go through every state between.
    """
    spec = maskdsl.compile(text, "torch").spec
    keys = tuple((each.name, 1) for each in spec.inputs if each.kind is Kind.KEY) if shared > 1 else ()
    key, value = widths
    tokens = corpus(spec, lengths, H=max(2, shared), K=key, V=value, key_heads=keys, regime=regime)
    single = tokens.with_tensors({name: x.float() for name, x in tokens.tensors.items()})
    exact = handed_outcome(text, "torch", chunk, tokens, ends)
    errors = handed_outcome(text, "triton", chunk, single, ends).errors(exact)
    noise = handed_outcome(text, "torch", chunk, single, ends).errors(exact)
    return {name: error for name, error in errors.items() if not error <= max(1e-5, NOISE * noise[name])}


def handed_outcome(
    text: str, backend: Backend, chunk: int | None, tokens: Corpus, ends: Sequence[Sequence[int]]
) -> Outcome:
    """The outputs and the last state of such calls, and the gradients of the inputs."""
    attention = maskdsl.compile(text, backend, chunk=chunk)
    leaves = {name: x.detach().requires_grad_() for name, x in tokens.tensors.items()}
    outputs, state = in_segments(attention, tokens.with_tensors(leaves), ends, capacity=2)
    assert isinstance(attention._latest, Configuration) == (backend == "triton")
    kept = {name: x for memory, kept in fold(state, state.dtype).items() for name, x in kept.items()}
    found = {"o": torch.cat(outputs), **kept}
    generator = torch.Generator().manual_seed(0)
    losses = [
        (x * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)).sum() for x in found.values()
    ]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), list(leaves.values()))
    return Outcome(
        {name: x.detach() for name, x in found.items()}
        | {f"d_{name}": g for name, g in zip(leaves, gradients, strict=True)}
    )


def begun_failures(text: str, chunk: int | None, lengths: tuple[int, int]) -> dict[str, float]:
    """The same of a call of two batch rows that begins with states, which one by PyTorch has left, and leaves none."""
    spec = maskdsl.compile(text, "torch").spec
    tokens = corpus(spec, [sum(lengths)], K=5, V=6)

    def outcome_in(backend: Backend, dtype: torch.dtype) -> Outcome:
        leaves = {name: x.to(dtype).detach().requires_grad_() for name, x in tokens.tensors.items()}
        rows = {n: torch.cat([x, x.flip(1)]) if tokens.by_token(n) else x for n, x in leaves.items()}
        parts = [
            {n: x[:, part] if tokens.by_token(n) else x for n, x in rows.items()}
            for part in (slice(lengths[0]), slice(lengths[0], None))
        ]
        _, state = maskdsl.compile(text, "torch", chunk=chunk)(**parts[0], output_final_state=True)
        attention = maskdsl.compile(text, backend, chunk=chunk)
        o = attention(**parts[1], initial_state=state)
        assert isinstance(attention._latest, Configuration) == (backend == "triton")
        weights = torch.arange(o.numel()).view(o.shape).cos()
        gradients = torch.autograd.grad((o * weights).sum(), list(leaves.values()))
        return Outcome({"o": o.detach(), **dict(zip(leaves, gradients, strict=True))})

    errors = outcome_in("triton", torch.float32).errors(outcome_in("torch", torch.float64))
    return {name: error for name, error in errors.items() if not error <= 1e-5}


def far_failures(text: str, chunk: int, position: int, length: int, levels: int) -> dict[str, float]:
    """The same of one call from a random state at a position, with some number of levels."""
    spec = maskdsl.compile(text, "torch").spec
    tokens = corpus(spec, [length], K=5, V=6).tensors
    generator = torch.Generator().manual_seed(0)
    tokens["lam"] = torch.rand(1, length, 2, levels, generator=generator, dtype=torch.float64)
    (memory,) = memories(spec)
    assert memory.term.hierarchy is not None
    hierarchy = memory.term.hierarchy
    sizes = {"B": 1, "H": 2, "K": 5, "V": 6, "L": levels}
    extents = {each.name: [extent(a, sizes) for a in each.axes] for each in memory.buffers if each.name != LOGS}
    rows = {n: torch.randn(shape, generator=generator, dtype=torch.float64) for n, shape in extents.items()}
    above = [position // hierarchy.base**level for level in range(levels - 1)]
    held = torch.tensor([x > 0 if hierarchy.admissibility == "strong" else x % hierarchy.base > 0 for x in above])

    def outcome_in(backend: Backend, dtype: torch.dtype) -> Outcome:
        attention = maskdsl.compile(text, backend, chunk=chunk)
        counted = {"levels": levels} if STATES in rows else {}
        state = attention.init_state(1, heads=2, key=5, value=6, dtype=torch.float64, **counted)
        leaves = {name: x.to(dtype).detach().requires_grad_() for name, x in {**tokens, **rows}.items()}
        begin = {n: torch.where(held[:, None, None], leaves[n], 0) if n == STATES else leaves[n] for n in rows}
        kept = {memory.name: {**state.memories[memory.name], **begin}}
        begun = State(spec, kept, torch.tensor([position]), position)
        inputs = {name: leaves[name] for name in tokens}
        o, after = attention(**inputs, initial_state=begun, output_final_state=True)
        assert isinstance(attention._latest, Configuration) == (backend == "triton")
        last = {f"last {n}": x for n, x in fold(after, dtype)[memory.name].items()}
        loss = torch.stack([x.square().sum() for x in (o, *last.values())]).sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        found = {"o": o, **last, **dict(zip(leaves, gradients, strict=True))}
        return Outcome({name: x.detach() for name, x in found.items()})

    errors = outcome_in("triton", torch.float32).errors(outcome_in("torch", torch.float64))
    return {name: error for name, error in errors.items() if not error <= 1e-5}
