"""What an operation costs: floating-point operations and numbers held, from its types and the sizes of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Instruction

TYPICAL = {"B": 1, "T": 4096, "H": 16, "K": 64, "V": 64, "L": 13}
"""A call of usual size, for decisions that must not depend on T or B."""


def elements(axes: Axes, sizes: Mapping[str, int]) -> int:
    """How many numbers a value of this type holds."""
    return math.prod(ax.extent(axis, sizes) for axis in axes)


def flops(instruction: Instruction, types: Mapping[str, Axes], sizes: Mapping[str, int]) -> int:
    """Floating-point operations, a multiplication and an addition counted as two."""
    x = [types[operand] for operand in instruction.operands]
    made = sum(elements(axes, sizes) for axes in instruction.types)
    match instruction.op:
        case ops.Map(expr):
            return made * max(1, int(sympy.count_ops(expr)))
        case ops.Dot(transpose_x):
            return 2 * made * ax.extent(x[0][-2 if transpose_x else -1], sizes)
        case ops.Inverse():
            return made * ax.extent(x[0][-1], sizes)
        case ops.Spans():
            return 2 * made * ax.extent(x[0][-1], sizes)
        case ops.SpansAdjoint():
            return 2 * elements(x[0], sizes) * ax.extent(instruction.types[0][-1], sizes)
        case ops.DecayDot() | ops.DecayDots():
            return 2 * made * ax.extent("K", sizes)
        case ops.DecayDotAdjoint():
            return 6 * elements(x[0], sizes) * ax.extent("K", sizes)
        case ops.Scan() | ops.Tree():
            return made * _operator_width(x[0], sizes)
        case ops.SolvedScan():
            width = 2 * ax.extent(x[1][-2], sizes) + 4 * ax.extent(x[1][-1], sizes)
            return 2 * elements(instruction.types[0], sizes) + width * elements(instruction.types[1], sizes)
        case ops.TreeAdjoint():
            return 3 * sum(elements(t, sizes) for t in x[2:]) * _operator_width(x[0], sizes)
        case ops.Walk():
            return round(reads(instruction.op.base, x[0], sizes) * _read_flops(x[0], x[1], x[2], sizes))
        case ops.WalkAdjoint():
            return round(4 * reads(instruction.op.base, x[1], sizes) * _read_flops(x[1], x[2], x[3], sizes))
        case ops.Band(lags):
            return lags * _pair_flops(x, sizes)
        case ops.BandAdjoint(lags):
            return 3 * lags * _pair_flops(x[1:], sizes)
        case ops.Keep() | ops.KeepAdjoint():
            return made
        case ops.Resume():
            return 2 * made * ax.extent("K", sizes) + _pair_flops(x, sizes) // 2
        case ops.Relay():
            return _handing_flops(x[0], x[4], sizes)
        case ops.RelayAdjoint():
            return 3 * _handing_flops(x[2], x[6], sizes)
        case ops.Slide(width):
            return 2 * width * (elements(x[0], sizes) + elements(x[3], sizes))
        case ops.SlideAdjoint(width):
            return 6 * width * (elements(x[3], sizes) + elements(x[6], sizes))
        case ops.Load() | ops.Cast() | ops.Align() | ops.Expand() | ops.Transpose() | ops.Constant() | ops.Identity():
            return 0
    return sum(elements(axes, sizes) for axes in x)


def _handing_flops(queries: Axes, state: Axes, sizes: Mapping[str, int]) -> int:
    """What all slots read of a state and write to it."""
    return 4 * elements(queries, sizes) * math.prod(ax.extent(axis, sizes) for axis in state[3:] if axis != "K")


def _operator_width(operator: Axes, sizes: Mapping[str, int]) -> int:
    return 2 * ax.extent(operator[-1], sizes)


def reads(base: int, queries: Axes, sizes: Mapping[str, int]) -> float:
    """Blocks that a chunk reads, on average: half the left siblings of each level."""
    count = ax.extent(queries[2], sizes)
    return (base - 1) / 2 * math.log(max(count, 2), base)


def _read_flops(queries: Axes, operator: Axes, states: Axes, sizes: Mapping[str, int]) -> int:
    rows = elements(queries, sizes)
    return 2 * rows * (ax.extent(states[-1], sizes) + ax.extent(operator[-1], sizes))


def _pair_flops(x: list[Axes], sizes: Mapping[str, int]) -> int:
    queries, operator, _, v = x[:4]
    size = ax.extent(queries[3], sizes)
    per_row = 2 * size * (ax.extent("K", sizes) + ax.extent("V", sizes)) + 2 * ax.extent("K", sizes) * ax.extent(
        operator[-1], sizes
    )
    return elements(v[:4], sizes) * per_row
