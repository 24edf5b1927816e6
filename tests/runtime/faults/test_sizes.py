"""Sizes of dimensions: all different, odd, larger than grids, and batch rows that know nothing of each other."""

from __future__ import annotations

import pytest
import torch
from agreement import assert_right, compiled, inputs_of, outcome
from variants import VARIANTS, chunk_of

from maskdsl.runtime.sampling import Shape, random_inputs

every_variant = pytest.mark.parametrize("name", VARIANTS)


@every_variant
def test_sizes_that_share_no_factor(name: str) -> None:
    """One wrong offset or stride shows where B, T, H, K, V and L are different primes (fla#781, fla#794)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    for H, K, V, L in ((5, 3, 2, 7), (2, 7, 5, 11), (3, 2, 7, 13)):
        assert_right(attention, random_inputs(attention.spec, Shape(2, 23, H, K, V, L), dtype=torch.float64))


@every_variant
def test_key_side_heads_are_shared(name: str) -> None:
    """q and k with numbers of heads of their own, each a divisor of H: shared gradients add up (fla#1033)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    for q, k in ((1, 6), (6, 1), (2, 3), (3, 3), (1, 2), (1, 1)):
        assert_right(attention, inputs_of(attention, 19, B=2, H=6, K=5, key_heads=(("q", q), ("k", k))))


@pytest.mark.parametrize("size", [1, 8, 16, 24, 48, 72, 80, 96, 100, 112, 160, 192, 256])
@pytest.mark.parametrize("name", ["number", "diagonal and operator", "operator, weak hierarchy", "diagonal, window"])
def test_head_dimensions(name: str, size: int) -> None:
    """Tiles larger than the head, heads of no power of two, more than one tile (mamba#1024, fla#556, fla#1018)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    for K, V in ((size, 3), (3, size)):
        assert_right(attention, inputs_of(attention, 17, H=1, K=K, V=V), tolerance=1e-7 if K == 1 else 1e-9)


@pytest.mark.parametrize(("B", "H"), [(65537, 1), (1, 65537), (257, 256)])
@pytest.mark.parametrize("name", ["number", "diagonal", "operator", "number, weak hierarchy"])
def test_more_sequences_than_a_grid_axis_holds(name: str, B: int, H: int) -> None:
    """B * H beyond 65,535, the limit of a grid's second axis (fla#172, flashinfer#3125)."""
    attention = compiled(*VARIANTS[name], chunk=2)
    assert_right(attention, inputs_of(attention, 3, B=B, H=H, K=2, V=1))


@every_variant
def test_batch_rows_are_independent(name: str) -> None:
    """A sequence alone gives what it gives in a batch, even beside one of NaN (fla#842, transformers#46773)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = inputs_of(attention, 29, B=3)
    for name, x in inputs.items():
        if x.ndim > 2:
            inputs[name] = x.clone()
            inputs[name][1] = torch.nan
    whole = attention(**inputs)
    for row in (0, 2):
        alone = attention(**{name: x[row : row + 1] if x.ndim > 2 else x for name, x in inputs.items()})
        torch.testing.assert_close(whole[row : row + 1], alone, rtol=1e-12, atol=1e-13)


@every_variant
def test_heads_are_independent(name: str) -> None:
    """The same for heads: nothing of one head reaches another."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = inputs_of(attention, 29, H=3)
    whole = outcome(attention, inputs)
    for head in range(3):
        axis = {name: 0 if x.ndim <= 2 else 2 for name, x in inputs.items()}
        alone = attention(**{name: x.narrow(axis[name], head, 1) for name, x in inputs.items()})
        torch.testing.assert_close(whole["o"][:, :, head : head + 1], alone, rtol=1e-12, atol=1e-13)
