"""What kernels move and compute, counted by hand for four chunks of two heads, K = 32 and V = 16."""

from __future__ import annotations

import pytest
from compilation import masked

from maskdsl.schedule.configuration import Configuration
from maskdsl.schedule.report import BANDWIDTH, RATE, Report, Row, report
from maskdsl.schedule.unsupported import Unsupported

SIZES = {"B": 1, "T": 256, "H": 2, "K": 32, "V": 16, "L": 9}
POSITIONS = 256 * 2
KEYS, VALUES = 2 * POSITIONS * 32, 2 * POSITIONS * 16
STATES = 2 * 4 * 2 * 32 * 16
"""Bytes of a key or value input, and of the state of every chunk, in bfloat16."""
LOGS = 4 * 4
"""Bytes of a log decay a chunk, the same for all heads, in float32."""


def counted(mask: str, *declarations: str, levels: int = 0, ratio: int = 1) -> Report:
    ratios = (("q", ratio), ("k", ratio)) if ratio > 1 else ()
    return report(masked(mask, *declarations), Configuration(ratios, 32, 16, levels, "bf16"), SIZES)


def row(found: Report, kernel: str) -> Row:
    return next(r for rows in found.rows.values() for r in rows if kernel in r.kernels)


def test_bytes_of_a_scan() -> None:
    found = counted("causal")
    assert [r.kernels[0] for r in found.rows["forward"]] == ["forward_chunks", "forward_scan", "forward_chunks_2"]
    assert row(found, "forward_chunks").bytes == KEYS + VALUES + STATES + LOGS
    assert row(found, "forward_scan").bytes == 2 * STATES + LOGS
    assert row(found, "forward_chunks_2").bytes == 2 * KEYS + VALUES + STATES // 2 + VALUES
    assert found.stored == {"before": STATES}


def test_flops_of_the_output() -> None:
    scores, output, read = POSITIONS * 64 * 32, POSITIONS * 64 * 16, POSITIONS * 32 * 16
    # an odd chunk meets the keys before it too
    products = 3 * (scores + output) + 2 * read
    # the rest is elementwise
    assert products < row(counted("causal"), "forward_chunks_2").flops < 1.05 * products


def test_bytes_of_a_hierarchy() -> None:
    found = counted("fenwick(lam)", "lam : level >= 0", levels=16)
    assert row(found, "forward_blocks").kernels == ("forward_states", "forward_blocks")
    assert row(found, "forward_states").bytes == KEYS + VALUES + STATES + LOGS
    # of four chunks: 0, 1, 1 and 2 blocks are read, one on average
    weights = 4 * POSITIONS * 9
    assert row(found, "forward_chunks").bytes == 2 * KEYS + 2 * VALUES + weights + STATES + LOGS
    # log decays of left siblings, and of the blocks of three levels
    assert found.stored == {"tree": 4 * LOGS, "tree_1": STATES}


def test_all_blocks_are_kept_under_strong_admissibility() -> None:
    declared = "lam : level >= 0"
    weak = counted("fenwick(lam)", declared, levels=16)
    strong = counted('fenwick(lam, admissibility="strong")', declared, levels=16)
    assert strong.stored["tree_1"] == 2 * weak.stored["tree_1"]


def test_programs() -> None:
    assert row(counted("causal"), "forward_chunks").programs == 4 * 2
    shared = counted("causal", ratio=2)
    assert shared.heads == {"forward": 1, "backward": 2}
    assert row(shared, "forward_chunks").programs == 4 * 2
    assert row(shared, "backward_chunks").programs == 4


def test_the_least_time_is_that_of_bytes_or_of_operations() -> None:
    assert Row((), (), None, 4_200, 1).seconds == 4_200 / BANDWIDTH
    assert Row((), (), None, 1, 700_000).seconds == 700_000 / RATE


def test_a_spec_without_kernels() -> None:
    with pytest.raises(Unsupported, match="'test' has several rank-one steps"):
        counted("delta(k, 1) @ delta(q, 1)")
