"""Tiles of a kernel in memory: their lanes, masks and addresses, and what loads them."""

from __future__ import annotations

from collections.abc import Mapping

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.chunk.program import Program
from maskdsl.codegen.kernels.buffers import Buffers
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.tile import Place, Tile
from maskdsl.codegen.kernels.tiling import Dims, Tiling, dims_of, head_axis

LANES = {"C": "c", "K": "k_", "V": "v_", "L": "l_"}
"""The names of the entries of a tile along an axis."""


class Memory:
    """The inputs and the values of earlier kernels, seen from a kernel; `head` names the head at hand."""

    def __init__(self, program: Program, tiling: Tiling, buffers: Buffers, kernel: Kernel) -> None:
        self.program, self.tiling, self.buffers, self.kernel = program, tiling, buffers, kernel
        self.types = program.types
        self.head = "h"
        self.own_lanes: set[str] = set()
        """The axes whose entries are not the same throughout the kernel."""
        self.own_parts = False
        """Whether the programs of the kernel are divided like those that leave parts of sums."""

    def assign(self, value: str, text: str) -> str:
        """A new name for an expression."""
        name = self.kernel.fresh(self.buffers.name(value))
        self.kernel.line(f"{name} = {text}")
        return name

    def dims(self, value: str) -> Dims:
        """The axes of a value's tile."""
        return dims_of(self.types[value])

    def shape(self, dims: Dims) -> str:
        """The shape of a tile, as text."""
        return "(" + "".join(f"{self.tiling.extent(letter)}, " for _, letter in dims).rstrip(" ") + ")"

    def zeros(self, dims: Dims) -> str:
        """A tile of zeros."""
        return f"tl.zeros({self.shape(dims)}, tl.float32)" if dims else "0.0"

    def dot(self, x: str, y: str, precise: bool = False) -> str:
        """The product of two operands, `precise` inside a path."""
        if self.tiling.operand == "tl.float32":
            precision = self.tiling.precise if precise else self.tiling.precision
            return f'tl.dot({x}, {y}, input_precision="{precision}")'
        return f"tl.dot({x}, {y})"

    # -- lanes and masks

    def prepare(self, place: Place) -> None:
        """Write the positions of a place, once."""
        if place.ready:
            return
        place.ready = True
        size, rows = self.tiling.chunk, place.rows
        self.lane("C")
        back = " - shift" if self.kernel.laid else ""
        self.kernel.line(f"{rows} = {place.chunk} * {size} + c{back}")
        self.kernel.line(f"start_{place.chunk} = tl.cast({place.chunk}, tl.int64) * {size}{back}")
        bounds = [f"({rows} < {self.kernel.size('T')})"]
        if place.beside or self.kernel.laid:
            bounds.insert(0, f"({rows} >= 0)")
        if self.tiling.extent("C") != size:
            bounds.append(f"(c < {size})")
        self.kernel.line(f"{place.inside} = {' & '.join(bounds)}")

    def lane(self, letter: str) -> str:
        """The name of the entries of a tile along an axis, written at the top of the kernel."""
        name = LANES[letter]
        if name not in self.kernel.tops and letter not in self.own_lanes:
            self.kernel.tops[name] = f"{name} = {self._entries(letter)}"
        return name

    def lane_here(self, letter: str) -> None:
        """Write the entries of a tile along an axis at the place reached, where tiles follow each other in a loop."""
        self.own_lanes.add(letter)
        self.kernel.line(f"{LANES[letter]} = {self._entries(letter)}")

    def _entries(self, letter: str) -> str:
        extent = self.tiling.extent(letter)
        text = f"tl.arange(0, {extent})"
        if letter == "K" and self.tiling.key_parts > 1:
            return f"kt * {extent} + {text}"
        if letter == "V" and self.tiling.parts > 1:
            return f"vt * {extent} + {text}"
        return text

    def mask(self, letter: str, place: Place) -> str | None:
        """Which entries along an axis mean something, or None where all do."""
        if letter == "C":
            self.prepare(place)
            return place.inside
        if not self.tiling.ragged(letter):
            return None
        limit = self.kernel.size("L") if letter == "L" else str(self.tiling.size(letter))
        return f"({self.lane(letter)} < {limit})"

    def masks(self, dims: Dims, place: Place, letters: str = "CKVL") -> str | None:
        """The mask of a tile, as text."""
        found = []
        for at, (_, letter) in enumerate(dims):
            text = self.mask(letter, place) if letter in letters else None
            if text:
                found.append(text if len(dims) == 1 else f"{text}[:, None]" if at == 0 else f"{text}[None, :]")
        return " & ".join(found) if found else None

    def offsets(self, dims: Dims, steps: Mapping[int, str]) -> str:
        """Offsets of a tile's entries; `steps` gives, for each axis, `entries * stride`."""
        found = []
        for at, _ in enumerate(dims):
            text = steps[at]
            found.append(text if len(dims) == 1 else f"({text})[:, None]" if at == 0 else f"({text})[None, :]")
        return " + ".join(found)

    def clean(self, name: str, text: str, dims: Dims, place: Place, dirty: str) -> str:
        """An expression made zero along the axes `dirty` (letters) where it lies beyond the data."""
        mask = self.masks(dims, place, dirty)
        return self.assign(name, f"tl.where({mask}, {text}, 0.0)" if mask else text)

    # -- loads

    def head_of(self, axes: Axes) -> str:
        """The head of a value, for the head at hand."""
        ratio = ax.ratio(head_axis(axes))
        return self.head if ratio == 1 else f"({self.head} // {ratio})"

    def load(self, load: ops.Load, value: str, place: Place) -> Tile:
        """An input of the call."""
        name, axes, dims = self.buffers.name(value), self.types[value], dims_of(self.types[value])
        kernel = self.kernel
        pointer = kernel.pointer(name)
        head = self.head_of(axes)
        if len(axes) <= 2:
            text = f"{pointer} + {head}" if len(axes) == 1 else f"{pointer} + {head} * {name}_h + {self.lane('K')}"
            if len(axes) == 2:
                kernel.parameter(f"{name}_h", f"{name}.stride(0)")
            mask = self.masks(dims, place)
            return Tile(
                self.assign(
                    f"{name}_in", f"tl.load({text}{f', mask={mask}, other=0.0' if mask else ''}).to(tl.float32)"
                ),
                dims,
            )
        base, steps = self.token(value, place)
        text = f"tl.load({base} + {self.offsets(dims, steps)}, mask={self.masks(dims, place)}, other=0.0)"
        return Tile("", dims, operand=self.assign(f"{name}_in", text), given=True)

    def token(self, value: str, place: Place) -> tuple[str, dict[int, str]]:
        """The address of the first entry of an input's tile, and the steps along its axes.

        One offset in 64 bits leads to the tile, and 32 bits are enough inside it.
        """
        name, axes, kernel = self.buffers.name(value), self.types[value], self.kernel
        pointer, head, varying = kernel.pointer(name), self.head_of(axes), axes[-1] not in ("K", "V")
        row = f"token * {name}_t" if kernel.packed else f"b * {name}_b"
        if not kernel.packed:
            kernel.parameter(f"{name}_b", f"{name}.stride(0)", varying=varying)
        kernel.parameter(f"{name}_t", f"{name}.stride(1)", varying=varying)
        steps = {0: f"c * {name}_t"}
        if len(axes) == 4:
            head = f"{head} * {kernel.parameter(f'{name}_h', f'{name}.stride(2)', varying=varying)}"
            steps[1] = self.lane(axes[3])
        self.prepare(place)
        return f"{pointer} + ({row} + {head} + start_{place.chunk} * {name}_t)", steps

    def stored(self, value: str, place: Place) -> Tile:
        """A value that an earlier kernel has left in memory."""
        dims = self.dims(value)
        where = self.buffers.base(self.kernel, value, place.chunk, self.head_of(self.types[value])) + self.inner(dims)
        extra = ""
        if place.beside:
            # a mask of as many entries as the tile has rows
            chunk = (
                f"({place.chunk} + 0 * {self.lane(dims[0][1])}){'[:, None]' * (len(dims) == 2)}"
                if dims
                else place.chunk
            )
            extra = f", mask=({chunk} >= 0) & ({chunk} < {self.kernel.size('N')}), other=0.0"
        buffer = self.buffers.kept[value]
        if buffer.count == 1:
            return Tile("", dims, operand=self.assign(value, f"tl.load({where}{extra})"))
        step = self.buffers.part_step(self.kernel, buffer)
        if self.own_parts:
            # the program that left a part takes it up again
            raw = self.assign(value, f"tl.load({where} + {self.buffers.part(buffer.parts)} * {step}{extra})")
            return Tile("", dims, frozenset(buffer.parts), operand=raw)
        name = self.assign(value, f"tl.load({where}{extra}).to(tl.float32)")
        with self.kernel.block(f"for part in range(1, {buffer.count}):"):
            self.kernel.line(f"{name} += tl.load({where} + part * {step}{extra})")
        return Tile(name, dims)

    def inner(self, dims: Dims) -> str:
        """The offsets of a tile in memory that only kernels see."""
        steps, stride = {}, 1
        for at, (_, letter) in reversed(list(enumerate(dims))):
            lane = self.lane(letter)
            steps[at] = lane if stride == 1 else f"{lane} * {stride}"
            stride *= self.tiling.held(letter)
        return f" + {self.offsets(dims, steps)}" if dims else ""
