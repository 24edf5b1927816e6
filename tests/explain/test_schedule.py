"""The section on kernels of `explain`."""

from __future__ import annotations

import re

import pytest
from compilation import library_spec, masked

from maskdsl.explain.costs import Sizes
from maskdsl.explain.report import explain
from maskdsl.explain.schedule import schedule

SMALL = Sizes(heads=2, key=32, value=16)


def test_the_kernels_of_both_passes() -> None:
    text = schedule(library_spec("mamba2"), SMALL)
    assert "Chunks of 64 tokens. Heads a program: 1 in the forward pass, 1 in the backward pass." in text
    for part in ("Forward pass", "Backward pass", "│ forward_scan ", "│ backward_scan ", "over 4.2 TB/s or FLOPs over"):
        assert part in text
    # a state a chunk of each head, in bfloat16
    assert "before 128 KiB" in text
    assert re.search(r"Stored for the backward pass: .*; [\d.]+ KiB in all\.", text)


def test_the_last_row_is_the_sum() -> None:
    rows = re.findall(r"^(│.*?)([\d.]+) │$", schedule(library_spec("mamba2"), SMALL), re.MULTILINE)
    times = [float(time) for _, time in rows]
    sums = [n for n, (line, _) in enumerate(rows) if line.startswith("│ sum ")]
    assert len(sums) == 2
    start = 0
    for end in sums:
        assert times[end] == pytest.approx(sum(times[start:end]), abs=0.05 * (end - start + 1))
        start = end + 1


def test_what_has_no_kernels_is_said_in_a_sentence() -> None:
    spec, sentence = masked("delta(k, 1) @ delta(q, 1)"), "'test' has several rank-one steps or decays a token."
    assert schedule(spec, SMALL) == f"{sentence} PyTorch runs it."
    assert explain(spec).endswith(f"{sentence} PyTorch runs it.\n")


@pytest.mark.parametrize(
    ("mask", "declared", "chunks"),
    [
        ("causal", (), "64"),
        ("delta(k, 1)", (), "32"),
        ("fenwick(lam, base=3)", ("lam : level >= 0",), "81"),
        ("window(1000) + causal", (), "64 and 256"),
    ],
)
def test_training_is_counted_in_chunks_of_the_real_size(mask: str, declared: tuple[str, ...], chunks: str) -> None:
    text = explain(masked(mask, *declared))
    assert f"Training, forward and backward, chunks of {chunks}\n" in text


def test_a_hierarchy_of_another_base_has_chunks_of_its_powers() -> None:
    assert "Chunks of 81 tokens." in schedule(masked("fenwick(lam, base=3)", "lam : level >= 0"), SMALL)
