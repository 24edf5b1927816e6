"""Random inputs of a spec that keep what it declares, and hypothesis strategies for their shapes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import needed_levels
from maskdsl.runtime.regimes import (
    MIXTURE,
    REGIMES,
    Regime,
    declares_decay,
    into,
    log_decays,
    mixture,
    steered,
    steering,
)
from maskdsl.spec import Input, Spec

EDGES = (1, 2, 3, 63, 64, 65, 127, 128, 129, 191, 192)


@dataclass(frozen=True)
class Shape:
    """The dimensions of one call; `key_heads` holds the head count of key inputs that have fewer than H."""

    B: int
    T: int
    H: int
    K: int
    V: int
    L: int = 1
    key_heads: tuple[tuple[str, int], ...] = ()

    def of(self, each: Input) -> tuple[int, ...]:
        """The shape of one input."""
        sizes = {"B": self.B, "T": self.T, "H": self.H, "K": self.K, "V": self.V, "L": self.L}
        sizes["Hk"] = dict(self.key_heads).get(each.name, self.H)
        return tuple(sizes[axis] for axis in each.kind.value)


@dataclass(frozen=True)
class Parts:
    """How a call is cut: each sequence before tokens `cuts`, rising or staying, 0 to T.

    As a packed call has them, its pieces have `capacity` more tokens behind them, and the last tokens of each, at most
    `steps`, can come one by one.
    """

    cuts: tuple[int, ...] = ()
    steps: int = 1
    capacity: int = 0


def random_inputs(
    spec: Spec,
    shape: Shape,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    regime: Regime = "mild",
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """One tensor for every input, in declared order; the same seed gives the same values in every dtype.

    Keys are N(0, 1) / sqrt(K), so that rank-one steps stay near the identity's size; everything else without a range is
    N(0, 1), `>= low` is low + |N(0, 1)|, `in [low, high]` uniform, and `<= 0` a log decay of the `regime`. Inputs that
    gates are computed from follow the regime too, as `maskdsl.runtime.regimes` says.
    """
    generator = torch.Generator().manual_seed(seed)
    gates = steered(spec)
    tensors = {}
    for each in spec.inputs:
        size = shape.of(each)
        if each.name in gates:
            parts = MIXTURE if regime == "mixed" else (regime,)
            noise = torch.randn(size, generator=generator, dtype=torch.float64) / 4
            values = [into(each.range, steering(spec, each.name, gates[each.name], part) + noise) for part in parts]
            tensor = mixture(values, generator)
        else:
            tensor = _values(each, size, regime, generator)
        tensors[each.name] = tensor.to(device=device, dtype=dtype)
    return tensors


def _values(each: Input, size: tuple[int, ...], regime: Regime, generator: torch.Generator) -> Tensor:
    low, high = each.range.low, each.range.high
    if high is not None and declares_decay(each):
        decays = high + log_decays(regime, size, generator)
        return decays if low is None else decays.clamp(min=low)
    if low is not None and high is not None:
        return low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)
    normal = torch.randn(size, generator=generator, dtype=torch.float64)
    if each.kind is Kind.KEY:
        normal = normal / size[-1] ** 0.5
    if low is not None:
        return low + normal.abs()
    return normal if high is None else high - normal.abs()


def regimes() -> st.SearchStrategy[Regime]:
    """Any regime."""
    return st.sampled_from(REGIMES)


@st.composite
def shapes(draw: st.DrawFn, spec: Spec, longest: int = 192) -> Shape:
    """Shapes that `spec` accepts: short sequences, ends of chunks of 64 and anything up to `longest` tokens.

    Sizes are small and odd, and H, K, V and L all differ; the heads of every key input divide H.
    """
    length = draw(st.one_of(st.integers(1, min(9, longest)), st.sampled_from(EDGES), st.integers(1, longest)))
    length = min(length, longest)
    heads = draw(st.sampled_from((1, 2, 3, 4, 6)))
    features = draw(st.sampled_from([size for size in (1, 3, 5, 7, 8) if size != heads]))
    values = draw(st.sampled_from([size for size in (1, 2, 3, 5, 7) if size not in (heads, features)]))
    least = max(1, needed_levels(spec, length))
    levels = draw(st.sampled_from([size for size in range(least, least + 5) if size not in (heads, features, values)]))
    divisors = st.sampled_from([size for size in range(1, heads + 1) if heads % size == 0])
    key_heads = tuple((each.name, draw(divisors)) for each in spec.inputs if each.kind is Kind.KEY)
    return Shape(draw(st.integers(1, 2)), length, heads, features, values, levels, key_heads)


@st.composite
def parts(draw: st.DrawFn, length: int) -> Parts:
    """Up to three cuts of `length` tokens, at ends of chunks of 64 and anywhere, so that pieces can be empty."""
    edges = [edge for edge in (0, *EDGES, length) if edge <= length]
    cuts = draw(st.lists(st.one_of(st.sampled_from(edges), st.integers(0, length)), max_size=3))
    return Parts(tuple(sorted(cuts)), draw(st.integers(1, 12)), draw(st.integers(0, 70)))
