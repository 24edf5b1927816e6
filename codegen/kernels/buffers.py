"""Where values lie in memory that only kernels see: names, layouts and the parts of sums."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.program import Program
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.names import names_of
from maskdsl.codegen.kernels.tiling import Tiling, dims_of, head_axis
from maskdsl.schedule.kinds import linear
from maskdsl.schedule.systems import rounded_factors

if TYPE_CHECKING:
    from maskdsl.codegen.kernels.tile import Tile


@dataclass(frozen=True)
class Buffer:
    """A tensor [parts, B, heads, rows, entries].

    `rows` is the host's expression; `row` says, with `{n}` for the chunk, which row the value of a chunk has. `state`
    tells the dtype of states from float32.
    """

    name: str
    ratio: int
    entries: int
    state: bool
    parts: tuple[str, ...] = ()
    rows: str = "N"
    row: str = "{n}"
    count: int = 1
    """How many parts there are."""


class Buffers:
    """The buffers of a program, by the value that they hold."""

    def __init__(self, program: Program, tiling: Tiling, gradients: Collection[str], precise: frozenset[str]) -> None:
        # rounded to operands in any case
        self.narrow = {r for i in program.instructions if i.op == ops.Cast(wide=False) for r in i.results}
        self.narrow |= rounded_factors(program, precise)
        self.narrow -= {value for value in self.narrow if len(dims_of(program.types[value])) < 2}
        # what systems are solved for is rounded by nobody; where they are not either, no gradient is
        scans = [i for i in program.instructions if isinstance(i.op, ops.SolvedScan)]
        exact = any(i.operands[4] in precise for i in scans)
        solved = {i.operands[3] for i in scans} & precise
        self.linear = frozenset[str]() if exact else linear(program, gradients) - solved
        self.precise = precise
        self.tiling, self.types = tiling, program.types
        self.names = names_of(self.types)
        self.kept: dict[str, Buffer] = {}

    def tiled(self, tiling: Tiling) -> Buffers:
        """The same buffers, seen by programs of other tiles."""
        other = copy.copy(self)
        other.tiling = tiling
        return other

    def name(self, value: str) -> str:
        """The name of a value in generated text."""
        return self.names.get(value, value)

    def keep(self, value: str, parts: tuple[str, ...] = (), rows: str = "N", row: str = "{n}") -> Buffer:
        """The buffer of a value, by default of one row a chunk."""
        letters = [letter for _, letter in dims_of(self.types[value])]
        entries = math.prod(self.tiling.held(letter) for letter in letters)
        # states, and pairs of positions, are operands of products in any case
        state = len(letters) == 2 and (value in self.linear or letters in (["K", "V"], ["K", "K"], ["C", "C"]))
        # in the precise part of a path pairs are not rounded
        state = (state and not (value in self.precise and letters == ["C", "C"])) or value in self.narrow
        ratio = ax.ratio(head_axis(self.types[value]))
        buffer = Buffer(self.name(value), ratio, entries, state, parts, rows, row, self.count(parts))
        self.kept[value] = buffer
        return buffer

    def allocation(self, buffer: Buffer) -> str:
        """The host's line that makes a buffer."""
        heads = "at.H" if buffer.ratio == 1 else f"at.H // {buffer.ratio}"
        shape = f"{buffer.count}, at.B, {heads}, {buffer.rows}, {buffer.entries}"
        return f"{buffer.name} = at.{'state' if buffer.state else 'float'}({shape})"

    def count(self, parts: tuple[str, ...]) -> int:
        """How many parts a sum has."""
        return math.prod(self._each(part)[1] for part in parts)

    def base(self, kernel: Kernel, value: str, chunk: str, head: str) -> str:
        """The address of a value of one chunk and head, of its first part."""
        buffer = self.kept[value]
        return self.address(kernel, buffer, buffer.row.format(n=chunk), head)

    def address(self, kernel: Kernel, buffer: Buffer, row: str, head: str) -> str:
        """The address of a row of a buffer."""
        pointer = kernel.pointer(buffer.name)
        entries = f" * {buffer.entries}" if buffer.entries > 1 else ""
        if kernel.packed:
            first = f"{head} * {kernel.parameter('slots', 'N', varying=True)} + origin"
            if buffer.rows != "N":
                first = f"({first}) * {self.per_chunk(kernel, buffer)}"
            return f"{pointer} + ({first} + {row}){entries}"
        heads = kernel.size("H") if buffer.ratio == 1 else f"({kernel.size('H')} // {buffer.ratio})"
        rows = (
            kernel.size("N")
            if buffer.rows == "N"
            else kernel.parameter(f"{buffer.name}_rows", f"{buffer.name}.shape[3]", varying=True)
        )
        return f"{pointer} + ((b * {heads} + {head}) * {rows} + {row}){entries}"

    @staticmethod
    def per_chunk(kernel: Kernel, buffer: Buffer) -> str:
        """How many rows of a buffer a chunk has."""
        return kernel.parameter(f"{buffer.name}_per", f"{buffer.name}.shape[3] // N", varying=True)

    def part_step(self, kernel: Kernel, buffer: Buffer) -> str:
        """How far apart the parts of a sum lie."""
        rows = kernel.parameter(f"{buffer.name}_part", f"{buffer.name}.stride(0) // {buffer.entries}", varying=True)
        return f"{rows} * {buffer.entries}"

    def part(self, parts: tuple[str, ...]) -> str:
        """The number of the part that a program has."""
        text = "0"
        for each in parts:
            index, count = self._each(each)
            text = index if text == "0" else f"({text} * {count} + {index})"
        return text

    def first(self, parts: frozenset[str]) -> str:
        """1.0 in the first of the programs that share a sum, 0.0 in the others."""
        tests = " & ".join(f"({self._each(part)[0]} == 0)" for part in sorted(parts))
        return f"tl.where({tests}, 1.0, 0.0)"

    def only(self, tile: Tile, ratio: int) -> str | None:
        """The condition under which a program is the one that stores a tile; None where all do."""
        tests = []
        if self.tiling.parts > 1 and "V" not in tile.parts and "V" not in {letter for _, letter in tile.dims}:
            tests.append("(vt == 0)")
        if ratio > self.tiling.heads and f"H/{ratio}" not in tile.parts:
            tests.append(f"(h0 % {ratio} == 0)")
        return " & ".join(tests) if tests else None

    def real_parts(self, tile: Tile) -> tuple[str, ...]:
        """The sums of a tile that have more than one part."""
        return tuple(part for part in sorted(tile.parts) if self._each(part)[1] > 1)

    def _each(self, part: str) -> tuple[str, int]:
        if part == "V":
            return "vt", self.tiling.parts
        if part == "K":
            return "kt", self.tiling.key_parts
        ratio = int(part.removeprefix("H/"))
        return f"(h0 % {ratio} // {self.tiling.heads})", ratio // self.tiling.heads
