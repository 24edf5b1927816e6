"""All that generated GPU programs depend on besides the spec: no T, no batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maskdsl.lowering.hand import ALONE, Hand

Mode = Literal["bf16", "fp16", "fp32"]
"""The precision of a call: what its key and value inputs promote to. Gates and weights may be wider."""

DeviceKind = Literal["cuda", "hip", "interpreter"]

LEAST_TILE = 16
"""The least extent of a tile that a matrix product takes."""


@dataclass(frozen=True)
class Configuration:
    """One set of generated kernels.

    `ratios` are the key inputs with the number of heads that share one of theirs, where it is more than one. `K` and
    `V` are the widths of keys and values, 0 where no input has that axis. `levels` is the number of levels padded to
    a power of two, 0 without them. `chunk` overrides the chunk size. Where it is not for `training`, nothing is kept
    for gradients, and there are no kernels for them. Where it is `packed`, the batch row holds sequences one after
    another. `hand` says what states sequences begin and end with.
    """

    ratios: tuple[tuple[str, int], ...]
    K: int
    V: int
    levels: int
    mode: Mode
    chunk: int | None = None
    device: DeviceKind = "cuda"
    training: bool = True
    packed: bool = False
    hand: Hand = ALONE

    def width(self, extent: int) -> int:
        """The extent of a tile that holds `extent` entries along K or V; 0 for none."""
        return padded(extent, least_width(self.mode, self.device))


def padded(extent: int, least: int = LEAST_TILE) -> int:
    """The extent of the tile that holds `extent` entries: a power of two, at least `least`; 0 for none."""
    return max(least, 1 << (extent - 1).bit_length()) if extent else 0


def least_width(mode: Mode, device: DeviceKind) -> int:
    """The least extent of a tile along K or V.

    Of operands in half precision that are narrower, Hopper's matrix units read beyond the tile as Triton 3.6 to 3.7.1
    tell them to (triton issue 11366): wrong numbers, or an illegal access.
    """
    return 64 if mode == "bf16" and device == "cuda" else LEAST_TILE
