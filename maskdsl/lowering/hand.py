"""What a program hands on from call to call: memories as its chunks read and leave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maskdsl.chunk.ops import Axes
from maskdsl.lowering.memory import LOGS, STATE, Memory


@dataclass(frozen=True)
class Hand:
    """Whether sequences begin with memories handed in, and whether their last ones go out.

    In a program that is `laid` out a batch row holds several of them, resumed from positions of their own. One that is
    not has chunks from its first token on, wherever that is: it hands on memories that have nothing to do with
    positions.
    """

    initial: bool = False
    final: bool = False
    laid: bool = False


ALONE = Hand()
"""A program whose sequences begin with nothing and leave nothing behind."""


def anywhere(memory: Memory) -> bool:
    """Whether what a memory keeps is the same thing at every position: no level, no slot of a ring."""
    return all(buffer.name == STATE for buffer in memory.buffers)


def handed(memory: Memory) -> Mapping[str, Axes]:
    """The buffers of a memory as programs hand them in and out, by their full names.

    They have an axis of sequences, [B, H, S, ...]. Decays are multiplied in, so that there are no logs, and what a
    window keeps stands in order, the oldest first, not in a ring.
    """
    kept = [buffer for buffer in memory.buffers if buffer.name != LOGS]
    return {memory.full_name(each): (*each.axes[:2], "S", *each.axes[2:]) for each in kept}
