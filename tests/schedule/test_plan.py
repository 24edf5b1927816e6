"""How programs share the columns of a state, and which of them make all gradients of a chunk."""

from __future__ import annotations

import pytest
from compilation import library_spec

from maskdsl.schedule.configuration import Configuration, DeviceKind, Mode
from maskdsl.schedule.plan import STATE, plan, value_columns

EXTENTS = (1, 16, 17, 64, 100, 128, 200, 256, 512)


def columns(K: int, V: int, mode: Mode, device: DeviceKind = "cuda") -> int:
    return value_columns(Configuration((), K, V, 0, mode, None, device))


@pytest.mark.parametrize(
    ("K", "V", "mode", "device", "expected"),
    [
        (64, 64, "bf16", "cuda", 64),
        (64, 256, "bf16", "cuda", 128),
        (128, 128, "bf16", "cuda", 128),
        (200, 128, "bf16", "cuda", 64),
        (128, 128, "bf16", "hip", 64),
        (128, 128, "fp32", "cuda", 64),
        (128, 128, "fp16", "cuda", 64),
        (256, 128, "fp32", "cuda", 32),
        (256, 128, "fp32", "hip", 16),
        (16, 3, "bf16", "cuda", 64),
        (16, 3, "fp32", "cuda", 16),
        (16, 3, "bf16", "interpreter", 16),
        # no values, no columns; no keys, as many as there are
        (64, 0, "bf16", "cuda", 0),
        (0, 128, "bf16", "cuda", 128),
    ],
)
def test_columns_of_a_program(K: int, V: int, mode: Mode, device: DeviceKind, expected: int) -> None:
    assert columns(K, V, mode, device) == expected


@pytest.mark.parametrize("mode", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("device", ["cuda", "hip", "interpreter"])
def test_a_state_is_as_small_as_the_least_tile_allows(mode: Mode, device: DeviceKind) -> None:
    configuration = Configuration((), 0, 0, 0, mode, None, device)
    for K in EXTENTS:
        for V in EXTENTS:
            found = columns(K, V, mode, device)
            state = (2 if mode == "bf16" else 4) * configuration.width(K) * found
            assert configuration.width(V) % found == 0
            assert state <= STATE[device] or found == configuration.width(1)


def writers(name: str, configuration: Configuration) -> int:
    """How many kernels of the backward pass make gradients of tokens."""
    second = plan(library_spec(name), configuration).second
    gradients = {value for _, value in second.program.outputs if "T" in second.program.types[value]}
    return sum(not gradients.isdisjoint(stage.values) for stage in second.stages if stage.kind == "chunks")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("retention", 1), ("simple_gla", 1), ("linear_attention", 2), ("mamba2", 2), ("gla", 2), ("two_timescale", 2)],
)
def test_gradients_of_plain_vectors_are_made_at_once(name: str, expected: int) -> None:
    assert writers(name, Configuration((), 128, 128, 0, "bf16")) == expected


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration((), 128, 128, 0, "fp32"),
        Configuration((), 256, 128, 0, "bf16"),
        Configuration((), 128, 128, 0, "bf16", device="hip"),
        Configuration((("q", 4), ("k", 4)), 128, 128, 0, "bf16"),
    ],
    ids=["wide numbers", "wide keys", "small memory", "shared heads"],
)
def test_where_there_is_no_room_they_are_not(configuration: Configuration) -> None:
    assert writers("simple_gla", configuration) == 2
