"""A kernel over chunks: all values of one phase, for one chunk and a few heads a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.codegen.kernels.evaluate import Evaluator, Place, Tile
from maskdsl.codegen.kernels.tiling import head_axis


@dataclasses.dataclass(frozen=True)
class Output:
    """A value that a kernel writes to a tensor of the user's, [B, T, heads, X]; `name` is that of the tensor."""

    name: str
    value: str


class ChunksKernel:
    """Writes outputs, and the values that later kernels load."""

    def __init__(self, emit: Evaluator, outputs: Iterable[Output], stored: Iterable[str]) -> None:
        self.emit, self.outputs, self.stored = emit, tuple(outputs), tuple(stored)
        self.place = Place("n")
        self.sums: dict[str, str] = {}
        self.parts: dict[str, tuple[str, ...]] = {}
        """The parts of the sums that outputs turned out to be."""

    def write(self) -> None:
        """Write the body of the kernel."""
        emit, kernel, heads = self.emit, self.emit.kernel, self.emit.tiling.heads
        emit.own_parts = True
        wanted = [o.value for o in self.outputs] + list(self.stored)
        if heads == 1:
            kernel.line("h = h0")
            for value in wanted:
                self._write(value)
            return
        needed = self._needed(wanted)
        after = self._after(needed)
        emit.head = "h0"
        for value in needed:
            if self._shared(value) and value not in after and self._used_by_heads(value, needed, after):
                emit.tile(value, self.place)
        sums = [v for v in needed if isinstance(emit.maker[v].op, ops.GroupSum)]
        for value in sums:
            self.sums[value] = emit.assign(value, emit.zeros(emit.dims(value)))
        self._loop(wanted, sums)
        emit.head = "h0"
        for value in wanted:
            if self._of_group(value):
                self._write(value)

    def _loop(self, wanted: list[str], sums: list[str]) -> None:
        emit, kernel, heads = self.emit, self.emit.kernel, self.emit.tiling.heads
        before = dict(self.place.tiles)
        parts: dict[str, frozenset[str]] = {}
        with kernel.block(f"for h in range(h0, h0 + {heads}):"):
            emit.head = "h"
            for value in wanted:
                if not self._of_group(value):
                    self._write(value)
            for value in sums:
                (operand,) = emit.maker[value].operands
                tile = emit.value(operand, self.place)
                kernel.line(f"{self.sums[value]} += {tile.name}")
                parts[value] = tile.parts
        self.place.tiles = before
        for value in sums:
            ratio = emit.maker[value].op.ratio  # type: ignore[attr-defined]
            self.place.tiles[value] = Tile(self.sums[value], emit.dims(value), parts[value] | {f"H/{ratio}"})

    def _needed(self, wanted: Iterable[str]) -> list[str]:
        """All values that the kernel makes or loads, in the program's order."""
        emit, pending, seen = self.emit, list(wanted), set()
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            if value not in emit.available:
                pending.extend(emit.maker[value].operands)
        return [r for i in emit.program.instructions for r in i.results if r in seen]

    def _after(self, needed: list[str]) -> set[str]:
        """What depends on sums over heads."""
        emit = self.emit
        after: set[str] = set()
        for value in needed:
            maker = emit.maker[value]
            if isinstance(maker.op, ops.GroupSum) or (value not in emit.available and after & set(maker.operands)):
                after.add(value)
        return after

    def _used_by_heads(self, value: str, needed: list[str], after: set[str]) -> bool:
        """Whether something of single heads, or of what comes after the sums, needs a value."""
        users = [u for u in needed if value in self.emit.maker[u].operands and u not in self.emit.available]
        return any(not self._shared(u) or u in after for u in users)

    def _shared(self, value: str) -> bool:
        """Whether a value is the same for all heads of a program."""
        axis = head_axis(self.emit.types[value])
        return axis == "1" or (axis.startswith("H/") and ax.ratio(axis) % self.emit.tiling.heads == 0)

    def _of_group(self, value: str) -> bool:
        """Whether a value is written once for a group of heads."""
        return self._shared(value) and head_axis(self.emit.types[value]) != "1"

    def _write(self, value: str) -> None:
        emit = self.emit
        # what is stored is made here, whoever else has left it in memory
        tile = emit.value(value, self.place)
        for output in self.outputs:
            if output.value == value:
                self._put(output, tile)
        if value in self.stored:
            self._keep(value, tile)

    def _keep(self, value: str, tile: Tile) -> None:
        emit, buffers, kernel = self.emit, self.emit.buffers, self.emit.kernel
        if value not in buffers.kept:
            buffers.keep(value, buffers.real_parts(tile))
        buffer = buffers.kept[value]
        address = buffers.base(kernel, value, "n", emit.head_of(emit.types[value])) + emit.inner(tile.dims)
        part = buffers.part(buffer.parts)
        if part != "0":
            address += f" + {part} * {buffers.part_step(kernel, buffer)}"
        self._store(address, tile, None, ax.ratio(head_axis(emit.types[value])))

    def _put(self, output: Output, tile: Tile) -> None:
        emit, buffers, kernel = self.emit, self.emit.buffers, self.emit.kernel
        axes = emit.types[output.value]
        ratio = ax.ratio(axes[2])
        parts = buffers.real_parts(tile)
        self.parts[output.name] = parts
        heads = kernel.size("H") if ratio == 1 else f"({kernel.size('H')} // {ratio})"
        emit.prepare(self.place)
        first = f"((b * {kernel.size('T')} + start_n) * {heads} + {emit.head_of(axes)})"
        steps = {0: f"c * {heads}"}
        if len(axes) == 4:
            width = kernel.size("L") if axes[3] == "L" else str(emit.tiling.size(axes[3]))
            first, steps = f"{first} * {width}", {0: f"c * ({heads} * {width})", 1: emit.lane(axes[3])}
        address = f"{kernel.pointer(output.name)} + {first} + ({emit.offsets(tile.dims, steps)})"
        part = buffers.part(parts)
        if part != "0":
            address += f" + {part} * {kernel.parameter(f'{output.name}_part', f'{output.name}.stride(0)', varying=True)}"
        self._store(address, tile, emit.masks(tile.dims, self.place), ratio)

    def _store(self, address: str, tile: Tile, mask: str | None, ratio: int) -> None:
        kernel = self.emit.kernel
        text = f"tl.store({address}, {tile.name}{f', mask={mask}' if mask else ''})"
        only = self.emit.buffers.only(tile, ratio)
        if only:
            with kernel.block(f"if {only}:"):
                kernel.line(text)
        else:
            kernel.line(text)

