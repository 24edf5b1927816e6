"""What a state keeps for decoding: every buffer of every memory, with its bytes."""

from __future__ import annotations

import math

from maskdsl.chunk.axes import extent
from maskdsl.explain.costs import Sizes
from maskdsl.explain.numbers import bytes_of
from maskdsl.lowering.memory import LOGS, Buffer, memories
from maskdsl.spec import Spec

BYTES, LOG_BYTES = 4, 8
"""Of a number in float32, and of a log, which is float64."""


def memory(spec: Spec, sizes: Sizes) -> str:
    """One line a memory: its buffers, their axes and what one sequence takes, by level where there are levels."""
    lines = []
    for each in memories(spec):
        kept = [_buffer(buffer, sizes) for buffer in each.buffers]
        lines.append(f"{each.name}: {', '.join(kept) or 'nothing'}")
    return "\n".join(lines)


def _buffer(buffer: Buffer, sizes: Sizes) -> str:
    # one level is one row: L = 2
    known = {"B": 1, "H": sizes.heads, "K": sizes.key, "V": sizes.value, "L": 2}
    numbers = math.prod(extent(axis, known) for axis in buffer.axes)
    taken = bytes_of(numbers * (LOG_BYTES if buffer.name == LOGS else BYTES))
    axes = ", ".join(axis.removeprefix("R") for axis in buffer.axes)
    return f"{buffer.name} [{axes}] {taken}{' a level' if 'M' in buffer.axes else ''}"
