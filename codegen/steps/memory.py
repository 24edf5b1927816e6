"""Inputs and the buffers of a state, as a program of a step sees them."""

from __future__ import annotations

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.names import names_of
from maskdsl.codegen.steps.tile import ORDER, Place, Tile, joined
from maskdsl.lowering.memory import LOGS, POSITIONS
from maskdsl.schedule.configuration import padded
from maskdsl.schedule.token import StepConfiguration, StepPlan

LANES = {"M": "m_", "R": "r_", "K": "k_", "V": "v_"}
"""The names of the entries of a tile along an axis."""

SLOTS = "state.slots"
"""Under this name a step is given the sequences of a state that its batch is, [B]."""


class Memory:
    """Addresses, masks, loads and stores of a kernel."""

    def __init__(self, plan: StepPlan, configuration: StepConfiguration, kernel: Kernel) -> None:
        self.plan, self.kernel = plan, kernel
        self.types = plan.program.types
        self.sizes = {"K": configuration.K, "V": configuration.V}
        self.extents = {
            "M": padded(max(configuration.levels - 1, 1), 1),
            "R": plan.slots,
            "K": padded(configuration.K, 1),
            "V": plan.columns,
        }
        self.axes: dict[str, Axes] = {load.name: load.axes for load in plan.program.loads}
        self.counts = POSITIONS not in self.axes
        """Whether the kernel counts the token itself: where no program reads positions, one may change them."""
        names = names_of([*self.axes, *([POSITIONS] if self.counts else []), SLOTS])
        self.names = {name: made for name, made in names.items() if name != SLOTS or configuration.slots}
        """What the kernel is given, in order, with the names there."""
        self.own_names = names_of(self.types)

    def assign(self, name: str, text: str) -> str:
        """A new name for an expression."""
        made = self.kernel.fresh(self.own_names.get(name, name))
        self.kernel.line(f"{made} = {text}")
        return made

    # -- lanes and masks

    def lane(self, axis: str) -> Tile:
        """The entries of a tile along an axis."""
        name = LANES[axis]
        if axis in "MK" or (axis == "V" and self.plan.parts == 1):
            first = "1 + " if axis == "M" else ""  # row 0 of a state has level 1
            self.kernel.tops[name] = f"{name} = {first}tl.arange(0, {self.extents[axis]})"
        return Tile(name, axis)

    def ragged(self, axis: str) -> bool:
        """Whether a tile may reach beyond the data along K or V."""
        held = self.extents[axis] * (self.plan.parts if axis == "V" else 1)
        return held != self.sizes[axis]

    def mask(self, axis: str, slots: int = 0) -> Tile | None:
        """Which entries along an axis mean something, None where all do; a ring has `slots`."""
        if axis == "M":
            limit = self.kernel.size("L")
        elif axis == "R":
            limit = str(slots) if slots % self.extents["R"] else ""
        else:
            limit = str(self.sizes[axis]) if self.ragged(axis) else ""
        return Tile(f"({self.lane(axis).name} < {limit})", axis) if limit else None

    def whole(self, tile: Tile, axes: str) -> Tile:
        """A tile that has these axes too."""
        if all(axis in tile.axes for axis in axes):
            return tile
        wide = "".join(axis for axis in ORDER if axis in tile.axes + axes)
        return Tile(f"({tile.among(wide)} + {self.zeros(wide)})", wide)

    def zeros(self, axes: str) -> str:
        """A tile of zeros."""
        return f"tl.zeros({[self.extents[axis] for axis in axes]}, tl.float32)"

    # -- addresses

    def input(self, op: ops.Load) -> str:
        """The address of an input at the head at hand, without the entries along its last axis."""
        name, axes, kernel = self.names[op.name], op.axes, self.kernel
        pointer = kernel.pointer(name)
        ratio = ax.ratio(next(axis for axis in axes if axis[0] == "H"))
        head = "h" if ratio == 1 else f"(h // {ratio})"
        if len(axes) == 1:
            return f"{pointer} + {head}"
        if len(axes) == 2:
            return f"{pointer} + {head} * {kernel.parameter(f'{name}_h', f'{name}.stride(0)')}"
        if len(axes) == 4:
            head += f" * {kernel.parameter(f'{name}_h', f'{name}.stride(2)')}"
        return f"{pointer} + b * {kernel.parameter(f'{name}_b', f'{name}.stride(0)')} + {head}"

    def buffer(self, name: str, place: Place, *, late: bool = False) -> str:
        """The address of a buffer's tile at a place. Buffers are dense.

        A `late` one is of other operations than those of a load there, whose result would wait in registers with it.
        """
        terms: list[Tile] = []
        stride, rows = 1, ""
        for axis in reversed(self.axes[name][2:]):
            entry = self._entry(axis, place)
            if axis == "M":
                # row 0 of a state has level 1
                entry, rows = Tile(f"({entry.name} - 1)", entry.axes), f" * ({self.kernel.size('L')} - 1)"
            terms.insert(0, entry if stride == 1 else Tile(f"({entry.name} * {stride})", entry.axes))
            stride *= 1 if axis == "M" else self._extent(axis)
        row = f"(row * {self.kernel.size('H')} + h){rows}{f' * {stride}' if stride > 1 else ''}"
        base = f"{self.kernel.pointer(self.names[name])} + {row}"
        # 64 bits lead to the tile, 32 are enough inside it
        inside = [term.among(joined(*terms)) for term in terms if term.axes]
        single = [term.name for term in terms if not term.axes]
        base = " + ".join([base] if late else [base, *single])
        offsets = " + ".join([*inside, *single] if late else inside)
        return f"{base} + ({offsets})" if offsets else base

    def _extent(self, axis: str) -> int:
        return self.sizes[axis] if axis in self.sizes else ax.extent(axis, {})

    def _entry(self, axis: str, place: Place) -> Tile:
        return {"M": place.level, "R": place.slot}.get(axis[0]) or self.lane(axis[0])

    def _entries(self, name: str, place: Place) -> str:
        """The axes of a buffer's tile at a place."""
        return joined(*(self._entry(axis, place) for axis in self.axes[name][2:]))

    def _bounds(self, name: str, place: Place) -> list[Tile]:
        """Which entries of a buffer's tile there are."""
        found = []
        for axis in self.axes[name][2:]:
            if axis == "M":
                found += _some(place.level, place.there)
            elif axis[0] != "R":
                found += [mask] if (mask := self.mask(axis)) else []
            elif place.slot and place.slot.axes:
                found += [mask] if (mask := self.mask("R", self._extent(axis))) else []
        return found

    # -- loads and stores

    def load(self, op: ops.Load, value: str, place: Place) -> Tile:
        """The tile of an input, in float32, or of a buffer; logs are in float64."""
        if "." in op.name:
            return self._load_buffer(op.name, value, place)
        address, axes, masks = self.input(op), "", list[Tile]()
        if op.axes[-1] in ("K", "V"):
            axes, mask = op.axes[-1], self.mask(op.axes[-1])
            address, masks = f"{address} + {self.lane(axes).name}", [mask] if mask else []
        elif op.axes[-1] == "L":
            assert place.level is not None, "weights are loaded level by level"
            axes, masks = place.level.axes, _some(place.level, place.there)
            address += f" + {place.level.name}"
        return Tile(self.assign(value, f"tl.load({address}{_masked(masks, axes)}).to(tl.float32)"), axes)

    def _load_buffer(self, name: str, value: str, place: Place) -> Tile:
        axes = self._entries(name, place)
        text = f"tl.load({self.buffer(name, place)}{_masked(self._bounds(name, place), axes)})"
        text += "" if name.endswith(f".{LOGS}") else ".to(tl.float32)"
        if "M" in self.axes[name] and place.there and place.level and not place.level.axes:
            text = f"tl.where({place.there}, {text}, 0.0)"
        return Tile(self.assign(value, text), axes)

    def store(self, address: str, masks: list[Tile], tile: Tile, axes: str) -> None:
        """Write a tile of these axes."""
        mask = f", mask={_both(masks, axes)}" if masks else ""
        self.kernel.line(f"tl.store({address}, {self.whole(tile, axes).name}{mask})")

    def store_buffer(self, name: str, tile: Tile, place: Place) -> None:
        """Write a tile of a buffer at a place, once all warps have read what stands there."""
        self.kernel.line("tl.debug_barrier()")
        self.write_buffer(name, tile, place)

    def write_buffer(self, name: str, tile: Tile, place: Place, *, late: bool = False) -> None:
        """Write a tile of a buffer at a place, whatever other warps are at."""
        address = self.buffer(name, place, late=late)
        self.store(address, self._bounds(name, place), tile, self._entries(name, place))

    def position(self) -> str:
        """The position of the sequence at hand."""
        pointer = self.kernel.pointer(self.names[POSITIONS])
        self.kernel.tops["pos"] = f"pos = tl.load({pointer} + row).to(tl.int64)"
        return "pos"


def _both(masks: list[Tile], axes: str) -> str:
    return " & ".join(mask.among(axes) for mask in masks)


def _masked(masks: list[Tile], axes: str) -> str:
    return f", mask={_both(masks, axes)}, other=0.0" if masks else ""


def _some(levels: Tile | None, there: str | None) -> list[Tile]:
    """The mask of a tile of levels; one level that may be empty is made zero instead."""
    return [Tile(there, levels.axes)] if there and levels and levels.axes else []
