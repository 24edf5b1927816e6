"""Levels of a hierarchy: the definition worked by hand, and what recurrences rely on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskdsl.mask.levels import Admissibility, carry, level, levels

HIERARCHIES: list[tuple[int, Admissibility]] = [(2, "weak"), (3, "weak"), (4, "weak"), (5, "weak"), (10, "weak")]
HIERARCHIES.append((2, "strong"))

pairs = st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)).map(lambda pair: tuple(sorted(pair)))


def row(t: int, base: int, admissibility: Admissibility) -> list[int]:
    return [level(t, s, base, admissibility) for s in range(t + 1)]


@given(pairs)
def test_weak_base_two_is_the_bit_length_of_the_exclusive_or(pair: tuple[int, int]) -> None:
    s, t = pair
    assert level(t, s) == (t ^ s).bit_length()


@given(pairs, st.integers(2, 12))
def test_weak_is_one_more_than_the_highest_digit_that_differs(pair: tuple[int, int], base: int) -> None:
    s, t = pair
    found = level(t, s, base)
    assert t // base**found == s // base**found
    assert found == 0 or t // base ** (found - 1) != s // base ** (found - 1)


@pytest.mark.parametrize(
    ("t", "base", "expected"),
    [
        (5, 2, [3, 3, 3, 3, 1, 0]),
        (6, 2, [3, 3, 3, 3, 2, 2, 0]),
        (8, 2, [4, 4, 4, 4, 4, 4, 4, 4, 0]),
        (5, 3, [2, 2, 2, 1, 1, 0]),
        (9, 3, [3, 3, 3, 3, 3, 3, 3, 3, 3, 0]),
        (7, 4, [2, 2, 2, 2, 1, 1, 1, 0]),
    ],
)
def test_weak_rows_by_hand(t: int, base: int, expected: list[int]) -> None:
    assert row(t, base, "weak") == expected


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (0, [0]),
        # l = 0, w = 1, r = 0: position 0 lies in the first block.
        (1, [1, 0]),
        # l = 1, w = 1, r = 0: position 1 is a near block, seen as level(1, 0).
        (2, [2, 1, 0]),
        # l = 1, w = 1, r = 1: the near block has moved off; position 2 is seen as level(1, 0).
        (3, [2, 2, 1, 0]),
        # l = 2, w = 2, r = 0: positions 2 and 3 are near, seen as level(2, 0) and level(2, 1).
        (4, [3, 3, 2, 1, 0]),
        # l = 2, w = 2, r = 1: positions 2 and 3 are seen as level(3, 0) and level(3, 1), position 4 as level(1, 0).
        (5, [3, 3, 2, 2, 1, 0]),
        # l = 2, w = 2, r = 2: all four first positions are far; 4 and 5 are seen as level(2, 0) and level(2, 1).
        (6, [3, 3, 3, 3, 2, 1, 0]),
        (7, [3, 3, 3, 3, 2, 2, 1, 0]),
        # l = 3, w = 4, r = 0: positions 4 to 7 are near, seen as row 4.
        (8, [4, 4, 4, 4, 3, 3, 2, 1, 0]),
        # l = 3, w = 4, r = 4: position 11 is seen from 12 as level(4, 3).
        (12, [4, 4, 4, 4, 4, 4, 4, 4, 3, 3, 2, 1, 0]),
    ],
)
def test_strong_rows_by_hand(t: int, expected: list[int]) -> None:
    assert row(t, 2, "strong") == expected


@pytest.mark.parametrize(("base", "admissibility"), HIERARCHIES)
def test_levels_fall_towards_the_present_in_contiguous_runs(base: int, admissibility: Admissibility) -> None:
    for t in range(300):
        found = row(t, base, admissibility)
        assert found == sorted(found, reverse=True)
        assert [s for s in range(t + 1) if found[s] == 0] == [t]


@pytest.mark.parametrize(("base", "admissibility"), HIERARCHIES)
def test_positions_that_share_a_level_share_it_ever_after(base: int, admissibility: Admissibility) -> None:
    before = row(0, base, admissibility)
    for t in range(1, 300):
        now = row(t, base, admissibility)
        assert all(now[s] == now[s + 1] for s in range(t - 1) if before[s] == before[s + 1])
        before = now


@pytest.mark.parametrize(("base", "admissibility"), HIERARCHIES)
def test_levels_of_a_length_hold_every_level_that_occurs(base: int, admissibility: Admissibility) -> None:
    highest = 0
    for t in range(300):
        highest = max(highest, *row(t, base, admissibility))
        assert levels(t + 1, base, admissibility) == 1 + highest


@pytest.mark.parametrize(
    ("length", "base", "admissibility", "expected"),
    [
        (1, 2, "weak", 1),
        (2, 2, "weak", 2),
        (64, 2, "weak", 7),
        (65, 2, "weak", 8),
        (4096, 2, "weak", 13),
        (81, 3, "weak", 5),
        (82, 3, "weak", 6),
        (1, 2, "strong", 1),
        (64, 2, "strong", 7),
        (65, 2, "strong", 8),
    ],
)
def test_levels_of_a_length(length: int, base: int, admissibility: Admissibility, expected: int) -> None:
    assert levels(length, base, admissibility) == expected


@pytest.mark.parametrize(("base", "admissibility"), [each for each in HIERARCHIES if each[0] <= 5])
def test_what_stands_at_one_level_is_carried_to_one_level(base: int, admissibility: Admissibility) -> None:
    """For all later positions at once: every s with level(pos, s) = j has level carry(t, pos, j) as seen from t."""
    for pos in range(70):
        before = row(pos, base, admissibility)
        for t in (*range(pos, 2 * pos + 3), 10 * pos + 7):
            now = row(t, base, admissibility)
            assert now[: pos + 1] == [carry(t, pos, j, base, admissibility) for j in before]


@given(pairs, st.sampled_from(HIERARCHIES), st.integers(0, 10**9))
def test_what_is_far_is_carried_alike(
    pair: tuple[int, int], hierarchy: tuple[int, Admissibility], further: int
) -> None:
    (s, pos), (base, admissibility) = pair, hierarchy
    found = level(pos, s, base, admissibility)
    assert carry(pos + further, pos, found, base, admissibility) == level(pos + further, s, base, admissibility)


@pytest.mark.parametrize(("base", "admissibility"), HIERARCHIES)
def test_carrying_goes_step_by_step(base: int, admissibility: Admissibility) -> None:
    for pos in range(40):
        for j in set(row(pos, base, admissibility)):
            stepwise = j
            for t in range(pos, 120):
                stepwise = carry(t + 1, t, stepwise, base, admissibility)
                assert stepwise == carry(t + 1, pos, j, base, admissibility)


@pytest.mark.parametrize(("t", "pos", "j", "expected"), [(8, 7, 0, 4), (8, 7, 3, 4), (8, 8, 4, 4), (8, 6, 1, 4)])
def test_weak_carries_by_hand(t: int, pos: int, j: int, expected: int) -> None:
    assert carry(t, pos, j) == expected


@pytest.mark.parametrize(
    ("t", "pos", "j", "expected"),
    # rows 5, 6 and 12 above; no position is at level 9
    [(6, 5, 2, 3), (6, 5, 1, 2), (6, 5, 0, 1), (12, 6, 3, 4), (12, 6, 0, 4), (12, 6, 9, 9)],
)
def test_strong_carries_by_hand(t: int, pos: int, j: int, expected: int) -> None:
    assert carry(t, pos, j, 2, "strong") == expected
