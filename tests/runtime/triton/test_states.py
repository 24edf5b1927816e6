"""Calls with states that are laid out as one before are not checked again, and wrong ones are refused all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import state_calls
import torch
from tile_kernels import triton_process

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run a function of `state_calls` in a process in which Triton is the interpreter."""
    with triton_process(interpret=True, overflow=False) as pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=240)


@pytest.mark.parametrize("name", ["number", "number, weak hierarchy", "diagonal, window"])
def test_the_same_as_if_each_were_the_first(run: Run, name: str) -> None:
    found, checks, furthest = run(state_calls.in_a_row, name, 2, True)
    expected, every, far = run(state_calls.in_a_row, name, 2, False)
    assert (checks, every) == ([1, 2, 2], [1, 2, 3])  # the first has no state to begin with
    assert furthest == far == [9, 18, 27]
    for made, wanted in zip(found, expected, strict=True):
        assert made.keys() == wanted.keys()
        assert all(torch.equal(made[each], x) for each, x in wanted.items())


def test_wrong_calls_after_right_ones(run: Run) -> None:
    said, expected = (run(state_calls.refusals, "number, weak hierarchy", again) for again in (True, False))
    assert said == expected
    assert "nothing" not in said.values()
    assert "comes to position 69 needs 8" in said["too far"]
