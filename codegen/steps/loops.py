"""Loops over levels and slots: what is summed over them, and the buffers that change in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property

import sympy

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.steps.evaluate import Evaluator
from maskdsl.codegen.steps.tile import Place, Tile, joined
from maskdsl.schedule.token import StepConfiguration, StepPlan


class Loops(Evaluator):
    """Writes what the buffers of a state become, and all that is read from them."""

    def __init__(self, plan: StepPlan, configuration: StepConfiguration, kernel: Kernel) -> None:
        super().__init__(plan, configuration, kernel)
        self.kept = {self.aligned(value): name for name, value in plan.program.outputs[1:]}
        """The buffer that a value is kept in."""

    @cached_property
    def all_levels(self) -> Place:
        """Where values by level are made for all levels at once."""
        lane = self.lane("M")
        return Place(level=lane, there=f"({lane.name} < {self.kernel.size('L')})")

    def aligned(self, value: str) -> str:
        """The value that is this one but for axes of one element."""
        maker = self.maker[value]
        return self.aligned(maker.operands[0]) if isinstance(maker.op, ops.Align) else value

    def stays(self, value: str) -> bool:
        """Whether a value is what a buffer holds already."""
        return isinstance(self.maker[self.aligned(value)].op, ops.Load)

    def reduce(self, instruction: Instruction, place: Place) -> Tile:
        """A sum over the levels of a memory, or over the slots of a ring."""
        if isinstance(instruction.op, ops.Sum):
            self.regroup(self._regrouping(instruction.operands[0]))
            return self.root.tiles[instruction.results[0]]
        return self._over_slots(instruction)

    # -- levels

    def regroup(self, instruction: Instruction) -> None:
        """Go through the levels that hold anything: add up what is read of them, and move on what moves."""
        op, (_, token, states, *logs) = instruction.op, instruction.operands
        assert isinstance(op, ops.Regroup)
        sums = self._sums_over(states)
        self.hoist([*(each.operands[0] for each in sums), states, *logs])
        new = self.whole(self.tile(token, self.root), "KV").name
        folded = f"tl.zeros([{self.plan.folded}, {self.extents['V']}], tl.float32)"
        totals = [self.assign(each.results[0], folded) for each in sums]
        strong = op.admissibility == "strong"
        self._reach(op.base)
        self.kernel.line(f"carried = {new if strong else self.zeros('KV')}")
        if strong and logs:
            channels = self.extents["K"] if "K" in self.types[logs[0]] else ""
            self.kernel.line(f"carried_log = tl.zeros([{channels}], tl.float64)")
        with self._each_level(op) as level:
            for each, total in zip(sums, totals, strict=True):
                self.kernel.line(f"{total} += {self._summand(each, level)}")
            (self._shift if strong else self._join)(states, logs, level)
        for each, total in zip(sums, totals, strict=True):
            (value,) = each.results
            self.root.tiles[value] = Tile(self.assign(value, f"tl.sum({total}, 0)"), "V")
        if not strong:
            with self.kernel.block(f"if reach < {self.kernel.size('L')}:"):
                self._store_rows(states, Tile(f"(carried + {new})", "KV"), Place(level=Tile("reach")))

    @contextmanager
    def _each_level(self, op: ops.Regroup) -> Iterator[Place]:
        """The levels to go through, lowest first; without barriers, so that loads of the next run ahead."""
        line, pos, strong = self.kernel.line, self.position(), op.admissibility == "strong"
        line(f"left = tiles.held_levels({pos}, {self.kernel.size('L')} - 1, {op.base}, {strong})")
        with self.kernel.block(f"for _ in tl.range(0, tiles.count_levels(left), num_stages={self.plan.stages}):"):
            line("level = tiles.lowest_level(left)")
            line("left &= left - 1")
            if strong:
                line(f"held = {pos} >> (level - 1) > 0")
            yield Place(level=Tile("level"), there="held" if strong else None)

    def _summand(self, total: Instruction, level: Place) -> str:
        """What a level adds to a sum of products over keys: folded, as all keys are summed after all levels.

        Numbers among the factors come last, when there are fewest entries.
        """
        product = self.maker[self.aligned(total.operands[0])]
        assert isinstance(product.op, ops.Dot), "what is summed over levels is read of states"
        factors = [tile for x in product.operands for tile in self._factors(x, level)]
        products = Tile(" * ".join(tile.among("KV") for tile in factors if tile.axes), "KV")
        folded = f"tiles.folded({self.inside('K', products)}, {self.plan.folded})"
        return " * ".join([*(tile.name for tile in factors if not tile.axes), folded])

    def _factors(self, value: str, level: Place) -> list[Tile]:
        """Tiles whose product a value is."""
        op, operands = self.maker[value].op, self.maker[value].operands
        product = ops.Map(sympy.Mul(*(ops.argument(n) for n in range(len(operands)))))
        return [self.tile(x, level) for x in (operands if op == product else [value])]

    def _join(self, states: str, logs: list[str], place: Place) -> None:
        """Weak: what moves is summed, under the log 0 of the token that it joins; other rows stay where they are."""
        old = self.whole(self.tile(states, place), "KV")
        if logs:
            factor = self.narrow_exp(self.tile(logs[0], place), place)
            joins = Tile(self.assign("joins", f"tl.where(level <= reach, {factor.name}, 0.0)"), factor.axes)
            self.kernel.line(f"carried += {joins.among('KV')} * {old.name}")
            return
        with self.kernel.block("if level <= reach:"):
            self.kernel.line(f"carried += {old.name}")
        if not self.stays(states):
            with self.kernel.block("else:"):
                self._replace_rows(states, old, place)

    def _shift(self, states: str, logs: list[str], place: Place) -> None:
        """Strong: rows move one level on; the last of them meets one that stays, under the larger of both logs."""
        old = self.whole(self.tile(states, place), "KV")
        own, other = Tile("tl.where(level <= reach, 0.0, 1.0)"), Tile("tl.where(level <= reach + 1, 1.0, 0.0)")
        if logs:
            log = self.tile(logs[0], place)
            kept = Tile(self.assign("kept", self._shifted_log(log.name, "carried_log", "level")), log.axes)
            stay = self.narrow_exp(Tile(f"({log.name} - {kept.name})", log.axes), place)
            come = self.narrow_exp(Tile(f"(carried_log - {kept.name})", log.axes), place)
            own = Tile(f"tl.where(level <= reach, 0.0, {stay.name})", log.axes)
            other = Tile(f"tl.where(level <= reach + 1, {come.name}, 0.0)", log.axes)
            self.kernel.line(f"carried_log = {log.name}")
        own, other = (Tile(self.assign("share", each.name), each.axes) for each in (own, other))
        new = f"({own.among('KV')} * {old.name} + {other.among('KV')} * carried)"
        with self.kernel.block("if level <= reach + 1:") if self.stays(states) else nullcontext():
            self._replace_rows(states, Tile(new, "KV"), Place(level=place.level))
        self.kernel.line(f"carried = {old.name}")

    def _shifted_log(self, own: str, nearer: str, level: str) -> str:
        """The log of a level after rows have moved one level on."""
        larger = f"tl.where({level} == reach + 1, tl.maximum({own}, {nearer}), {own})"
        return f"tl.where({level} <= reach, {nearer}, {larger})"

    def store_logs(self, instruction: Instruction) -> None:
        """The logs of all levels, once nobody has to read them any more."""
        op, (*_, logs), value = instruction.op, instruction.operands, instruction.results[1]
        assert isinstance(op, ops.Regroup)
        self.hoist([logs])
        self._reach(op.base)
        limit, lane, place = self.kernel.size("L"), self.lane("M"), self.all_levels
        own = self.whole(self.tile(logs, place), "M")
        new = f"tl.where({Tile(f'({lane.name} <= reach)', 'M').among(own.axes)}, 0.0, {own.name})"
        if op.admissibility == "strong":
            before = Place(Tile(f"({lane.name} - 1)", "M"), there=f"(({lane.name} > 1) & ({lane.name} <= {limit}))")
            nearer, first = self.tile(logs, before), Tile(f"({lane.name} > 1)", "M").among(own.axes)
            name = self.assign("nearer", f"tl.where({first}, {nearer.name}, 0.0)")
            new = self._shifted_log(own.name, name, Tile(lane.name, "M").among(own.axes))
        self.store_buffer(self.kept[value], Tile(self.assign(value, new), own.axes), place)

    def _reach(self, base: int) -> None:
        self.kernel.line(f"reach = tiles.reach({self.position()}, {base})")

    def _store_rows(self, states: str, tile: Tile, place: Place) -> None:
        self.store_buffer(self._rows(states), tile, place)

    def _replace_rows(self, states: str, tile: Tile, place: Place) -> None:
        """Write rows where they were loaded: a thread has the same entries of both, and none is with two warps."""
        self.write_buffer(self._rows(states), tile, place, late=True)

    def _rows(self, states: str) -> str:
        (name,) = (self.kept[i.results[0]] for i in self._regroupings() if i.operands[2] == states)
        return name

    def _regroupings(self) -> list[Instruction]:
        return [i for i in self.plan.program.instructions if isinstance(i.op, ops.Regroup)]

    def _regrouping(self, value: str) -> Instruction:
        """What regroups the rows that a value is made from."""
        memory = self._memory_of(value)
        return next(i for i in self._regroupings() if self._memory_of(i.operands[2]) == memory)

    def _sums_over(self, states: str) -> list[Instruction]:
        """The sums over the levels of the memory that rows belong to."""
        memory, types = self._memory_of(states), self.types
        sums = [i for i in self.plan.program.instructions if isinstance(i.op, ops.Sum) and "M" in types[i.operands[0]]]
        return [each for each in sums if self._memory_of(each.operands[0]) == memory]

    def _memory_of(self, value: str) -> str:
        """The memory whose levels a value has; weights have those of all."""
        maker = self.maker[value]
        if isinstance(maker.op, ops.Load):
            return maker.op.name.partition(".")[0] if "." in maker.op.name else ""
        return next((found for x in maker.operands if self.varies(x) and (found := self._memory_of(x))), "")

    # -- slots

    def _over_slots(self, instruction: Instruction) -> Tile:
        """A product that contracts the slots of a ring, some of them at a time."""
        (result,), x = instruction.results, instruction.operands[0]
        self.hoist(instruction.operands)
        axes = "".join(axis for axis in "KV" if axis in self.types[result])
        total = Tile(self.assign(result, self.zeros(axes)), axes)
        with self.kernel.block(self._each_slot(self.types[x][-1])):
            part = self.product(instruction, "R", self._slots_here())
            self.kernel.line(f"{total.name} += {part.name}")
        return total

    def store_ring(self, instruction: Instruction) -> None:
        """A ring with the token in its slot: that slot alone where the others stay as they are."""
        (_, ring, token), (value,) = instruction.operands, instruction.results
        name, axis = self.kept[value], self.types[value][3]
        slot = self.assign("slot", f"{self.position()} % {ax.extent(axis, {})}")
        entry = self.tile(token, self.root)
        if self.stays(ring):
            self.store_buffer(name, entry, Place(slot=Tile(slot)))
            return
        self.hoist([ring])
        with self.kernel.block(self._each_slot(axis)):
            place = self._slots_here()
            held = self.tile(ring, place)
            axes = joined(held, entry, Tile("r_", "R"))
            here = Tile(f"(r_ == {slot})", "R").among(axes)
            new = f"tl.where({here}, {entry.among(axes)}, {held.among(axes)})"
            self.store_buffer(name, Tile(self.assign(value, new), axes), place)

    def _each_slot(self, axis: str) -> str:
        return f"for first_slot in range(0, {ax.extent(axis, {})}, {self.extents['R']}):"

    def _slots_here(self) -> Place:
        self.kernel.line(f"r_ = first_slot + tl.arange(0, {self.extents['R']})")
        return Place(slot=Tile("r_", "R"))
