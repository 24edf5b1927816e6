"""Calls of generated kernels, for a process in which Triton is the interpreter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from unittest import mock

import torch
from agreement import Outcome, outcome
from segments import corpus, packed
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import maskdsl
from maskdsl.codegen.kernels import scans
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.compiled import Backend
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape
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
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MASKDSL_CACHE": folder}),
        mock.patch.object(scans, "FULL", 0 if full else scans.FULL),
    ):
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
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MASKDSL_CACHE": folder}),
        mock.patch.object(scans, "FULL", 0),
    ):
        return failures(text, case)


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


def supported(text: str) -> bool:
    """Whether there are kernels for a spec."""
    try:
        text_of(maskdsl.compile(text).spec, Configuration((), 4, 4, padded(4), "fp32", None, "interpreter"))
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
