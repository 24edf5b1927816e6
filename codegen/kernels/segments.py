"""Segments of a scan, where sequences, heads and columns are too few to keep a GPU busy.

What a segment makes of the state S that it begins with is M S + F. One kernel finds F of all segments at once, by a
scan from zero, and another M, by one from the identity that nothing is written to. A third goes through the segments
and leaves the states that they end with. Then all segments are scanned at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.precise import halves, product
from maskdsl.codegen.kernels.tiling import Tiling

INNER = 64
"""Channels of M that a product with it takes at a time."""


@dataclass(frozen=True)
class Segments:
    """The memory `name` in which segments leave [F M], [sequences, H, crossings, K, columns].

    All segments but the last cross to another. Programs of a `tiling` have some columns of either.
    """

    name: str
    tiling: Tiling

    @property
    def matrix_tiles(self) -> int:
        """The tiles of columns of M."""
        return -(-self._rows // self.tiling.value)

    def divide(self) -> list[str]:
        """The host's lines that divide sequences, by how many programs there are without that."""
        sequences = "S" if self.tiling.packed else "B"
        return [
            f"segments = at.segments({sequences} * H * {self.tiling.parts}, N)",
            "crossings = segments - 1",
            f"{self.name} = at.float({sequences}, H, crossings, {self._rows * self._pitch})",
        ]

    def end_of(self, kernel: Kernel, segment: str, rows: str, columns: str) -> str:
        """The addresses of entries of F, or later of the state that a segment ends with."""
        crossings = kernel.parameter("crossings", "crossings", varying=True)
        first = f"((b * {kernel.size('H')} + h) * {crossings} + {segment}) * {self._rows * self._pitch}"
        return f"{kernel.pointer(self.name)} + {first} + ({rows} * {self._pitch})[:, None] + ({columns})[None, :]"

    def matrix_of(self, kernel: Kernel, segment: str, rows: str, columns: str) -> str:
        """The addresses of entries of M."""
        return self.end_of(kernel, segment, rows, f"{self._width} + {columns}")

    @property
    def _rows(self) -> int:
        return self.tiling.extent("K")

    @property
    def _width(self) -> int:
        return self.tiling.value * self.tiling.parts

    @property
    def _pitch(self) -> int:
        return self._width + self.tiling.value * self.matrix_tiles


def bounds(kernel: Kernel) -> None:
    """Write the steps of a scan that a segment takes, from `first` to before `last`."""
    segments = kernel.parameter("segments", "segments", varying=True)
    kernel.line(f"length = tl.cdiv({kernel.size('N')}, {segments})")
    kernel.line("first = segment * length")
    kernel.line(f"last = tl.minimum(first + length, {kernel.size('N')})")


def join(emit: Evaluator, _instruction: Instruction, divided: Segments) -> None:
    """The states that segments end with take the place of F, from the second one on.

    A product takes a state from memory, where all threads find all of it.
    """
    kernel, line = emit.kernel, emit.kernel.line
    k, v, extent = emit.lane("K"), emit.lane("V"), emit.tiling.extent("K")
    inner, exact = min(INNER, extent), emit.tiling.operand != "tl.float32"
    own = divided.end_of(kernel, "segment", k, v)
    with kernel.block("for segment in range(1, crossings):"):
        line(f"carried = tl.load({own})")
        with kernel.block(f"for part in range({extent // inner}):"):
            line(f"inner = part * {inner} + tl.arange(0, {inner})")
            line(f"matrix = tl.load({divided.matrix_of(kernel, 'segment', k, 'inner')})")
            line(f"state = tl.load({divided.end_of(kernel, '(segment - 1)', 'inner', v)})")
            left, right = (halves(emit, x, f"{x}_") if exact else [x] for x in ("matrix", "state"))
            line(f"carried += {product(emit, left, right)}")
        line(f"tl.store({own}, carried)")
        line("tl.debug_barrier()")
