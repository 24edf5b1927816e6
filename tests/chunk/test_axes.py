"""Axis names: made, read, joined, measured."""

from __future__ import annotations

import pytest

from maskdsl.chunk import axes as ax

SIZES = {"B": 2, "T": 9, "H": 6, "K": 3, "V": 5, "L": 4}


def test_names_read_back() -> None:
    assert [ax.heads(r) for r in (1, 2, 12)] == ["H", "H/2", "H/12"]
    assert [ax.ratio(ax.heads(r)) for r in (1, 2, 12)] == [1, 2, 12]
    assert ax.chunks(64) == "N64"
    assert [ax.positions(64), ax.positions(64, 3)] == ["C64", "C64*3"]
    assert ax.nodes(27, 3) == "E27b3"
    assert [ax.chunk_size(axis) for axis in ("N64", "C64", "C64*3", "E27b3")] == [64, 64, 64, 27]
    assert [ax.rows(axis) for axis in ("C64", "C64*3", "K")] == [1, 3, 1]


@pytest.mark.parametrize(
    ("axis", "count"),
    [
        ("1", 1),
        ("B", 2),
        ("T", 9),
        ("H", 6),
        ("H/3", 2),
        ("K", 3),
        ("V", 5),
        ("L", 4),
        ("N4", 3),
        ("N9", 1),
        ("N1", 9),
        ("C4", 4),
        ("C4*3", 12),
        ("E4b2", 3 + 1),
        ("E2b2", 5 + 2 + 1),
        ("E1b3", 9 + 3 + 1),
        ("E16b2", 1),
        ("M", 3),
        ("R19", 19),
    ],
)
def test_extent(axis: str, count: int) -> None:
    assert ax.extent(axis, SIZES) == count


@pytest.mark.parametrize(("axis", "count"), [("S", 5), ("N4", (9 + 5 * 6) // 4), ("N1", 9), ("C4", 4), ("T", 9)])
def test_extent_where_rows_are_laid_out(axis: str, count: int) -> None:
    assert ax.extent(axis, SIZES | {"S": 5}) == count


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_slots_are_enough_for_any_sequences(size: int) -> None:
    """And as few as can be for one alone."""
    for length in range(1, 20):
        needed = [(offset + length - 1) // size + 1 for offset in range(size)]
        assert ax.slot_count(length, 1, size) == max(needed)
    for first, second, total in [(1, 1, 2), (1, 8, 9), (5, 9, 14), (0, 3, 3)]:
        worst = sum((size - 1 + length - 1) // size + 1 for length in (first, second) if length)
        assert ax.slot_count(total, 2, size) >= worst
    assert ax.slot_count(3, 1000, size) == ax.slot_count(3, 3, size)


def test_join_broadcasts_axes_of_one_element() -> None:
    assert ax.join(("B", "1", "H"), ("1", "1", "H"), ("B", "T", "1")) == ("B", "T", "H")
    assert ax.join(("1", "1"), ("1", "1")) == ("1", "1")
    with pytest.raises(ValueError, match="axes K and V do not broadcast"):
        ax.join(("B", "K"), ("B", "V"))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        ax.join(("B", "K"), ("B",))
