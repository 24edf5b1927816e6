"""A kernel over chunks: all values of one phase, for one chunk and a few heads a program."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.tile import Place, Tile
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
        self.uses: Counter[str] = Counter()
        self.parts: dict[str, tuple[str, ...]] = {}
        """The parts of the sums that outputs turned out to be."""

    def write(self) -> None:
        """Write the body of the kernel."""
        emit, kernel, heads = self.emit, self.emit.kernel, self.emit.tiling.heads
        emit.own_parts = True
        wanted = list(dict.fromkeys([*(o.value for o in self.outputs), *self.stored]))
        if heads == 1:
            kernel.line("h = h0")
            self._write_in_order(wanted)
            return
        needed = self._needed(wanted)
        after = self._after(needed)
        self.uses = self._uses(needed, wanted)
        emit.head = "h0"
        emit.prepare(self.place)  # a name that a loop makes first is not known after it
        for value in needed:
            if self._shared(value) and value not in after and self._used_by_heads(value, needed, after):
                emit.tile(value, self.place)
        sums = [v for v in needed if isinstance(emit.maker[v].op, ops.GroupSum) and v not in emit.available]
        for value in sums:
            self.sums[value] = emit.assign(value, emit.zeros(emit.dims(value)))
        if sums or not all(self._of_group(value) for value in wanted):
            self._loop(wanted, sums)
        emit.head = "h0"
        for value in wanted:
            if self._of_group(value):
                self._write(value)

    def _write_in_order(self, wanted: list[str]) -> None:
        """Write the values, each time what takes the fewest products more: registers are free again soon.

        So are those of a large tile once what is narrow has been made of it, and it is added where it has to be.
        """
        emit, place = self.emit, self.place
        needed = [value for value in self._needed(wanted) if value not in emit.available or value in wanted]
        steps: dict[tuple[str, int], set[str]] = {(value, -1): self._behind(value) for value in wanted}
        sums = {}
        several = not emit.precise and sum(self._is_state(x) for x in self._needed(wanted)) > 1
        for value in needed:
            if self._narrows(value):
                steps.setdefault((value, -1), self._behind(value))
            sums[value] = sorted(self._terms(value, needed), key=lambda term: len(self._behind(term)))
            for number, term in enumerate(sums[value]):
                steps[value, number] = self._behind(term)
        made: set[str] = set()
        while steps:
            step = min(steps, key=lambda each: self._rank(each, len(steps[each] - made)))
            made |= steps.pop(step)
            value, number = step
            if number >= 0:
                emit.add(value, sums[value], place)
            elif value in wanted:
                self._write(value)
            else:
                emit.tile(value, place)
            for x in emit.available & place.tiles.keys():
                if self._over_state(value) or (several and self._is_state(x)):
                    # loading states again, from cache, costs less than keeping them
                    del place.tiles[x]

    def _rank(self, step: tuple[str, int], products: int) -> tuple[bool, int, bool]:
        """What comes first: sums over whole states, which fill the registers; of other values the large ones wait."""
        value, number = step
        return not self._over_state(value), products, number < 0 and len(self.emit.dims(value)) == 2

    def _narrows(self, value: str) -> bool:
        """Whether a value of positions, or less, is made of a tile that is larger."""
        emit = self.emit
        operands = emit.maker[value].operands if value not in emit.available else ()
        return len(emit.dims(value)) < 2 and any(len(emit.dims(x)) == 2 for x in operands)

    def _is_state(self, value: str) -> bool:
        """Whether a value is a whole state."""
        return [letter for _, letter in self.emit.dims(value)] == ["K", "V"]

    def _over_state(self, value: str) -> bool:
        """Whether a value is a sum over a whole state."""
        operands = self.emit.maker[value].operands if self._narrows(value) else ()
        return any(self._is_state(x) for x in operands)

    def _terms(self, value: str, needed: list[str]) -> list[str]:
        """The terms of a sum of large tiles, some of which are products, but for those that belong to a larger sum.

        Of a path: its products are in three parts, and each term is done with before the next. Elsewhere terms that
        are made early would only wait for the others.
        """
        emit = self.emit
        if not emit.precise or emit.tiling.parts > 1 or emit.tiling.key_parts > 1 or not self._adds(value):
            return []
        found: list[str] = []
        pending = [value]
        while pending:
            for x in emit.maker[pending.pop()].operands:
                users = [v for v in needed if x in emit.maker[v].operands]
                inner = x in needed and len(users) == 1 and self._adds(x)
                (pending if inner else found).append(x)
        outer = [v for v in needed if value in emit.maker[v].operands]
        inside = len(outer) == 1 and self._adds(outer[0])
        return [] if inside or sum(bool(self._behind(x)) for x in found) < 2 else found

    def _adds(self, value: str) -> bool:
        """Whether a value is a sum of tiles of its own size."""
        emit, maker = self.emit, self.emit.maker[value]
        total = sympy.Add(*(ops.argument(i) for i in range(len(maker.operands))))
        sums = isinstance(maker.op, ops.Map) and len(maker.operands) > 1 and maker.op.expr == total
        return sums and len(emit.dims(value)) == 2 and all(emit.types[x] == emit.types[value] for x in maker.operands)

    def _behind(self, value: str) -> set[str]:
        """The products that the kernel works out for a value."""
        emit = self.emit
        pending, seen = [value], set()
        while pending:
            current = pending.pop()
            if current not in seen:
                seen.add(current)
                pending.extend(x for x in emit.maker[current].operands if x not in emit.available)
        return {x for x in seen if isinstance(emit.maker[x].op, ops.Dot)}

    def _loop(self, wanted: list[str], sums: list[str]) -> None:
        emit, kernel, heads = self.emit, self.emit.kernel, self.emit.tiling.heads
        before = dict(self.place.tiles)
        parts: dict[str, frozenset[str]] = {}
        inner = {value: self._inner(emit.maker[value].operands[0]) for value in sums}
        for value, (tile, scaling) in inner.items():
            if isinstance(emit.maker[tile].op, ops.WalkAdjoint):
                emit.targets[tile] = self.sums[value], scaling
        with kernel.block(f"for h in range(h0, h0 + {heads}):"):
            emit.head = "h"
            for value in wanted:
                if not self._of_group(value):
                    self._write(value)
            for value in sums:
                tile, scaling = inner[value]
                if tile in emit.targets:
                    parts[value] = emit.tile(tile, self.place).parts
                elif isinstance(emit.maker[tile].op, ops.Dot) and self._inside(tile):
                    parts[value] = emit.add_dot(self.sums[value], tile, scaling, self.place)
                else:
                    added = emit.value(emit.maker[value].operands[0], self.place)
                    kernel.line(f"{self.sums[value]} += {added.name}")
                    parts[value] = added.parts
        self.place.tiles = before
        self.place.scaled, self.place.shifted = {}, {}
        for value in sums:
            ratio = emit.maker[value].op.ratio  # type: ignore[attr-defined]
            self.place.tiles[value] = Tile(self.sums[value], emit.dims(value), parts[value] | {f"H/{ratio}"})

    def _inner(self, value: str) -> tuple[str, tuple[str, ...]]:
        """What a summand is but for factors of its rows, and the values on the way that scale it.

        It is the summand itself unless the tile inside is one that a product can be added to where it is made, and
        nothing else uses it.
        """
        emit, scaling, current = self.emit, [], value
        while current not in emit.available and self.uses[current] == 1:
            unscaled = emit.unscaled(emit.maker[current])
            if unscaled is None:
                break
            scaling.append(current)
            current = unscaled
        return (current, tuple(scaling)) if self._inside(current) else (value, ())

    def _inside(self, value: str) -> bool:
        """Whether a value is a sum of products, used once, that can go straight into a sum over heads."""
        emit, maker = self.emit, self.emit.maker[value]
        if value in emit.available or self.uses[value] != 1 or value in self.place.tiles:
            return False
        if isinstance(maker.op, ops.WalkAdjoint):
            return emit.types[maker.operands[2]][-2] != "K"
        return isinstance(maker.op, ops.Dot) and not maker.op.transpose_x and emit.dims(value)[1][1] != "C"

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

    def _uses(self, needed: list[str], wanted: Iterable[str]) -> Counter[str]:
        """How many instructions, and stores, of the kernel use a value."""
        makers = {self.emit.maker[v].results: self.emit.maker[v] for v in needed if v not in self.emit.available}
        return Counter([*(x for i in makers.values() for x in i.operands), *wanted])

    def _after(self, needed: list[str]) -> set[str]:
        """What depends on sums over heads."""
        emit = self.emit
        after: set[str] = set()
        for value in needed:
            maker = emit.maker[value]
            if value not in emit.available and (isinstance(maker.op, ops.GroupSum) or after & set(maker.operands)):
                after.add(value)
        return after

    def _used_by_heads(self, value: str, needed: list[str], after: set[str]) -> bool:
        """Whether something of single heads needs a value; for the rest it is made after them."""
        users = [u for u in needed if value in self.emit.maker[u].operands and u not in self.emit.available]
        return any(not self._shared(u) for u in users)

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
        row = "token" if kernel.packed else f"b * {kernel.size('T')}"
        first = f"(({row} + start_n) * {heads} + {emit.head_of(axes)})"
        steps = {0: f"c * {heads}"}
        if len(axes) == 4:
            width = kernel.size("L") if axes[3] == "L" else str(emit.tiling.size(axes[3]))
            first, steps = f"{first} * {width}", {0: f"c * ({heads} * {width})", 1: emit.lane(axes[3])}
        address = f"{kernel.pointer(output.name)} + {first} + ({emit.offsets(tile.dims, steps)})"
        part = buffers.part(parts)
        if part != "0":
            address += (
                f" + {part} * {kernel.parameter(f'{output.name}_part', f'{output.name}.stride(0)', varying=True)}"
            )
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
