"""Calls of library definitions on a GPU, and how far from float64 they may be."""

from __future__ import annotations

import functools

import torch
from compilation import library_spec
from torch import Tensor

from maskdsl import library
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.runtime.triton.build import text_of
from maskdsl.schedule.configuration import Configuration
from maskdsl.schedule.unsupported import Unsupported
from maskdsl.spec import Spec

ALLOWED = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5}


@functools.cache
def supported(name: str) -> bool:
    try:
        text_of(library_spec(name), Configuration((), 16, 16, 16, "fp32"))
    except Unsupported:
        return False
    return True


NAMES = [name for name in library.names() if supported(name)]


def shape_of(spec: Spec, T: int, *, B: int = 2, H: int = 4, K: int = 64, V: int = 64, key_heads: int = 2) -> Shape:
    shared = tuple((each.name, key_heads) for each in spec.inputs if each.kind is Kind.KEY)
    return Shape(B, T, H, K, V, max(1, needed_levels(spec, T)), shared)


def inputs_of(
    spec: Spec, shape: Shape, dtype: torch.dtype, regime: Regime = "mild", seed: int = 0
) -> dict[str, Tensor]:
    """Vectors in `dtype`, gates and weights in float32, all rounded to `dtype` first."""
    narrow = random_inputs(spec, shape, dtype=dtype, regime=regime, device="cuda")
    vectors = {each.name for each in spec.inputs if each.kind in (Kind.KEY, Kind.VALUE)}
    return {name: (x if name in vectors else x.float()).requires_grad_() for name, x in narrow.items()}
