"""Kernels that begin with states and leave states behind, in Triton's interpreter: PyTorch's numbers and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from compilation import library_spec
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from kernel_calls import begun_failures, far_failures, handed_failures, in_parallel_segments, supported
from strategies import spec_texts
from tile_kernels import triton_process
from variants import BESIDE, QKV, STRONG, TOKEN, VARIANTS, WEIGHTS, WINDOWS, block, chunk_of

from maskdsl.language.printer import to_text
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import regimes

Run = Callable[..., Any]
Failures = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a function of `kernel_calls` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True, overflow=False) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=240)


@pytest.fixture(scope="module")
def failures(run: Run) -> Failures:
    """`handed_failures` in that process."""
    return lambda *args: run(handed_failures, *args)


@pytest.fixture(scope="module")
def run_far() -> Iterator[Run]:
    """The same in a process where numbers may be too large."""
    with triton_process(interpret=True) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=240)


LENGTHS = [21, 0, 40, 16]
ENDS = [[0, 0, 0, 3], [13, 0, 8, 16], [21, 0, 40, 16]]
"""Calls of no token, of whole chunks and parts of them, and of one sequence that goes on while another does not."""

MASKS = VARIANTS | WINDOWS | STRONG | BESIDE
NAMES = [*(name for name in VARIANTS if name != "operator, window"), *STRONG]


@pytest.mark.parametrize("name", [*NAMES, *WINDOWS, *BESIDE])
def test_every_kind_of_mask(failures: Failures, name: str) -> None:
    assert failures(block(*MASKS[name]), LENGTHS, ENDS, chunk_of(name)) == {}


def test_scans_in_segments(run: Run) -> None:
    text = block(*MASKS["diagonal and operator"])
    assert not run(in_parallel_segments, handed_failures, 2, text, [21, 0, 40], [[13, 0, 8], [21, 0, 40]], 8)


@pytest.mark.parametrize("name", ["number, weak hierarchy", "number, strong hierarchy"])
@pytest.mark.parametrize("ends", [[[13], [14], [28], [36]], [[63], [65], [70]]])
def test_levels_meet_where_they_would(failures: Failures, ends: list[list[int]], name: str) -> None:
    """From edges of chunks and from inside them, over ends of blocks of every level, a token at a time and many."""
    assert failures(block(*MASKS[name]), ends[-1], ends, 4) == {}


@pytest.mark.parametrize(
    "name",
    [
        *("number, weak hierarchy", "operator, weak hierarchy"),
        *("number, window, weak hierarchy", "diagonal, window of a chunk and a token"),
    ],
)
def test_columns_of_several_programs(failures: Failures, name: str) -> None:
    assert failures(block(*MASKS[name]), [21], [[13], [21]], chunk_of(name), "mild", 1, (128, 130)) == {}


@pytest.mark.parametrize(
    ("name", "position", "levels"),
    [
        ("number, weak hierarchy", 2**33 - 3, 35),
        ("number, weak hierarchy, base 3", 3**18 + 5, 45),
        ("operator, weak hierarchy", 2**20 + 77, 24),
        ("number, strong hierarchy", 2**33 - 3, 35),
        ("diagonal, strong hierarchy", 2**20 + 5, 24),
        ("number, window, strong hierarchy", 2**33 - 3, 35),
        ("diagonal, window, weak hierarchy, base 3", 3**18 + 5, 45),
    ],
)
def test_far_on_and_with_more_levels_than_needed(run_far: Run, name: str, position: int, levels: int) -> None:
    assert run_far(far_failures, block(*MASKS[name]), chunk_of(name), position, 20, levels) == {}


SHARING = "return attend(q, k, v, {0}) + attend(p, k, v, {0})"


@pytest.mark.parametrize("mask", ["semiseparable(g)", "semiseparable(g) * fenwick(lam)", "fenwick(lam) * window(20)"])
def test_outputs_that_share_a_memory(failures: Failures, mask: str) -> None:
    """It goes out under the names of both, and comes in as two."""
    declared = [line for line, name in ((TOKEN, "g"), (WEIGHTS, "lam")) if f"({name})" in mask]
    text = block(*QKV, "p : key", *declared, SHARING.format(mask))
    assert failures(text, LENGTHS, ENDS, 8) == {}


@pytest.mark.parametrize("lengths", [(13, 21), (30, 5), (3, 1)])
@pytest.mark.parametrize(
    "name",
    ["number", "diagonal, weak hierarchy", "diagonal, window", "sum of windows", "operator beside a window"],
)
def test_states_come_in_and_none_goes_out(run: Run, name: str, lengths: tuple[int, int]) -> None:
    assert run(begun_failures, block(*MASKS[name]), chunk_of(name), lengths) == {}


@pytest.mark.parametrize(
    "name", ["mamba2", "gla", "gated_deltanet", "kda", "rwkv7", "log_linear_mamba2", "windowed_decay"]
)
def test_definitions_with_shared_keys(failures: Failures, name: str) -> None:
    """Gates of parameters too, whose gradients are sums over all tokens and over nothing else."""
    text = to_text(library_spec(name).syntax)
    assert failures(text, [70, 3], [[61, 0], [70, 3]], None, "mild", 4) == {}


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much),
)
@given(text=spec_texts(), cut=st.lists(st.integers(0, 30), min_size=2, max_size=2), regime=regimes())
def test_random_specs(failures: Failures, text: str, cut: list[int], regime: Regime) -> None:
    assume(supported(text, hands=True))
    assert failures(text, [30, 30], [cut, [30, 30]], None, regime) == {}
