"""The chunk size of kernels."""

from __future__ import annotations

import pytest

import maskdsl
from maskdsl.schedule.chunking import tile_size
from maskdsl.schedule.configuration import Mode
from maskdsl.spec import Spec

INPUTS = {"lam": "level", "w": "token", "g": "token <= 0"}


def masked(mask: str) -> Spec:
    """One attend with a mask over some of `INPUTS`."""
    declared = "".join(f"    {name} : {kind}\n" for name, kind in INPUTS.items() if f"({name}" in mask)
    text = f"attention test:\n    q, k : key\n    v : value\n{declared}    return attend(q, k, v, {mask})\n"
    return maskdsl.compile(text).spec


@pytest.mark.parametrize(
    ("mask", "size"),
    [
        ("causal", 64),
        ("window(2000)", 64),
        ("fenwick(lam)", 64),
        ("fenwick(lam, base=8) + window(300)", 64),
        ("fenwick(lam) + fenwick(lam, base=4)", 64),
        ("fenwick(lam, base=3) + causal", 81),
        ("fenwick(lam, base=5)", 125),
        ("fenwick(lam, base=10)", 100),
        ("fenwick(lam, base=16)", 16),
        ("fenwick(lam, base=300)", 300),
        ("fenwick(lam, base=3) + fenwick(lam, base=9)", 81),
        ("fenwick(lam) + fenwick(lam, base=3)", None),
        # weights that no level changes scale rows, whatever the base
        ("fenwick(w) + fenwick(lam, base=3)", 81),
    ],
)
@pytest.mark.parametrize("mode", ["bf16", "fp16", "fp32"])
def test_one_power_of_every_base(mask: str, size: int | None, mode: Mode) -> None:
    assert tile_size(masked(mask), mode) == size


@pytest.mark.parametrize(
    ("mask", "size", "precise"),
    [
        ("delta(k, 1)", 64, 32),
        ("semiseparable(g) * delta(k, 1) + causal", 64, 32),
        ("rank1(q, k) + window(300)", 64, 32),
        ("delta(k, 1) * fenwick(lam)", 64, 32),
        ("delta(k, 1) * fenwick(lam, base=8)", 64, 64),
        ("delta(k, 1) * fenwick(lam, base=3)", 81, 81),
        ("delta(k, 1) + fenwick(lam, base=3)", 81, 81),
    ],
)
def test_rank_one_steps_in_float32_have_short_chunks_where_a_base_allows(mask: str, size: int, precise: int) -> None:
    spec = masked(mask)
    assert [tile_size(spec, mode) for mode in ("bf16", "fp16", "fp32")] == [size, size, precise]
