"""Kernels of packed sequences in Triton's interpreter: output and every gradient as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from compilation import library_spec
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from kernel_calls import in_parallel_segments, packed_failures, supported
from strategies import spec_texts
from tile_kernels import triton_process
from variants import QKV, TOKEN, VARIANTS, WEIGHTS, block, chunk_of

from maskdsl.language.printer import to_text
from maskdsl.runtime.regimes import Regime
from maskdsl.runtime.sampling import regimes

Failures = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def failures() -> Iterator[Failures]:
    """`packed_failures` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True, overflow=False) as pool:
        yield lambda *args: pool.submit(packed_failures, *args).result(timeout=240)


@pytest.mark.parametrize("name", [name for name in VARIANTS if supported(block(*VARIANTS[name]))])
def test_every_kind_of_mask(failures: Failures, name: str) -> None:
    """Empty sequences first, in between and last, one token, whole chunks, and NaN beyond them."""
    assert failures(block(*VARIANTS[name]), [0, 5, 0, 16, 1, 33, 0], 3, chunk_of(name)) == {}


@pytest.mark.parametrize("lengths", [[0, 0], [1], [8], [9, 64], [1] * 20, [70, 3], [64, 64]])
def test_lengths(failures: Failures, lengths: list[int]) -> None:
    text = block(*QKV, TOKEN, WEIGHTS, "return attend(q, k, v, semiseparable(g) * fenwick(lam) + window(13))")
    assert failures(text, lengths, 2, 8) == {}


@pytest.mark.parametrize("name", ["log_linear_mamba2", "gated_deltanet", "mamba2", "log_linear_gla", "kda"])
def test_definitions_with_shared_keys(failures: Failures, name: str) -> None:
    assert failures(to_text(library_spec(name).syntax), [70, 0, 2], 1, None, "mild", 4) == {}


def test_scans_in_segments() -> None:
    """Sequences of fewer chunks than segments, of none, and of segments with several."""
    with triton_process(interpret=True, overflow=False) as pool:
        asked = in_parallel_segments, packed_failures, 2, block(*VARIANTS["operator"]), [0, 5, 44], 1, 8
        assert pool.submit(*asked).result(timeout=240) == {}


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much),
)
@given(text=spec_texts(), lengths=st.lists(st.integers(0, 40), min_size=1, max_size=4), regime=regimes())
def test_random_specs(failures: Failures, text: str, lengths: list[int], regime: Regime) -> None:
    assume(supported(text))
    assert failures(text, lengths, 1, None, regime) == {}
