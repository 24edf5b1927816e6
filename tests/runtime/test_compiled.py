"""Compiled specs against the recurrent oracle: any composition of the language, any shape, any gate regime."""

from __future__ import annotations

import pytest
import torch
from agreement import Outcome, compiled, exact, in_dtype, outcome
from hypothesis import given, note, settings
from hypothesis import strategies as st
from strategies import spec_texts

import maskdsl
from maskdsl import library
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import Shape, random_inputs, regimes, shapes

ROUNDING = 30
"""How many times the error of the float32 recurrence counts as unavoidable, where that is more than the tolerance.

Gradients can cancel (that of l2norm along its own vector): their digits are lost in every precision alike.
"""


def assert_agrees(attention: Attention, shape: Shape, regime: Regime, single_precision: float) -> None:
    """Float64 within 1e-9 and float32 within `single_precision`, but for digits that cancel."""
    single = random_inputs(attention.spec, shape, dtype=torch.float32, regime=regime)
    # exp of more would make a gate computed in float32 overflow
    single = {name: x.clamp(max=60) for name, x in single.items()}
    double = {name: x.double() for name, x in single.items()}
    truth = exact(attention, double)
    lost = {name: ROUNDING * e for name, e in in_dtype(attention, single, torch.float32).errors(truth).items()}
    ratio = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    tight = {name: max(1e-9, min(ratio * e, 1e-6)) for name, e in lost.items()}
    loose = {name: max(single_precision, e) for name, e in lost.items()}
    check("float64", outcome(attention, double), truth, tight)
    check("float32", outcome(attention, single), truth, loose)


def check(what: str, found: Outcome, truth: Outcome, allowed: dict[str, float]) -> None:
    errors = found.errors(truth)
    wrong = {name: (error, allowed[name]) for name, error in errors.items() if not error <= allowed[name]}
    assert not wrong, f"{what}: (error, allowed) of {wrong}"


@settings(max_examples=25)
@given(st.data(), spec_texts(), regimes())
def test_random_specs(data: st.DataObject, text: str, regime: Regime) -> None:
    attention = maskdsl.compile(text)
    shape = data.draw(shapes(attention.spec))
    note(f"{text}{shape}")
    # Reflections of parallel keys cancel within a chunk, and a sum of strong log decays is rounded to 4e-6.
    assert_agrees(attention, shape, regime, single_precision=3e-4)


PATHS = ("delta(k, 0.5)", "semiseparable(g) @ delta(k, 0.5)", "rank1(-k, k)", "semiseparable(d) @ delta(k, 0.5)")


@pytest.mark.parametrize("around", ["{}", "({}) * fenwick(lam)", "({}) * window(20)"])
@pytest.mark.parametrize("path", PATHS)
def test_heads_that_share_keys(path: str, around: str) -> None:
    """Systems of rank-one steps are those of key heads where no decay of a head is in them."""
    mask = around.format(path)
    declared = {"g": "g : token <= 0", "d": "d : channel <= 0", "lam": "lam : level"}
    needed = [line for name, line in declared.items() if f"({name})" in mask]
    attention = compiled("q, x : key", "v : value", *needed, "k = l2norm(x)", f"return attend(q, k, v, {mask})")
    shape = Shape(B=1, T=70, H=4, K=5, V=3, L=8, key_heads=(("q", 4), ("x", 2)))
    assert_agrees(attention, shape, "mild", single_precision=1e-5)


@pytest.mark.parametrize("regime", ["mild", "mixed"])
@pytest.mark.parametrize("name", library.names())
def test_the_library(name: str, regime: Regime) -> None:
    attention = maskdsl.compile(name)
    assert_agrees(attention, Shape(B=1, T=70, H=2, K=5, V=3, L=8), regime, single_precision=1e-5)
