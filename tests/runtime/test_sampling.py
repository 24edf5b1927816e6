"""Random inputs keep what a spec declares, and gates reach every regime."""

from __future__ import annotations

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from strategies import spec_texts

from maskdsl.diagnostics import Source
from maskdsl.language.load import specs
from maskdsl.mask.nodes import Kind
from maskdsl.runtime.arguments import bind, needed_levels
from maskdsl.runtime.regimes import TYPICAL, Regime
from maskdsl.runtime.sampling import Shape, parts, random_inputs, regimes, shapes
from maskdsl.spec import Spec

GATES = {
    "declared": ("x : token <= 0", "x"),
    "mamba": ("x : token\n    A, d : head", "-exp(A) * softplus(x + d)"),
    "logsigmoid": ("x : token", "logsigmoid(x) / 16"),
    "bounded": ("x : token in [0, 1]", "log(x)"),
    "channel": ("x : channel\n    A : head_channel", "-exp(A) * softplus(x)"),
}


def gated(name: str) -> Spec:
    declarations, gate = GATES[name]
    text = f"attention test:\n    q : key\n    v : value\n    {declarations}\n    g = {gate}\n"
    return specs(Source("<test>", text + "    return attend(q, q, v, semiseparable(g))\n"))[0]


def decays(name: str, regime: Regime) -> torch.Tensor:
    given = random_inputs(gated(name), Shape(B=2, T=50, H=3, K=5, V=1), regime=regime, dtype=torch.float64)
    softplus, x = torch.nn.functional.softplus, given["x"]
    match name:
        case "declared":
            return -x
        case "mamba":
            return given["A"].exp() * softplus(x + given["d"])
        case "logsigmoid":
            return softplus(-x) / 16
        case "bounded":
            return -x.log()
    return given["A"].exp() * softplus(x)


@pytest.mark.parametrize("regime", ["tiny", "mild", "strong5", "strong20", "strong88"])
@pytest.mark.parametrize("name", GATES)
def test_gates_reach_the_regime(name: str, regime: Regime) -> None:
    found, typical = decays(name, regime), -TYPICAL[regime]
    assert found.min() > 0
    assert typical / 10 < found.median() < typical * 10
    assert found.unique().numel() > 1


@pytest.mark.parametrize("name", GATES)
def test_without_decay_nothing_is_forgotten(name: str) -> None:
    assert decays(name, "zero").abs().max() < 1e-20


@pytest.mark.parametrize("name", GATES)
def test_a_mixture_holds_zeros_mild_and_strong_decays(name: str) -> None:
    found = decays(name, "mixed")
    assert all(((low <= found) & (found < high)).any() for low, high in [(0, 1e-20), (1e-3, 2), (2, 200)])


@settings(deadline=None, max_examples=40)
@given(st.data(), spec_texts(), regimes())
def test_random_inputs_fit_their_spec_and_shape(data: st.DataObject, text: str, regime: Regime) -> None:
    spec = specs(Source("<test>", text))[0]
    shape = data.draw(shapes(spec))
    given = random_inputs(spec, shape, dtype=torch.float64, regime=regime)
    sizes = bind(spec, (), given, check_inputs=True).sizes
    declared = {axis for each in spec.inputs for axis in each.kind.value}
    assert (sizes.B, sizes.T, sizes.H, sizes.K, sizes.V) == (shape.B, shape.T, shape.H, shape.K, shape.V)
    assert (shape.L if "L" in declared else None) == sizes.L
    assert dict(sizes.key_heads) == dict(shape.key_heads)


@settings(deadline=None)
@given(st.data())
def test_shapes_have_different_sizes_and_enough_levels(data: st.DataObject) -> None:
    text = "attention test:\n    q : key\n    v : value\n    lam : level\n    return attend(q, q, v, fenwick(lam))\n"
    spec = specs(Source("<test>", text))[0]
    shape = data.draw(shapes(spec, longest=100))
    assert shape.T <= 100
    assert needed_levels(spec, shape.T) <= shape.L
    assert len({shape.H, shape.K, shape.V, shape.L}) == 4


@given(st.data(), st.integers(1, 192))
def test_cuts_rise_from_0_to_the_end(data: st.DataObject, length: int) -> None:
    drawn = data.draw(parts(length))
    assert [0, *drawn.cuts, length] == sorted([0, *drawn.cuts, length])
    assert drawn.steps >= 1
    assert drawn.capacity >= 0


@pytest.mark.parametrize("cuts", [(0,), (64,), (63,), (65,), (128,), (100,), (64, 64)])
def test_cuts_come_to_every_place(cuts: tuple[int, ...]) -> None:
    drawn = find(parts(128), lambda drawn: drawn.cuts == cuts, settings=settings(max_examples=10_000))
    assert drawn.cuts == cuts


def test_a_seed_gives_the_same_values_in_every_dtype() -> None:
    spec, shape = gated("mamba"), Shape(B=1, T=4, H=2, K=3, V=2, key_heads=(("q", 1),))
    wide, narrow, other = (
        random_inputs(spec, shape, seed=seed, dtype=dtype)
        for seed, dtype in [(3, torch.float64), (3, torch.bfloat16), (4, torch.float64)]
    )
    assert list(wide) == ["q", "v", "x", "A", "d"]
    assert all(torch.equal(wide[name].bfloat16(), narrow[name]) for name in wide)
    assert not any(torch.equal(wide[name], other[name]) for name in wide)


def test_keys_have_length_one_on_average() -> None:
    spec = gated("declared")
    key = next(each.name for each in spec.inputs if each.kind is Kind.KEY)
    given = random_inputs(spec, Shape(B=8, T=64, H=4, K=64, V=1))
    assert given[key].square().sum(-1).mean().item() == pytest.approx(1, rel=0.02)
