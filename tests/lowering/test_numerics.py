"""The interpreted programs of random specs against the oracles."""

from __future__ import annotations

import pytest
import torch
from compilation import (
    assert_near,
    inputs_of,
    joint,
    legal_chunks,
    library_spec,
    lowered,
    masked,
    sizes_of,
    small_shape,
    spec_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import spec_texts

from maskdsl import library
from maskdsl.chunk.interpret import interpret
from maskdsl.runtime.oracle import dense, recurrent
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, regimes, shapes
from maskdsl.spec import Spec


@settings(max_examples=30)
@given(st.data(), spec_texts(), regimes())
def test_random_specs_mean_what_the_dense_oracle_says(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = spec_of(text)
    shape, chunk = data.draw(shapes(spec, longest=20)), data.draw(legal_chunks(spec))
    inputs = inputs_of(spec, shape, regime=regime)
    made = interpret(lowered(spec, shape, chunk), inputs, sizes_of(shape))["o"]
    assert_near(made, dense(spec, inputs), 1e-10)


@settings(max_examples=12)
@given(st.data(), spec_texts(), regimes())
def test_random_gradients_are_those_of_the_recurrent_oracle(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = spec_of(text)
    shape, chunk = data.draw(shapes(spec, longest=12)), data.draw(legal_chunks(spec))
    assert_gradients(spec, shape, chunk, regime)


@pytest.mark.parametrize("name", library.names())
def test_library_definitions_with_grouped_heads(name: str) -> None:
    spec = library_spec(name)
    keys = [each.name for each in spec.inputs if each.kind.label == "key"]
    heads = dict(zip(keys, (2, 3), strict=False))
    assert_gradients(spec, small_shape(spec, **heads), 4, "mild")


@pytest.mark.parametrize(("base", "admissibility"), [(2, "weak"), (3, "weak"), (5, "weak"), (2, "strong")])
@pytest.mark.parametrize(
    ("path", "declarations"),
    [
        ("semiseparable(g)", ["g : token <= 0"]),
        ("semiseparable(c)", ["c : channel <= 0"]),
        ("(semiseparable(c) @ delta(l2norm(w), 0.5))", ["c : channel <= 0", "w : key"]),
    ],
)
@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_hierarchies(base: int, admissibility: str, path: str, declarations: list[str], exponent: int) -> None:
    mask = f'{path} * fenwick(lam, {base}, "{admissibility}")'
    spec = masked(mask, *declarations, "lam : level")
    assert_gradients(spec, small_shape(spec, length=3 * base**exponent + 1, batch=1), base**exponent, "mild")


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 9, 10, 100])
@pytest.mark.parametrize("path", ["causal", "semiseparable(g) * delta(k, b)", 'fenwick(lam, admissibility="strong")'])
def test_windows(width: int, path: str) -> None:
    kinds = {"g": "g : token <= 0", "b": "b : token in [0, 1]", "lam": "lam : level"}
    declarations = [text for name, text in kinds.items() if f"({name}" in path or f" {name})" in path]
    spec = masked(f"{path} * window({width})", *declarations)
    assert_gradients(spec, small_shape(spec, length=13, batch=1), 4, "mild")


def assert_gradients(spec: Spec, shape: Shape, chunk: int | None, regime: Regime) -> None:
    """The interpreted joint program gives the oracle's output, and the gradient of every input."""
    inputs = {name: x.requires_grad_() for name, x in inputs_of(spec, shape, regime=regime).items()}
    expected = recurrent(spec, inputs)
    cotangent = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(expected, list(inputs.values()), cotangent, allow_unused=True)
    known = {name: x.detach() for name, x in inputs.items()} | {"d_o": cotangent}
    made = interpret(joint(lowered(spec, shape, chunk)), known, sizes_of(shape))
    assert_near(made["o"], expected.detach(), 1e-10)
    largest = max(g.abs().max().item() for g in gradients if g is not None)
    for (name, x), gradient in zip(inputs.items(), gradients, strict=True):
        zero = torch.zeros_like(x)
        # a gradient whose parts cancel is exact to the rounding of its parts only
        assert_near(made[f"d_{name}"], zero if gradient is None else gradient, 1e-9, rounding=largest)
