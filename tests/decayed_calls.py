"""Calls of the hand-made module `decayed_sum`, for a process in which Triton is the interpreter, or for a GPU."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import decayed_sum
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from maskdsl.runtime.triton.function import apply
from maskdsl.runtime.triton.program import Program


class Outcome(NamedTuple):
    """An output and the gradients."""

    o: Tensor
    d_g: Tensor
    d_v: Tensor


def attention(g: Tensor, v: Tensor, program: Program | None = None) -> Tensor:
    """The output of the module."""
    B, T, H, V = v.shape
    (o,) = apply(program or Program(decayed_sum), (B, T, H, 0, V, 0), {"g": g, "v": v}, v.dtype, {})
    return o


def expected(g: Tensor, v: Tensor, weights: Tensor) -> Outcome:
    """The meaning, in float64."""
    g, v = (x.detach().double().requires_grad_() for x in (g, v))
    t = torch.arange(v.shape[1])
    distance = (t[:, None] - t[None, :]).to(v)
    decays = (g[:, None, None] * distance.clamp(min=0)).exp() * (distance >= 0)
    o = torch.einsum("hts,bshv->bthv", decays, v)
    return Outcome(o.detach(), *torch.autograd.grad(o, (g, v), weights.double()))


def outcome(g: Tensor, v: Tensor, weights: Tensor, recomputed: bool = False, autocast: bool = False) -> Outcome:
    """What the module computes; `recomputed` in the backward pass, or under `autocast`."""
    leaves = g.requires_grad_(), v.requires_grad_()
    with torch.autocast(v.device.type, torch.bfloat16) if autocast else contextlib.nullcontext():
        o = checkpoint(attention, *leaves, use_reentrant=False) if recomputed else attention(*leaves)
        gradients = torch.autograd.grad(o, leaves, weights)
    return Outcome(o.detach(), *(x.detach() for x in gradients))


def summed(g: Tensor, v: Tensor) -> Outcome:
    """What the module computes where the loss is the sum of its output: a gradient without strides."""
    leaves = g.requires_grad_(), v.requires_grad_()
    o = attention(*leaves)
    return Outcome(o.detach(), *(x.detach() for x in torch.autograd.grad(o.sum(), leaves)))


def twice(g: Tensor, v: Tensor) -> None:
    """A gradient of a gradient."""
    leaves = g.requires_grad_(), v.requires_grad_()
    (first,) = torch.autograd.grad(attention(*leaves).square().sum(), leaves[:1], create_graph=True)
    first.sum().backward()


def kept(g: Tensor, v: Tensor) -> list[tuple[int, ...]]:
    """The shapes of the tensors that a call keeps for its backward pass."""
    shapes: list[tuple[int, ...]] = []

    def pack(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        attention(g, v)
    return shapes


def plans(g: Tensor, *values: Tensor) -> int:
    """How many plans calls with these values lead to."""
    program = Program(decayed_sum)
    for v in values:
        attention(g, v, program)
    return len(program._plans)
