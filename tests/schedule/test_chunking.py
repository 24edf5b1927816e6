"""The chunk size of kernels."""

from __future__ import annotations

import pytest

import maskdsl
from maskdsl.schedule.chunking import tile_size


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
def test_one_power_of_every_base(mask: str, size: int | None) -> None:
    weights = {"(lam": "lam : level", "(w)": "w : token"}
    declared = [f"    {line}\n" for use, line in weights.items() if use in mask]
    text = f"attention test:\n    q, k : key\n    v : value\n{''.join(declared)}    return attend(q, k, v, {mask})\n"
    assert tile_size(maskdsl.compile(text).spec) == size
