"""Compiled specs against the recurrent oracle: any composition of the language, any shape, any gate regime."""

from __future__ import annotations

import pytest
import torch
from agreement import Outcome, exact, in_dtype, outcome
from hypothesis import given, note, settings
from hypothesis import strategies as st
from strategies import spec_texts

import maskdsl
from maskdsl import library
from maskdsl.runtime.compiled import Attention
from maskdsl.runtime.regimes import REGIMES, Regime
from maskdsl.runtime.sampling import Shape, random_inputs, regimes, shapes


def assert_agrees(attention: Attention, shape: Shape, regime: Regime) -> None:
    """Float64 within 1e-9; float32 within 1e-5 or 3 times what the float32 recurrence loses."""
    single = random_inputs(attention.spec, shape, dtype=torch.float32, regime=regime)
    double = {name: x.double() for name, x in single.items()}
    truth = exact(attention, double)
    note(f"shape {shape}, regime {regime}")
    check("float64", outcome(attention, double), truth, dict.fromkeys(truth.tensors, 1e-9))
    rough = in_dtype(attention, single, torch.float32).errors(truth)
    check("float32", outcome(attention, single), truth, {name: max(1e-5, 3 * e) for name, e in rough.items()})


def check(what: str, found: Outcome, truth: Outcome, allowed: dict[str, float]) -> None:
    errors = found.errors(truth)
    wrong = {name: (error, allowed[name]) for name, error in errors.items() if not error <= allowed[name]}
    assert not wrong, f"{what}: (error, allowed) of {wrong}"


@settings(max_examples=25)
@given(st.data(), spec_texts(), regimes())
def test_random_specs(data: st.DataObject, text: str, regime: Regime) -> None:
    attention = maskdsl.compile(text)
    assert_agrees(attention, data.draw(shapes(attention.spec)), regime)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", library.names())
def test_the_library(name: str, regime: Regime) -> None:
    attention = maskdsl.compile(name)
    assert_agrees(attention, Shape(B=2, T=70, H=2, K=5, V=3, L=8), regime)
