"""What a laid-out program hands on from call to call: memories as its chunks read and leave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maskdsl.chunk.ops import Axes
from maskdsl.lowering.memory import LOGS, Memory


@dataclass(frozen=True)
class Hand:
    """Whether the sequences of a laid-out program begin with memories handed in, and whether their last ones go out."""

    initial: bool
    final: bool


def handed(memory: Memory) -> Mapping[str, Axes]:
    """The buffers of a memory as programs hand them in and out, by their full names.

    They have an axis of sequences, [B, H, S, ...]. Decays are multiplied in, so that there are no logs, and what a
    window keeps stands in order, the oldest first, not in a ring.
    """
    kept = [buffer for buffer in memory.buffers if buffer.name != LOGS]
    return {memory.full_name(each): (*each.axes[:2], "S", *each.axes[2:]) for each in kept}
