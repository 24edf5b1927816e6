"""The tiles of a program: how its axes are cut and padded, and the precision of its products."""

from __future__ import annotations

from dataclasses import dataclass

from maskdsl.chunk.ops import Axes
from maskdsl.schedule.configuration import DeviceKind, Mode, least_width, padded


@dataclass(frozen=True)
class Tiling:
    """Extents of the tiles of one program; axes are named by their letter: C, K, V, L.

    A program holds `heads` heads, one after the other, `value` columns of V and, in kernels that do no products,
    `channels` rows of a state (all of them where it is 0).
    """

    chunk: int
    key: int
    width: int
    value: int
    levels: int
    heads: int
    mode: Mode
    channels: int = 0
    columns: int = 0
    """Columns of a state in memory; 0 for as many as tiles of `value` columns need."""
    device: DeviceKind = "cuda"
    packed: bool = False
    """Whether a batch row holds sequences one after another."""
    laid: bool = False
    """Whether these go on from positions of their own, by which their chunks are aligned."""

    @property
    def key_parts(self) -> int:
        """How many programs share the rows of a state."""
        return self.wide(self.key) // self.channels if self.channels else 1

    @property
    def parts(self) -> int:
        """How many programs share the columns of V."""
        return (-(-self.width // self.value) if self.width else 1) if not self.columns else self.columns // self.value

    def wide(self, extent: int) -> int:
        """The extent of a tile along all of K or V."""
        return padded(extent, least_width(self.mode, self.device))

    def extent(self, letter: str) -> int:
        """The extent of an axis in a tile."""
        return {"C": padded(self.chunk), "K": self.channels or self.wide(self.key), "V": self.value, "L": self.levels}[
            letter
        ]

    def held(self, letter: str) -> int:
        """The extent of an axis in memory that only kernels see: whole tiles."""
        return {"V": self.value * self.parts, "K": self.wide(self.key)}.get(letter) or self.extent(letter)

    def size(self, letter: str) -> int:
        """The number of entries that mean something."""
        return {"C": self.chunk, "K": self.key, "V": self.width}[letter]

    def ragged(self, letter: str) -> bool:
        """Whether a tile may reach beyond the data along an axis other than the positions."""
        return letter == "L" or self.held(letter) != self.size(letter)

    @property
    def operand(self) -> str:
        """The dtype of the operands of products."""
        return "tl.bfloat16" if self.mode == "bf16" else "tl.float32"

    @property
    def precise(self) -> str:
        """How float32 is multiplied in the part of a path that is worked out in more than the precision of the call."""
        return self.wide_products if self.mode == "fp16" else self.precision

    @property
    def wide_products(self) -> str:
        """How float32 is multiplied where all its digits count."""
        # AMD's matrix units multiply float32 itself
        return "ieee" if self.device == "hip" else "tf32x3"

    @property
    def precision(self) -> str:
        """How products of float32 operands are computed."""
        return self.wide_products if self.mode == "fp32" else "tf32"


Dims = tuple[tuple[int, str], ...]
"""The axes of a tile that are longer than one: position and letter."""


def tile_axes(axes: Axes) -> Axes:
    """The axes of a value that lie inside a tile of one head and one chunk."""
    if len(axes) <= 2:
        return axes[1:]
    if at_chunk_level(axes):
        return axes[3:]
    return (axes[1], *axes[3:])


def at_chunk_level(axes: Axes) -> bool:
    """Whether a value has a chunk axis rather than a token axis."""
    return len(axes) == 5 or (len(axes) == 4 and (axes[1][0] == "H" or axes[2][0] == "N" or axes[3][0] == "C"))


def head_axis(axes: Axes) -> str:
    """The head axis of a value."""
    if len(axes) <= 2:
        return axes[0]
    return axes[1] if at_chunk_level(axes) else axes[2]


def dims_of(axes: Axes) -> Dims:
    """The axes of a value's tile."""
    return tuple((i, "C" if axis[0] in "TC" else axis[0]) for i, axis in enumerate(tile_axes(axes)) if axis != "1")
