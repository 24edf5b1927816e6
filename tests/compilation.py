"""From the text of a spec to its programs and their inputs, for tests of the compiler's stages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from hypothesis import strategies as st
from torch import Tensor

from maskdsl import library
from maskdsl.chunk import axes as ax
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Program
from maskdsl.diagnostics import Source
from maskdsl.differentiation.differentiate import differentiate
from maskdsl.language.load import specs
from maskdsl.lowering.lower import lower
from maskdsl.mask.nodes import Kind
from maskdsl.mask.normal import Term
from maskdsl.mask.normalize import normalize
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs
from maskdsl.spec import Attend, Spec

SIZES = {"B": 2, "T": 7, "H": 6, "K": 3, "V": 5, "L": 4}
"""A small call whose dimensions all differ."""


def spec_of(text: str) -> Spec:
    """The first block of a text."""
    return specs(Source("<test>", text))[0]


def attention(*lines: str) -> Spec:
    """A block named `test` with these lines."""
    return spec_of("attention test:\n" + "".join(f"    {line}\n" for line in lines))


def masked(mask: str, *declarations: str) -> Spec:
    """One attend over q, k and v with this mask."""
    return attention("q, k : key", "v : value", *declarations, f"return attend(q, k, v, {mask})")


def library_spec(name: str) -> Spec:
    """A definition of the library."""
    return spec_of(library.read(name))


def terms(spec: Spec) -> list[Term]:
    """The terms of every attend."""
    return [t for d in spec.definitions if isinstance(d.node, Attend) for t in normalize(d.node.mask).terms]


def joint(program: Program) -> Program:
    """The program with its gradients."""
    return differentiate(program)


def small_shape(spec: Spec, length: int = 11, batch: int = 2, **key_heads: int) -> Shape:
    """Six heads, all sizes different, as many levels as the spec needs and one more."""
    levels = max(1, needed_levels(spec, length)) + 1
    return Shape(B=batch, T=length, H=6, K=3, V=5, L=levels, key_heads=tuple(key_heads.items()))


def sizes_of(shape: Shape) -> dict[str, int]:
    """The dimensions of a call, as programs ask for them."""
    return {"B": shape.B, "T": shape.T, "H": shape.H, "K": shape.K, "V": shape.V, "L": shape.L}


def lowered(spec: Spec, shape: Shape, chunk: int | None = None) -> Program:
    """The forward program for the key-side heads of a shape."""
    return lower(spec, {name: shape.H // own for name, own in shape.key_heads}, chunk)


def legal_chunks(spec: Spec) -> st.SearchStrategy[int | None]:
    """Chunk sizes that every term of a spec allows; None leaves the choice to the compiler."""
    bases = {t.hierarchy.base for t in terms(spec) if t.hierarchy and t.hierarchy.lam.kind is Kind.LEVEL}
    match sorted(bases):
        case []:
            return st.sampled_from((1, 2, 3, 5, 16, 48, None))
        case [base]:
            return st.sampled_from((1, base, base**2, None))
    return st.sampled_from((1, None))


def inputs_of(spec: Spec, shape: Shape, seed: int = 0, regime: Regime = "mild") -> dict[str, Tensor]:
    """Random inputs in float64."""
    return random_inputs(spec, shape, seed=seed, dtype=torch.float64, regime=regime)


def random_value(axes: Axes, sizes: Mapping[str, int], seed: int) -> Tensor:
    """A random tensor of a type."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn([ax.extent(axis, sizes) for axis in axes], generator=generator, dtype=torch.float64)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float, rounding: float = 0.0) -> None:
    """Equal within `tolerance` of the largest number there is, and what `rounding` numbers of that size may cost."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale + 1e-13 * rounding)
