"""Values of the chunk IR in registers, and the places where they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskdsl.codegen.kernels.tiling import Dims

Parts = frozenset[str]
"""Over what a tile is only a part of a sum: "V" over programs for other columns of V, "H/r" over groups of heads."""


@dataclass(frozen=True)
class Tile:
    """A value in registers, of rank len(dims): the tile `name` times, where there are `rows`, a factor a row.

    `name` is float32; for what was loaded in another dtype it is made on first use. `operand` is the name, without
    `rows`, of the same in the dtype that it was loaded in, or in that of operands. `given` tells that this is an input
    of the call, which nobody has rounded.
    """

    name: str
    dims: Dims
    parts: Parts = frozenset()
    operand: str | None = None
    rows: str | None = None
    given: bool = False

    def among(self, dims: Dims) -> str:
        """The tile as an operand beside others, in an expression whose result has `dims`."""
        if len(self.dims) in (0, len(dims)):
            return self.name
        return f"{self.name}[:, None]" if self.dims[0] == dims[0] else f"{self.name}[None, :]"


@dataclass
class Place:
    """Where values are made: a chunk, by the name of its number, and the tiles that exist there.

    `beside` tells that the chunk may lie before the first one or after the last.
    """

    chunk: str
    beside: bool = False
    tiles: dict[str, Tile] = field(default_factory=dict)
    scaled: dict[str, str] = field(default_factory=dict)
    sums: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    """What has been added up of a sum, and the terms that are left."""
    ready: bool = False
    shifted: dict[int, Place] = field(default_factory=dict)

    @property
    def rows(self) -> str:
        """The positions of the chunk."""
        return f"t_{self.chunk}"

    @property
    def inside(self) -> str:
        """Which of them lie in the sequence."""
        return f"in_{self.chunk}"
