"""Ragged last chunks, memory beyond the end, and chunk sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from agreement import assert_right, compiled, inputs_of, outcome
from torch import Tensor
from variants import VARIANTS, chunk_of

every_variant = pytest.mark.parametrize("name", VARIANTS)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """`torch.empty` gives NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def before_nan(x: Tensor) -> Tensor:
    """The same numbers as the start of a buffer that goes on with NaN along every axis but the first."""
    buffer = x.new_full((x.shape[0], *(size + 3 for size in x.shape[1:])), torch.nan)
    view = buffer[tuple(slice(0, size) for size in x.shape)]
    return view.copy_(x)


@every_variant
@pytest.mark.usefixtures("poisoned_memory")
def test_every_length_up_to_three_chunks(name: str) -> None:
    """Reads beyond a ragged last chunk, rows left unwritten (fla#1142, fla#795, fla#892)."""
    assert torch.empty(3).isnan().all()
    chunk = chunk_of(name)
    attention = compiled(*VARIANTS[name], chunk=chunk)
    for length in range(1, 3 * chunk + 1):
        inputs = {name: before_nan(x) for name, x in inputs_of(attention, length, B=2).items()}
        assert_right(attention, inputs)


@every_variant
@pytest.mark.parametrize("length", [63, 64, 65, 129])
def test_ends_of_chunks_of_the_usual_size(name: str, length: int) -> None:
    """The same for the chunk size that the compiler chooses (fla#1103)."""
    attention = compiled(*VARIANTS[name])
    assert_right(attention, {name: before_nan(x) for name, x in inputs_of(attention, length).items()})


@every_variant
def test_the_output_never_sees_what_comes_after(name: str) -> None:
    """A prefix alone gives the same outputs: nothing of a later token leaks, however chunks are cut (fla#774)."""
    attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
    inputs = inputs_of(attention, 29)
    whole = attention(**inputs)
    for length in (1, 7, 8, 9, 10, 18, 28):
        prefix = {name: x[:, :length] if x.ndim > 2 else x for name, x in inputs.items()}
        torch.testing.assert_close(attention(**prefix), whole[:, :length], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 12, 31, 48, 64, 100, 256])
@pytest.mark.parametrize("name", ["number", "diagonal", "operator", "diagonal and operator", "operator, window"])
def test_every_chunk_size(name: str, chunk: int) -> None:
    """Paths for one chunk size, sizes that are no powers of two (fla#876, fla#984, mamba#449)."""
    attention = compiled(*VARIANTS[name], chunk=chunk)
    assert_right(attention, inputs_of(attention, 70))


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("number, weak hierarchy", 2),
        ("diagonal, weak hierarchy", 2),
        ("operator, weak hierarchy", 2),
        ("number, strong hierarchy", 2),
        ("number, weak hierarchy, base 3", 3),
    ],
)
def test_every_chunk_size_of_a_hierarchy(name: str, base: int) -> None:
    """The same where only powers of the base are legal; the others are refused (fla#876)."""
    for power in range(7 if base == 2 else 5):
        attention = compiled(*VARIANTS[name], chunk=base**power)
        assert_right(attention, inputs_of(attention, 70))
    with pytest.raises(ValueError, match="12 positions is no power of the hierarchy's base"):
        compiled(*VARIANTS[name], chunk=12)


@every_variant
def test_a_single_token(name: str) -> None:
    """T = 1: no earlier chunk, no earlier token (fla#1176)."""
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 1, B=3)
    assert_right(attention, inputs)
    own = (inputs["q"] * inputs["k"]).sum(-1, keepdim=True) * inputs["v"]
    weights = inputs["lam"] if "lam" in inputs else torch.ones(())
    factor = 1 + weights if name == "sum" else weights
    torch.testing.assert_close(attention(**inputs), factor * own)


def test_more_levels_than_needed_change_nothing() -> None:
    """Level weights that no pair of positions reads have no effect and no gradient."""
    for name in ("number, weak hierarchy", "number, strong hierarchy", "number, weak hierarchy, base 3", "sum"):
        attention = compiled(*VARIANTS[name], chunk=chunk_of(name))
        inputs = inputs_of(attention, 21)
        needed = inputs["lam"].shape[-1]
        longer = inputs | {"lam": torch.cat([inputs["lam"], torch.full((1, 21, 2, 3), 1e9, dtype=torch.float64)], -1)}
        plain, extended = outcome(attention, inputs), outcome(attention, longer)
        torch.testing.assert_close(extended["o"], plain["o"], rtol=1e-14, atol=0)
        torch.testing.assert_close(extended["dlam"][..., :needed], plain["dlam"], rtol=1e-14, atol=0)
        assert (extended["dlam"][..., needed:] == 0).all()
