"""Calls without gradients: kernels that keep less give what those for training give, and what the oracle says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from compilation import library_spec
from kernel_calls import case_of, passes, without_gradients
from tile_kernels import triton_process
from torch import Tensor

import maskdsl
from maskdsl.language.printer import to_text
from maskdsl.runtime.sampling import random_inputs
from maskdsl.runtime.verification import Case

Run = Callable[..., Any]

SUM = """attention test:
    q, k, p : key
    v, w : value
    g : token <= 0
    return attend(q, k, v, semiseparable(g)) + attend(p, k, w, causal)
"""

STACKED = """attention test:
    q, k : key
    v : value
    g : token <= 0
    y = attend(q, k, v, semiseparable(g))
    return attend(q, k, y, causal)
"""

NORMALISED = """attention test:
    q, k : key
    v : value
    g : head <= 0
    return l2norm(attend(l2norm(q), l2norm(k), v, semiseparable(g)))
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a function of `kernel_calls` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True, overflow=False) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=240)


def text_of(name: str) -> str:
    return to_text(library_spec(name).syntax)


def assert_right(run: Run, text: str, case: Case, full: bool, dtype: torch.dtype = torch.float32) -> None:
    attention = maskdsl.compile(text, "torch")
    inputs = random_inputs(attention.spec, case.shape, seed=1, dtype=dtype, regime=case.regime)
    found: dict[str, Tensor] = run(without_gradients, text, inputs, full)
    exact = attention(**{name: x.double() for name, x in inputs.items()})
    assert all(torch.equal(o, found["training"]) for o in found.values())
    assert (found["training"] - exact).norm() <= (1e-5 if dtype == torch.float32 else 2e-3) * exact.norm()


@pytest.mark.parametrize("full", [False, True], ids=["few heads", "many heads"])
@pytest.mark.parametrize("name", ["linear_attention", "mamba2", "retention", "simple_gla", "two_timescale"])
def test_definitions(run: Run, name: str, full: bool) -> None:
    assert_right(run, text_of(name), case_of(text_of(name), 200, B=2, K=20, V=18, key_heads=1), full)


@pytest.mark.parametrize("T", [1, 63, 64, 65, 127, 128, 129, 192, 193])
def test_lengths(run: Run, T: int) -> None:
    """From one chunk to four, whole and ragged."""
    assert_right(run, text_of("simple_gla"), case_of(text_of("simple_gla"), T), T % 2 == 0)


@pytest.mark.parametrize("full", [False, True], ids=["few heads", "many heads"])
@pytest.mark.parametrize("text", [SUM, STACKED, NORMALISED], ids=["sum", "stacked", "normalised"])
def test_specs(run: Run, text: str, full: bool) -> None:
    assert_right(run, text, case_of(text, 200), full)


def test_several_tiles_of_values(run: Run) -> None:
    assert_right(run, text_of("mamba2"), case_of(text_of("mamba2"), 130, K=130, V=260, key_heads=1), True)


def test_half_precision(run: Run) -> None:
    assert_right(run, text_of("simple_gla"), case_of(text_of("simple_gla"), 200), True, torch.float16)


@pytest.mark.parametrize("name", ["gla", "windowed_decay", "log_linear_mamba2", "gated_deltanet"])
def test_definitions_with_other_kernels(run: Run, name: str) -> None:
    assert_right(run, text_of(name), case_of(text_of(name), 131, K=20, V=18), False)


def test_checkpointing_runs_without_gradients_first(run: Run) -> None:
    text = text_of("simple_gla")
    inputs = random_inputs(library_spec("simple_gla"), case_of(text, 70).shape, seed=1, dtype=torch.float32)
    assert run(passes, text, inputs) == [(False, True), (True, True)]
