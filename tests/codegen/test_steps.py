"""Generated steps in Triton's interpreter against the recurrence: output, and the state that they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from compilation import library_spec
from hypothesis import HealthCheck, Phase, given, settings
from step_calls import (
    Errors,
    alternating_step_errors,
    long_calls,
    pooled_step_errors,
    random_step_errors,
    refusals,
    short_call_errors,
    step_errors,
    verified,
)
from strategies import spec_texts
from tile_kernels import triton_process
from variants import VARIANTS

from maskdsl import library
from maskdsl.language.printer import to_text
from maskdsl.runtime.regimes import REGIMES, Regime

Run = Callable[..., Any]

ALLOWED = 2e-6
"""Sums of some dozen products in float32."""


def text_of(*lines: str) -> str:
    return "attention test:\n" + "".join(f"    {line}\n" for line in lines)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a function of `step_calls` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=240)


def assert_right(errors: Errors, allowed: float = ALLOWED) -> None:
    assert {name: e for name, e in errors.items() if not e <= allowed} == {}


@pytest.mark.parametrize("name", library.names())
def test_definitions(run: Run, name: str) -> None:
    assert_right(run(step_errors, to_text(library_spec(name).syntax), 9, {"K": 20, "V": 18}))


@pytest.mark.parametrize("name", VARIANTS)
def test_around_rings_and_through_levels(run: Run, name: str) -> None:
    assert_right(run(step_errors, text_of(*VARIANTS[name]), 41, {"B": 1, "H": 1}))


@settings(
    max_examples=12,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture),
)
@given(spec_texts())
def test_random_specs(run: Run, text: str) -> None:
    # products of some rank-one steps grow, and what is subtracted from each other loses digits
    assert_right(run(step_errors, text, 7, {"B": 1}), 1e-4)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", ["number, strong hierarchy", "diagonal, weak hierarchy", "diagonal, window"])
def test_gates_of_every_regime(run: Run, name: str, regime: Regime) -> None:
    assert_right(run(step_errors, text_of(*VARIANTS[name]), 19, {"B": 1, "H": 1}, regime))


HIERARCHIES = {
    name: text_of("q, k : key", "v : value", "lam : level", *declared, f"return attend(q, k, v, {mask})")
    for name, (declared, mask) in {
        "number": (("g : token <= 0",), "semiseparable(g) * fenwick(lam)"),
        "diagonal, base 3": (("g : channel <= 0",), "semiseparable(g) * fenwick(lam, base=3)"),
        "no decay, base 10": ((), "fenwick(lam, base=10)"),
        "number, strong": (("g : token <= 0",), 'semiseparable(g) * fenwick(lam, admissibility="strong")'),
        "diagonal, strong": (("g : channel <= 0",), 'semiseparable(g) * fenwick(lam, admissibility="strong")'),
        "operator": ((), "delta(l2norm(k), 0.5) * fenwick(lam)"),
        "operator, strong": ((), 'delta(l2norm(k), 0.5) * fenwick(lam, admissibility="strong")'),
        "window": ((), "window(9) * fenwick(lam)"),
        "window, strong": ((), 'window(9) * fenwick(lam, admissibility="strong")'),
        "two": ((), 'fenwick(lam, base=4) + delta(l2norm(k), 0.5) * fenwick(lam, admissibility="strong")'),
    }.items()
}


@pytest.mark.parametrize("name", HIERARCHIES)
def test_far_along(run: Run, name: str) -> None:
    """Sequences of any age, and levels that are empty are not read: they hold NaN."""
    positions = [0, 1, 2, 7, 2**14 - 1, 2**14, 3**9 - 1, 10**6 - 1, 2**33 + 5]
    assert_right(run(random_step_errors, HIERARCHIES[name], positions, {"H": 1}))


@pytest.mark.parametrize("name", ["number, weak hierarchy", "operator, window", "operator", "sum"])
def test_slots_of_a_pool(run: Run, name: str) -> None:
    assert_right(run(pooled_step_errors, text_of(*VARIANTS[name]), 9, {}))


@pytest.mark.parametrize("name", VARIANTS)
def test_kernels_and_pytorch_go_on_from_each_other(run: Run, name: str) -> None:
    assert_right(run(alternating_step_errors, text_of(*VARIANTS[name]), 12))


@pytest.mark.parametrize("name", ["number, weak hierarchy", "operator", "number, window"])
def test_half_precision_states(run: Run, name: str) -> None:
    errors = run(alternating_step_errors, text_of(*VARIANTS[name]), 12, torch.bfloat16)
    assert_right(errors, 2e-2)
    assert errors["o"] > ALLOWED


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("log_linear_mamba2", ["at once", "pieces", "packed", "steps"]),
        ("windowed_decay", ["at once", "pieces", "packed", "steps"]),
        (text_of(*VARIANTS["number, strong hierarchy"]), ["at once", "pieces", "packed", "steps"]),
    ],
    ids=["levels", "window", "strong levels"],
)
def test_every_way_that_has_kernels_is_verified(run: Run, text: str, ways: list[str]) -> None:
    assert run(verified, text) == dict.fromkeys(ways, True)


@pytest.mark.parametrize("name", VARIANTS)
def test_short_calls_are_steps(run: Run, name: str) -> None:
    assert_right(run(short_call_errors, text_of(*VARIANTS[name])))


def test_short_calls_from_half_precision(run: Run) -> None:
    assert_right(run(short_call_errors, text_of(*VARIANTS["number, weak hierarchy"]), torch.bfloat16), 2e-2)


def test_other_calls_with_states_have_no_kernels(run: Run) -> None:
    said = run(long_calls, text_of(*VARIANTS["operator, window"]))
    assert said == ["The tokens of a window are handed on over rank-one steps: there are no kernels for it."] * 2


def test_float64_has_no_kernels(run: Run) -> None:
    why = "is of float64, for which there are no Triton kernels."
    assert run(refusals, text_of(*VARIANTS["number"])) == [f"The state {why}", f"Input 'g' {why}"]


SIZES: Mapping[str, tuple[str, dict[str, int]]] = {
    "columns apart": ("operator", {"K": 128, "V": 40}),
    "columns together": ("number, weak hierarchy", {"K": 200, "V": 150}),
    "columns of a ring": ("number, window", {"K": 200, "V": 150}),
    "one channel": ("diagonal, weak hierarchy", {"K": 1, "V": 1}),
    "one column": ("operator, window", {"K": 7, "V": 1}),
    "shared keys": ("operator, weak hierarchy", {"K": 7, "V": 9, "H": 4, "key_heads": 2}),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(run: Run, name: str) -> None:
    variant, sizes = SIZES[name]
    assert_right(run(step_errors, text_of(*VARIANTS[variant]), 8, {"B": 1, "H": 1, **sizes}))


def test_all_columns_at_once(run: Run) -> None:
    """The norm of an output needs every column of V in one program, however many there are."""
    lines = "q, k : key", "v, z : value", "y = attend(q, k, v, causal)", "return l2norm(y) * silu(z)"
    assert_right(run(step_errors, text_of(*lines), 6, {"B": 1, "H": 1, "K": 128, "V": 200}), 1e-5)
