"""The triangular inverse of rank-one steps where it is hardest: keys that point the same way, or are long."""

from __future__ import annotations

import pytest
import torch
from agreement import assert_as_good_as_the_recurrence, assert_right, compiled, inputs_of
from torch import Tensor
from torch.nn.functional import normalize

PLAIN = ("q, k : key", "v : value", "beta : token", "return attend(q, k, v, delta(k, beta))")
LAYERED = (
    "q, k : key",
    "v : value",
    "beta : token",
    "lam : level >= 0",
    "return attend(q, k, v, delta(k, beta) * fenwick(lam))",
)


def correlated(shape: torch.Size, cosine: float) -> Tensor:
    """Unit vectors whose cosines with each other are about this."""
    generator = torch.Generator().manual_seed(5)
    common = normalize(torch.randn(1, 1, *shape[2:], generator=generator, dtype=torch.float64), dim=-1)
    own = torch.randn(shape, generator=generator, dtype=torch.float64)
    own = normalize(own - (own * common).sum(-1, keepdim=True) * common, dim=-1)
    return cosine**0.5 * common + (1 - cosine) ** 0.5 * own


@pytest.mark.parametrize("beta", [0.0, 0.98, 1.0, 2.0])
@pytest.mark.parametrize("cosine", [0.0, 0.99, 0.999])
@pytest.mark.parametrize("lines", [PLAIN, LAYERED], ids=["plain", "hierarchy"])
def test_correlated_keys(lines: tuple[str, ...], cosine: float, beta: float) -> None:
    """The inverse of I + tril(K K') blows up or loses its digits (fla#537, cudnn-frontend#1051)."""
    attention = compiled(*lines)
    inputs = inputs_of(attention, 100, H=1, K=16)
    inputs |= {"k": correlated(inputs["k"].shape, cosine), "beta": torch.full_like(inputs["beta"], beta)}
    assert_right(attention, inputs)
    # Reflections of nearly the same key undo each other: the terms of a chunk's product are as large and cancel.
    floor = 5e-5 if beta == 2 and cosine >= 0.99 else 1e-5
    assert_as_good_as_the_recurrence(attention, {name: x.float() for name, x in inputs.items()}, floor)


@pytest.mark.parametrize("length", [0.2, 1.4, 3.0])
def test_keys_that_are_not_normalised(length: float) -> None:
    """Steps stay contractions where beta |k|^2 <= 2, whatever the keys' own lengths (fla#537)."""
    attention = compiled(*PLAIN)
    inputs = inputs_of(attention, 100, H=1, K=16)
    spread = torch.linspace(0.5, 1, 100, dtype=torch.float64)[:, None, None]
    inputs |= {"k": correlated(inputs["k"].shape, 0.5) * spread * length}
    inputs |= {"beta": torch.full_like(inputs["beta"], 2 / length**2)}
    assert_right(attention, inputs)
    assert_as_good_as_the_recurrence(attention, {name: x.float() for name, x in inputs.items()})


def test_a_step_of_strength_zero_is_none() -> None:
    """beta = 0 leaves the state as it is."""
    attention, causal = compiled(*PLAIN), compiled("q, k : key", "v : value", "return attend(q, k, v, causal)")
    inputs = inputs_of(attention, 100)
    inputs["beta"] = torch.zeros_like(inputs["beta"])
    rest = {name: inputs[name] for name in "qkv"}
    torch.testing.assert_close(attention(**inputs), causal(**rest), rtol=1e-12, atol=1e-13)


def test_the_same_key_again_replaces_its_value() -> None:
    """beta = 1 with one key repeated: what is read is the last value alone."""
    attention = compiled(*PLAIN)
    inputs = inputs_of(attention, 100)
    key = normalize(torch.ones_like(inputs["k"]), dim=-1)
    inputs |= {"q": key, "k": key, "beta": torch.ones_like(inputs["beta"])}
    torch.testing.assert_close(attention(**inputs), inputs["v"], rtol=0, atol=1e-12)
