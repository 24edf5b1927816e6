"""Two runs give the same bits: first and later calls, a cold and a warm cache, threads beside each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from agreement import Outcome, compiled, inputs_of, outcome
from variants import VARIANTS

every_variant = pytest.mark.parametrize("name", VARIANTS)


def same_bits(left: Outcome, right: Outcome) -> bool:
    return all(x.equal(right[name]) for name, x in left.tensors.items())


@every_variant
def test_run_to_run(name: str) -> None:
    """No sum whose order depends on timing (fla#1018, fla#941, fla#1031)."""
    attention = compiled(*VARIANTS[name])
    inputs = inputs_of(attention, 130, B=2, H=6, K=16, V=8, key_heads=(("q", 2), ("k", 3)), dtype=torch.float32)
    first = outcome(attention, inputs)
    assert all(same_bits(first, outcome(attention, inputs)) for _ in range(3))


@every_variant
def test_cold_and_warm_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program found in the cache computes what the one just made did (triton#781, fla#860)."""
    monkeypatch.setenv("MASKDSL_CACHE", str(tmp_path))
    cold, warm = compiled(*VARIANTS[name]), compiled(*VARIANTS[name])
    inputs = inputs_of(cold, 40, dtype=torch.float32)
    assert same_bits(outcome(cold, inputs), outcome(warm, inputs))
    assert len(list(tmp_path.iterdir())) == 1


def test_calls_of_other_sizes_in_between_change_nothing() -> None:
    """Nothing of one call, such as a table of its sizes, outlives it in another's result (mamba#827)."""
    for name, lines in VARIANTS.items():
        attention = compiled(*lines)
        inputs = inputs_of(attention, 130, H=6, dtype=torch.float32)
        first = outcome(attention, inputs)
        for length, heads in ((1, 1), (65, 2), (200, 3)):
            outcome(attention, inputs_of(attention, length, H=heads, B=2))
        assert same_bits(first, outcome(attention, inputs)), name


def test_two_threads_at_once() -> None:
    """Calls in several threads neither disturb each other nor the process's settings."""
    torch.set_float32_matmul_precision("high")
    try:
        attentions = {name: compiled(*lines) for name, lines in VARIANTS.items()}
        inputs = {name: inputs_of(attention, 90, dtype=torch.float32) for name, attention in attentions.items()}
        alone = {name: outcome(compiled(*VARIANTS[name]), inputs[name]) for name in VARIANTS}
        work = list(VARIANTS) * 4
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda name: outcome(attentions[name], inputs[name]), work))
        assert all(same_bits(alone[name], each) for name, each in zip(work, found, strict=True))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
