"""A spec as the stages of its kernels, forward and backward, and what decides how programs share the work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from maskdsl.chunk import ops
from maskdsl.chunk.program import Program
from maskdsl.differentiation.differentiate import differentiate, gradient_name
from maskdsl.lowering.lower import lower
from maskdsl.schedule.blocks import in_blocks, in_chunks
from maskdsl.schedule.chunking import tile_size
from maskdsl.schedule.configuration import Configuration, DeviceKind, least_width
from maskdsl.schedule.narrowing import narrowed
from maskdsl.schedule.outward import outward
from maskdsl.schedule.paired import paired
from maskdsl.schedule.resume import resumed
from maskdsl.schedule.rows import hoist
from maskdsl.schedule.stages import Stages, stages
from maskdsl.schedule.storage import reading
from maskdsl.schedule.systems import precise_values, read_again, solved_systems
from maskdsl.schedule.unshare import unshare
from maskdsl.spec import Spec

Direction = Literal["forward", "backward"]

HEADS: dict[Direction, int] = {"forward": 1, "backward": 8}
"""The most heads that share keys and that a program does one after the other. In the forward pass the product of
queries and keys costs less than the registers that hold it; in the backward pass sums over heads stay in registers."""


KEPT = (ops.Tree, ops.Scan, ops.SolvedScan, ops.DecayDot, ops.DecayDots)
"""Operations whose results the backward pass finds in memory, as it does systems solved."""

STATE: dict[DeviceKind, int] = {"cuda": 1 << 15, "interpreter": 1 << 15, "hip": 1 << 14}
"""The most bytes of a state that a program multiplies by: some seven such tiles fit into a GPU's shared memory."""

ROOMY = 128
"""The most channels, and columns, of a state of which a program holds two beside all vectors of a chunk."""


@dataclass(frozen=True)
class Plan:
    """The stages of both directions.

    `forward` and `joint` are the programs that they divide, `kept` the values that the forward stages leave in memory
    for the backward ones, `gradients` the names under which these load those of the outputs, o first. Without training
    nothing is kept, and there are no backward stages.
    """

    forward: Program
    joint: Program
    first: Stages
    second: Stages
    kept: tuple[str, ...]
    gradients: tuple[str, ...]


def plan(spec: Spec, configuration: Configuration) -> Plan:
    """Divide a spec; raises `Unsupported` where there are no kernels for its paths, or it mixes chunk sizes."""
    training, hand = configuration.training, configuration.hand
    size = configuration.chunk or tile_size(spec, configuration.mode)
    lowered = lower(spec, dict(configuration.ratios), size, hand)
    if hand.laid:
        lowered = in_chunks(in_blocks(lowered))
    lowered = unshare(lowered)
    joint, forward = (
        narrowed(paired(outward(hoist(each)))) for each in (differentiate(lowered) if training else lowered, lowered)
    )
    if not configuration.packed:
        forward = resumed(forward, training)
    sizes = _typical(configuration)
    first = stages(forward, sizes, keeps=training)
    left = [r for i in forward.instructions if isinstance(i.op, KEPT) for r in i.results]
    kept = (*left, *solved_systems(forward), *read_again(forward), *first.rows) if training else ()
    later = [output for output in joint.outputs if training and output not in forward.outputs]
    backward = reading(joint, forward, set(kept)).program(later)
    gradients = tuple(gradient_name(forward, name) for name, _ in forward.outputs)
    second = stages(backward, sizes, gradients, precise_values(joint), roomy=_roomy(configuration))
    return Plan(forward, joint, first, second, kept, gradients)


def heads_together(configuration: Configuration, direction: Direction) -> int:
    """How many heads a program over chunks does, one after the other: a divisor of those that share all keys."""
    ratios = [ratio for _, ratio in configuration.ratios]
    together = math.gcd(*ratios) if ratios else 1
    return max(heads for heads in range(1, HEADS[direction] + 1) if together % heads == 0)


def _roomy(configuration: Configuration) -> bool:
    """Whether a kernel has room for two states and the vectors of a chunk, two bytes an entry."""
    widest = max(configuration.width(configuration.K), value_columns(configuration))
    return configuration.mode == "bf16" and configuration.device != "hip" and widest <= ROOMY


def value_columns(configuration: Configuration) -> int:
    """How many columns of V a program holds: as many as a state of STATE bytes has, at most 128, at least a tile."""
    bytes_each = 2 if configuration.mode == "bf16" else 4
    fit = STATE[configuration.device] // (bytes_each * max(configuration.width(configuration.K), 1))
    least = least_width(configuration.mode, configuration.device)
    return min(configuration.width(configuration.V), max(least, min(128, fit)))


def _typical(configuration: Configuration) -> dict[str, int]:
    """A call of usual length, for decisions that must not depend on T or B."""
    return {
        "B": 1,
        "T": 4096,
        "H": math.lcm(*(ratio for _, ratio in configuration.ratios), 1),
        "K": max(configuration.K, 1),
        "V": max(configuration.V, 1),
        "L": max(configuration.levels, 1),
    }
