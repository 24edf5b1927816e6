"""What `explain` says of a state."""

from __future__ import annotations

import pytest
from compilation import library_spec, masked

from maskdsl.explain.costs import Sizes
from maskdsl.explain.memory import memory
from maskdsl.explain.report import explain

SMALL = Sizes(heads=2, key=8, value=4)


@pytest.mark.parametrize(
    ("mask", "declared", "expected"),
    [
        ("causal", [], "attend_1_1: state [B, H, K, V] 256 B"),
        ("window(1)", [], "attend_1_1: nothing"),
        (
            "fenwick(lam) * semiseparable(g)",
            ["lam : level", "g : token <= 0"],
            "attend_1_1: states [B, H, M, K, V] 256 B a level, logs [B, H, M] 16 B a level",
        ),
        (
            "window(5) * semiseparable(c)",
            ["c : channel <= 0"],
            "attend_1_1: keys [B, H, 4, K] 256 B, values [B, H, 4, V] 128 B, logs [B, H, 4, K] 512 B",
        ),
    ],
)
def test_buffers_and_their_bytes(mask: str, declared: list[str], expected: str) -> None:
    assert memory(masked(mask, *declared), SMALL) == expected


def test_a_report_says_what_a_state_keeps() -> None:
    text = explain(library_spec("two_timescale"), SMALL)
    assert "State of one sequence in float32, H = 2, K = 8, V = 4\n" in text
    assert "attend_1_1: state [B, H, K, V] 256 B\nattend_1_2: state [B, H, K, V] 256 B\n" in text
