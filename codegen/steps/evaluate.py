"""Values of a step as tiles: one line an operation, made where they are first needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import sympy

from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.sizes import with_sizes
from maskdsl.codegen.steps.memory import Memory
from maskdsl.codegen.steps.tile import Place, Tile, joined
from maskdsl.scalar.printers import to_triton
from maskdsl.schedule.token import StepConfiguration, StepPlan

ALIASES = (ops.Align, ops.Expand, ops.Repeat, ops.Transpose)
"""Operations that move or repeat entries: the same tile, whose axes have an order of their own."""


class Evaluator(Memory, ABC):
    """Writes values; sums over levels and over slots are what `reduce` writes."""

    def __init__(self, plan: StepPlan, configuration: StepConfiguration, kernel: Kernel) -> None:
        super().__init__(plan, configuration, kernel)
        self.maker = {r: i for i in plan.program.instructions for r in i.results}
        self.root = Place()
        self.nearest = Place(level=Tile("0"))
        """Where the weight of level 0 is."""
        self._origin = ""

    def assign(self, name: str, text: str) -> str:
        """A new name for an expression, under a comment where what it is for changes."""
        maker = self.maker.get(name)
        if maker and not isinstance(maker.op, ops.Load) and maker.origin != self._origin:
            self._origin = maker.origin
            self.kernel.line(f"# -- {maker.origin}")
        return super().assign(name, text)

    def tile(self, value: str, place: Place) -> Tile:
        """The tile of a value at a place; what does not differ by level or slot is made once, for all places."""
        place = place if self.varies(value) else self.root
        if value not in place.tiles:
            place.tiles[value] = self._make(self.maker[value], value, place)
        return place.tiles[value]

    def varies(self, value: str) -> bool:
        """Whether a value differs by level or by slot."""
        return any(axis[0] in "LMR" for axis in self.types[value])

    def hoist(self, values: Iterable[str]) -> None:
        """Make, before a loop, all that `values` need in it but what differs by level or slot."""
        for value in self._fixed(values, set()):
            self.tile(value, self.root)

    def _fixed(self, values: Iterable[str], seen: set[str]) -> Iterator[str]:
        for value in values:
            if value in seen:
                continue
            seen.add(value)
            if not self.varies(value):
                yield value
            else:
                operands = self.maker[value].operands
                yield from self._fixed((x for x in operands if not self._is_position(x)), seen)

    @abstractmethod
    def reduce(self, instruction: Instruction, place: Place) -> Tile:
        """A sum over levels or slots."""

    # -- operations

    def _make(self, instruction: Instruction, value: str, place: Place) -> Tile:
        op, x = instruction.op, instruction.operands
        match op:
            case ops.Load():
                return self.load(op, value, place)
            case ops.Constant(expr):
                return self._constant(expr, value)
            case ops.Split():
                return self.tile(x[0], self.nearest if value == instruction.results[0] else place)
            case ops.Cast(False) if (log := self._log(x[0])) is not None:
                return self.narrow_exp(self.tile(log, place), place)
            case ops.Cast(wide):
                tile = self.tile(x[0], place)
                return Tile(self.assign(value, f"{tile.name}.to(tl.float{64 if wide else 32})"), tile.axes)
            case ops.Map(expr):
                return self._map(expr, x, value, place)
            case ops.Sum(dims):
                axes = {self.types[x[0]][dim] for dim in dims}
                return self.reduce(instruction, place) if "M" in axes else self._sum(axes, x[0], value, place)
            case ops.Dot():
                return self._dot(op, instruction, place)
            case ops.SelectSlots(slots, base, admissibility):
                return self._slot_weights(instruction, f"{slots}, {base}, {admissibility == 'strong'}", place)
        if isinstance(op, ALIASES):
            return self.tile(x[0], place)
        raise TypeError(f"{op} has no tile")

    def narrow_exp(self, log: Tile, place: Place) -> Tile:
        """exp of a tile in float64, in float32; made once at a place."""
        text = f"tiles.narrow_exp({log.name})"
        if text not in place.tiles:
            place.tiles[text] = Tile(self.assign("factor", text), log.axes)
        return place.tiles[text]

    def _log(self, value: str) -> str | None:
        """What a value is exp of."""
        maker = self.maker[value]
        return maker.operands[0] if maker.op == ops.Map(sympy.exp(ops.argument(0))) else None

    def _constant(self, expr: sympy.Expr, value: str) -> Tile:
        expr, names = with_sizes(expr, self.sizes, self.kernel)
        return Tile(self.assign(value, f"tl.full((), {to_triton(expr, names)}, tl.float32)"))

    def _map(self, expr: sympy.Expr, operands: tuple[str, ...], value: str, place: Place) -> Tile:
        if not operands:
            return self._constant(expr, value)
        tiles = [self.tile(x, place) for x in operands]
        axes = joined(*tiles)
        expr, names = with_sizes(expr, self.sizes, self.kernel)
        names |= {ops.argument(n).name: tile.among(axes) for n, tile in enumerate(tiles)}
        return Tile(self.assign(value, to_triton(expr, names)), axes)

    def _sum(self, axes: set[str], x: str, value: str, place: Place) -> Tile:
        tile = self.tile(x, place)
        for axis in sorted(axes - {"1"}):
            tile = self._over(axis, self.whole(tile, axis))
        return Tile(self.assign(value, tile.name), tile.axes)

    def _over(self, axis: str, tile: Tile) -> Tile:
        """The sum over an axis, of entries that mean something."""
        return Tile(f"tl.sum({self.inside(axis, tile)}, {tile.axes.index(axis)})", tile.axes.replace(axis, ""))

    def inside(self, axis: str, tile: Tile) -> str:
        """A tile with zeros beyond the end of an axis."""
        mask = self.mask(axis) if axis in "KV" else None
        return f"tl.where({mask.among(tile.axes)}, {tile.name}, 0.0)" if mask else tile.name

    def _dot(self, op: ops.Dot, instruction: Instruction, place: Place) -> Tile:
        x = instruction.operands[0]
        axis = self.types[x][-2 if op.transpose_x else -1][0]
        if axis == "R":
            return self.reduce(instruction, place)
        return self.product(instruction, axis, place)

    def product(self, instruction: Instruction, axis: str, place: Place) -> Tile:
        """A product that contracts `axis`, entry by entry: one row is no work for matrix units."""
        left, right = (self.tile(x, place) for x in instruction.operands)
        axes = joined(left, right)
        tile = Tile(f"{left.among(axes)} * {right.among(axes)}", axes)
        if axis != "1":
            tile = self._over(axis, self.whole(tile, axis))
        return Tile(self.assign(instruction.results[0], tile.name), tile.axes)

    def _slot_weights(self, instruction: Instruction, constants: str, place: Place) -> Tile:
        assert place.slot is not None, "weights of slots are chosen where these are"
        count = self.kernel.size("L")
        text = f"tiles.slot_levels({self.position()}, {place.slot.name}, {count}, {constants})"
        there = Place(level=Tile(self.assign("seen", text), place.slot.axes))
        return self.tile(instruction.operands[1], there)

    def _is_position(self, value: str) -> bool:
        return self.types[value] == ("B",)
