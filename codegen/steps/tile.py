"""Values in registers, and where they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

ORDER = "MRKV"
"""The axes of tiles, in the order that they always have."""


@dataclass(frozen=True)
class Tile:
    """A value by its name, with the axes of its tile."""

    name: str
    axes: str = ""

    def among(self, axes: str) -> str:
        """The tile in an expression over `axes`, which hold its own."""
        if len(self.axes) in (0, len(axes)):
            return self.name
        return f"{self.name}[{', '.join(':' if axis in self.axes else 'None' for axis in axes)}]"


def joined(*tiles: Tile) -> str:
    """The axes of an expression over tiles."""
    return "".join(axis for axis in ORDER if any(axis in tile.axes for tile in tiles))


@dataclass
class Place:
    """Where values that differ by level or slot are made: at one level or slot, or at a tile of them.

    `there` is a mask: whether the level holds anything.
    """

    level: Tile | None = None
    slot: Tile | None = None
    there: str | None = None
    tiles: dict[str, Tile] = field(default_factory=dict)
