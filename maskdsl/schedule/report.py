"""What the kernels of a spec move and compute, counted from their stages: a floor under the time of each.

Bytes are those that have to cross the memory bus at least: what a stage loads and stores, each tensor once, sums that
programs share counted whole. Blocks of a hierarchy are the exception, as what a chunk reads of them fits no cache: a
tree writes a state a chunk, and every chunk reads the states of its left siblings. A stage between chunks takes more
than one kernel where its row has several names. With a GPU full of heads the kernel of a scan also makes what it
carries, and one kernel fewer runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Instruction
from maskdsl.mask.nodes import Kind
from maskdsl.schedule.configuration import Configuration
from maskdsl.schedule.cost import elements, flops, reads
from maskdsl.schedule.kinds import in_memory, linear
from maskdsl.schedule.plan import Direction, Plan, heads_together, plan, value_columns
from maskdsl.schedule.stages import CHANNELS, Stage, Stages
from maskdsl.spec import Spec

BANDWIDTH = 4.2e12
"""Bytes a second of a large copy, measured on an H200."""

RATE = 7e14
"""Floating-point operations a second of a large product in bfloat16, measured there too."""

NAMES: Mapping[type[Operation], tuple[str, ...]] = {
    ops.Scan: ("scan",),
    ops.SolvedScan: ("reached", "crossed", "joined", "scan"),
    ops.Tree: ("states", "blocks"),
    ops.WalkAdjoint: ("readers", "reached"),
    ops.TreeAdjoint: ("handed", "leaves"),
    ops.BandAdjoint: ("passed",),
    ops.Keep: ("left",),
    ops.KeepAdjoint: ("ended",),
    ops.DecayDot: ("pairs",),
    ops.DecayDots: ("pairs",),
    ops.DecayDotAdjoint: ("pairs",),
}
"""The kernels of an operation between chunks."""

OF_MATRICES: Mapping[type[Operation], tuple[str, ...]] = {
    ops.Tree: ("operators", "states"),
    ops.WalkAdjoint: ("operators", "readers"),
    ops.TreeAdjoint: ("operators", "handed"),
}
"""The same of a hierarchy whose operators are matrices."""

BLOCKS = (ops.Tree, ops.TreeAdjoint, ops.Walk, ops.WalkAdjoint)
"""Operations whose blocks are counted by what they read and write of them."""


@dataclass(frozen=True)
class Row:
    """The kernels of one stage: their names, the values that they make, and what that takes.

    `programs` is the size of the grid of a kernel over chunks, None for the stages between them.
    """

    kernels: tuple[str, ...]
    made: tuple[str, ...]
    programs: int | None
    bytes: int
    flops: int

    @property
    def seconds(self) -> float:
        """The least time this can take."""
        return max(self.bytes / BANDWIDTH, self.flops / RATE)


@dataclass(frozen=True)
class Report:
    """The rows of both directions in the order of their stages.

    `heads` are those that a program over chunks does in each direction, `stored` the values that wait for the
    backward pass, and their bytes.
    """

    chunk: int
    heads: dict[Direction, int]
    rows: dict[Direction, tuple[Row, ...]]
    stored: dict[str, int]


def report(spec: Spec, configuration: Configuration, sizes: Mapping[str, int]) -> Report:
    """Count the kernels of a configuration for a call of `sizes`, those of B, T, H, K, V and L.

    Raises Unsupported where there are no kernels for the spec.
    """
    divided = plan(spec, configuration)
    forward = _Count(spec, configuration, sizes, divided, "forward")
    backward = _Count(spec, configuration, sizes, divided, "backward")
    return Report(
        divided.first.size,
        {"forward": forward.heads, "backward": backward.heads},
        {"forward": forward.rows(), "backward": backward.rows()},
        backward.stored(),
    )


class _Count:
    """The stages of one direction."""

    def __init__(
        self, spec: Spec, configuration: Configuration, sizes: Mapping[str, int], divided: Plan, direction: Direction
    ) -> None:
        self.direction, self.sizes, self.configuration = direction, sizes, configuration
        self.plan: Stages = divided.first if direction == "forward" else divided.second
        self.program, self.kept = self.plan.program, divided.kept
        self.types = self.program.types
        self.maker = {r: i for i in self.program.instructions for r in i.results}
        self.heads = heads_together(configuration, direction)
        half = {i.name for i in spec.inputs if i.kind in (Kind.KEY, Kind.VALUE)}
        self.half = half | {f"d_{name}" for name in half} | {"o", divided.gradients[0]}
        self.linear = linear(self.program, divided.gradients if direction == "backward" else ())
        self.totals = {r for i in self.plan.totals for r in i.results}
        self.all_kept = {
            x
            for i in self.program.instructions
            if isinstance(i.op, ops.Walk | ops.WalkAdjoint) and i.op.admissibility == "strong"
            for x in (*i.operands, *i.results)
        }
        self.resumed = {i.operands[-1] for i in self.program.instructions if isinstance(i.op, ops.Resume)}
        self.names: Counter[str] = Counter()

    def rows(self) -> tuple[Row, ...]:
        """One row a stage."""
        return tuple(self._row(stage) for stage in self.plan.stages)

    def stored(self) -> dict[str, int]:
        """The values that the forward pass leaves in memory and a stage of this direction loads, and their bytes."""
        loaded = {x for stage in self.plan.stages for x in self._loads(stage)}
        blocks = {x for i in self.program.instructions if isinstance(i.op, BLOCKS) for x in i.operands}
        return {v: self._bytes(v) + self._logs(v) for v in self.kept if v in loaded or v in blocks}

    def _row(self, stage: Stage) -> Row:
        instructions = self._instructions(stage)
        made = self._made_between(stage.instruction) if stage.instruction else stage.values
        moved = sum(self._read(v) for v in self._loads(stage)) + sum(self._written(v) for v in made)
        moved += sum(self._read_of_blocks(i, stage) for i in instructions)
        computed = sum(self._flops(i, stage) for i in instructions)
        return Row(self._named(stage), made, self._programs(stage), moved, computed)

    def _named(self, stage: Stage) -> tuple[str, ...]:
        found = []
        for name in self._kernels(stage.instruction) if stage.instruction else ("chunks",):
            self.names[name] += 1
            found.append(f"{self.direction}_{name}" + (f"_{self.names[name]}" if self.names[name] > 1 else ""))
        return tuple(found)

    def _kernels(self, instruction: Instruction) -> tuple[str, ...]:
        matrices = type(instruction.op) in OF_MATRICES and ops.matrices([self.types[x] for x in instruction.operands])
        return (OF_MATRICES if matrices else NAMES)[type(instruction.op)]

    def _programs(self, stage: Stage) -> int | None:
        if stage.kind == "graph":
            return None
        columns = self.configuration.V if self.plan.has_columns(stage) else 0
        parts = -(-columns // value_columns(self.configuration)) if columns else 1
        if stage.split:
            parts *= -(-self.configuration.width(self.configuration.K) // CHANNELS)
        chunks = ax.extent(ax.chunks(self.plan.size), self.sizes)
        return self.sizes["B"] * (self.sizes["H"] // self.heads) * chunks * parts

    # -- what a stage does

    def _instructions(self, stage: Stage) -> list[Instruction]:
        """All that is done in a stage."""
        found = {i.results: i for i in self._within(stage)}
        if stage.instruction is not None:
            found[stage.instruction.results] = stage.instruction
        return list(found.values())

    def _within(self, stage: Stage) -> Iterable[Instruction]:
        """What a stage does to make its values, or the operands of its operation."""
        own = () if stage.instruction else stage.values
        pending, seen = list(stage.values), set()
        while pending:
            value = pending.pop()
            if value in seen or (value in stage.available and value not in own):
                continue
            seen.add(value)
            yield self.maker[value]
            pending.extend(self.maker[value].operands)

    def _loads(self, stage: Stage) -> set[str]:
        """The values, but for blocks, that a stage loads."""
        operands = {x for i in self._within(stage) for x in i.operands} | set(stage.values if stage.instruction else ())
        return {x for x in operands if x in stage.available and not _of_blocks(self.types[x])}

    def _made_between(self, instruction: Instruction) -> tuple[str, ...]:
        """The results that a stage between chunks makes for all of them."""
        return in_memory(instruction)

    def _flops(self, instruction: Instruction, stage: Stage) -> int:
        count = flops(instruction, self.types, self.sizes)
        match instruction.op:
            case ops.WalkAdjoint():
                # half of it is done chunk by chunk, half block by block
                return count // 2
            case ops.BandAdjoint() if stage.kind == "graph":
                return 0
        return count

    # -- what it moves

    def _bytes(self, value: str) -> int:
        """The bytes of a value in memory; of blocks, those that are kept."""
        axes = self.types[value]
        maker = self.maker[value]
        name = maker.op.name if isinstance(maker.op, ops.Load) else value
        letters = [axis[0] for axis in axes[3:] if axis != "1"]
        two = (
            len(axes) == 5
            and len(letters) == 2
            and (value in self.linear or letters in (["K", "V"], ["K", "K"], ["C", "C"]))
        )
        pairs = value in self.plan.precise and letters == ["C", "C"]
        two = (two and not pairs) or (len(letters) == 2 and maker.op == ops.Cast(wide=False))
        size = 2 if name in self.half or two else 4
        if _of_blocks(axes):
            # a state a chunk, of the left siblings of every level; where neighbours are read too, all of them
            axes = (*axes[:2], ax.chunks(self.plan.size), *axes[3:])
            size *= 2 if value in self.all_kept else 1
        return size * elements(axes, self.sizes)

    def _read(self, value: str) -> int:
        """The bytes of a value that a stage loads: of states that neighbouring chunks share, half."""
        return self._bytes(value) // (2 if value in self.resumed else 1)

    def _logs(self, value: str) -> int:
        """The bytes of what lies beside the blocks of left siblings.

        Those are the log decays of the blocks of all levels; of matrices, the operators of what comes after each.
        """
        axes = self.types[value]
        if not _of_blocks(axes) or axes[-1] == "V":
            return 0
        if ops.matrices([axes]):
            return self._bytes(value)
        base, count = int(axes[2].split("b")[1]), ax.extent(ax.chunks(self.plan.size), self.sizes)
        levels = 1
        while base**levels <= count:
            levels += 1
        return 4 * levels * elements((*axes[:2], ax.chunks(self.plan.size), *axes[3:]), self.sizes)

    def _written(self, value: str) -> int:
        """The bytes that a stage writes: of a total the part of every chunk."""
        if value not in self.totals:
            names = [name for name, each in self.program.outputs if each == value]
            if names:
                return (2 if set(names) & self.half else 4) * elements(self.types[value], self.sizes)
            return self._bytes(value)
        axes = self.types[value]
        batch = 1 if "B" in axes else self.sizes["B"]
        return 4 * batch * ax.extent(ax.chunks(self.plan.size), self.sizes) * elements(axes, self.sizes)

    def _read_of_blocks(self, instruction: Instruction, stage: Stage) -> int:
        """The bytes of blocks that an operation on them reads."""
        operands = [x for x in instruction.operands if _of_blocks(self.types[x])]
        whole = sum(self._bytes(x) for x in operands)
        match instruction.op:
            case ops.Walk(base):
                return round(reads(base, self.types[instruction.operands[0]], self.sizes) * whole)
            case ops.WalkAdjoint(base):
                count = reads(base, self.types[instruction.operands[1]], self.sizes)
                if stage.kind == "chunks":
                    return round(count * whole)
                # a block reads queries and gradients of the chunks that read it
                return round((count - 1) * sum(self._bytes(x) for x in instruction.operands[:2]))
            case ops.TreeAdjoint():
                return whole
        return 0


def _of_blocks(axes: Axes) -> bool:
    return any(axis[0] == "E" for axis in axes)
