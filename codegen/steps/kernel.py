"""The kernel of a step: the output, then every buffer of the state as the next token finds it."""

from __future__ import annotations

from maskdsl.chunk import ops
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.steps.loops import Loops
from maskdsl.codegen.steps.memory import SLOTS
from maskdsl.codegen.steps.tile import Place
from maskdsl.lowering.memory import POSITIONS
from maskdsl.schedule.token import StepConfiguration, StepPlan


class StepKernel(Loops):
    """Writes the whole kernel."""

    def __init__(self, plan: StepPlan, configuration: StepConfiguration) -> None:
        super().__init__(plan, configuration, Kernel("step_kernel", "One token of one head of a sequence."))

    def write(self) -> None:
        """Columns of V first, all or one tile after the other, then what has none."""
        self._open()
        buffers = self.plan.program.outputs[1:]
        wide = [value for _, value in buffers if "V" in self.types[value]]
        if self.plan.apart or self.plan.parts == 1:
            self._columns(wide)
        else:
            self._share()
            before = dict(self.root.tiles)
            with self.kernel.block(f"for vt in range({self.plan.parts}):"):
                columns = self.extents["V"]
                self.kernel.line(f"v_ = vt * {columns} + tl.arange(0, {columns})")
                self._columns(wide)
            self.root.tiles = before
        for _, value in buffers:
            if value not in wide:
                self._keep(value)
        if self.counts:
            self._count()

    def _count(self) -> None:
        """Count the token, in the first program of a sequence."""
        kernel, parts = self.kernel, self.plan.parts if self.plan.apart else 1
        place = f"{kernel.pointer(self.names[POSITIONS])} + row"
        every = f"({kernel.size('H')} * {parts})" if parts > 1 else kernel.size("H")
        with kernel.block(f"if tl.program_id(0) % {every} == 0:"):
            kernel.line(f"tl.store({place}, tl.load({place}) + 1)")

    def _open(self) -> None:
        """Which head of which sequence a program has, and in which row of the state that is."""
        kernel, parts = self.kernel, self.plan.parts if self.plan.apart else 1
        heads = kernel.size("H")
        kernel.opening.append("pid = tl.program_id(0)")
        if parts > 1:
            columns = self.extents["V"]
            kernel.opening += [f"v_ = pid % {parts} * {columns} + tl.arange(0, {columns})", f"pid = pid // {parts}"]
        kernel.opening += [f"h = (pid % {heads}).to(tl.int64)", f"b = (pid // {heads}).to(tl.int64)"]
        slots = self.names.get(SLOTS)
        kernel.opening.append(f"row = tl.load({kernel.pointer(slots)} + b).to(tl.int64)" if slots else "row = b")
        kernel.programs = f"at.B * at.H * {parts}" if parts > 1 else "at.B * at.H"
        kernel.warps, kernel.stages, kernel.registers = self.plan.warps, 1, self.plan.registers

    def _share(self) -> None:
        """Make what all tiles of columns read."""
        self._load(columns=False)
        columned: set[str] = set()
        for instruction in self.plan.program.instructions:
            (value, *_) = instruction.results
            if "V" in self.types[value] or columned & set(instruction.operands):
                columned |= set(instruction.results)
            elif not self.varies(value) and not self._is_position(value) and len(instruction.results) == 1:
                self.tile(value, self.root)

    def _load(self, *, columns: bool) -> None:
        """Load all that is loaded once, what is kept first, so that no load waits for what another one brings."""
        loads = {i.results[0]: i.op.name for i in self.plan.program.instructions if isinstance(i.op, ops.Load)}
        for value in sorted(loads, key=lambda value: "." not in loads[value]):
            place = self._only_place(value)
            if place and (columns or "V" not in self.types[value]):
                self.tile(value, place)

    def _only_place(self, value: str) -> Place | None:
        """The place that a load is made at once and for all, if there is one."""
        axes = self.types[value]
        if "L" in axes:
            return self.nearest
        if "M" in axes:
            return self.all_levels if axes[-1] == "M" else None
        return None if self.varies(value) or self._is_position(value) else self.root

    def _columns(self, wide: list[str]) -> None:
        self._load(columns=True)
        output = self.plan.program.outputs[0][1]
        tile = self.tile(output, self.root)
        pointer, width = self.kernel.pointer("o_new"), self.sizes["V"]
        mask = self.mask("V")
        address = f"{pointer} + (b * {self.kernel.size('H')} + h) * {width} + {self.lane('V').name}"
        self.store(address, [mask] if mask else [], tile, "V")
        for value in wide:
            self._keep(value)

    def _keep(self, value: str) -> None:
        """Write a buffer; the rows of levels are written as they are read."""
        source = self.aligned(value)
        instruction = self.maker[source]
        if isinstance(instruction.op, ops.Enter):
            self.store_ring(instruction)
        elif not isinstance(instruction.op, ops.Regroup):
            self.store_buffer(self.kept[source], self.tile(source, self.root), Place())
        elif source != instruction.results[0]:
            self.store_logs(instruction)
