"""A program of the chunk IR divided into kernels: who computes what, and what passes through memory.

Operations inside a chunk are tiles of one kernel; operations between chunks (a scan, a tree, the adjoint of a walk)
need values of all chunks in memory. The *phase* of a value is the number of these on the longest way to it. All
results of one phase are computed by one kernel over chunks; what a later kernel needs of an earlier phase it loads or
computes again, whichever a minimum cut finds cheaper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from maskdsl.chunk import ops
from maskdsl.chunk.axes import chunk_size
from maskdsl.chunk.program import Instruction, Program, prune
from maskdsl.schedule.cut import Cut
from maskdsl.schedule.kinds import (
    ADJOINT,
    BETWEEN,
    BY_MATRICES,
    IN_MEMORY,
    PAIRS,
    SUPPORTED,
    in_memory,
    linear,
    owed_together,
    small,
    summed_over_values,
    takes_matrices,
)
from maskdsl.schedule.partial_sums import by_phase
from maskdsl.schedule.phases import Phases
from maskdsl.schedule.rows import is_norm, is_slow
from maskdsl.schedule.systems import precise_values, read_again, scan_factors, solved_systems, system_pairs
from maskdsl.schedule.unsupported import Unsupported

Kind = Literal["chunks", "graph"]

CHANNELS = 64
"""The key channels that a program holds where decays are one a channel, and so are the tiles that they are part of."""

SERIAL = 4
"""How much dearer an operation is in a program that goes through all chunks of a sequence."""


@dataclass(frozen=True)
class Stage:
    """One kernel over chunks that writes `values`, or the kernels of an operation between chunks.

    `available` are the values of earlier stages that it loads. Programs `split` key channels where that is told.
    """

    kind: Kind
    phase: int
    values: tuple[str, ...]
    available: frozenset[str]
    instruction: Instruction | None = None
    split: bool = False


@dataclass(frozen=True)
class Stages:
    """The stages of a program in order of execution.

    `size` is the chunk size. `totals` are sums over positions or batch rows: stages write the part of each chunk,
    and `host`, a program of small tensors that loads the totals, does the rest. `precise` values are worked out in
    more than the precision of the call.
    """

    program: Program
    size: int
    stages: tuple[Stage, ...]
    totals: tuple[Instruction, ...]
    host: Program
    precise: frozenset[str]

    def within(self, stage: Stage) -> set[str]:
        """The values that a kernel over chunks makes."""
        maker = {r: i for i in self.program.instructions for r in i.results}
        made: set[str] = set()
        pending = list(stage.values)
        while pending:
            value = pending.pop()
            if value not in made and (value not in stage.available or value in stage.values):
                made.add(value)
                pending.extend(maker[value].operands)
        return made

    def has_columns(self, stage: Stage) -> bool:
        """Whether programs of a kernel over chunks share the columns of V: it has values or parts of sums of them."""
        made = self.within(stage)
        used = made | {x for i in self.program.instructions if made & {*i.results} for x in i.operands}
        return any("V" in self.program.types[x] for x in used) or not used.isdisjoint(summed_over_values(self.program))

    @property
    def rows(self) -> tuple[str, ...]:
        """The values of positions that kernels leave in memory because they are much work."""
        maker = {r: i for i in self.program.instructions for r in i.results}
        left = [v for s in self.stages if s.kind == "chunks" for v in s.values if v in maker]
        norms = [v for v in left if self.precise and is_norm(maker[v], self.program.types)]
        return (*(v for v in left if is_slow(maker[v])), *norms)


def stages(
    program: Program,
    sizes: Mapping[str, int],
    gradients: Collection[str] = (),
    precise: Iterable[str] | None = None,
    keeps: bool = False,
    roomy: bool = False,
) -> Stages:
    """Divide a program, which loads `gradients` if it is a backward one.

    `precise` are values worked out in more than the precision of the call; told where the program loads some. A forward
    program `keeps` what a backward pass would have much work with. A `roomy` kernel holds two states and more.

    Raises Unsupported where it holds operations that no kernel is printed for.
    """
    for instruction in program.instructions:
        if not isinstance(instruction.op, SUPPORTED) or getattr(instruction.op, "steps", 1) > 1:
            raise Unsupported(f"'{program.name}' has several rank-one steps or decays a token.")
        if takes_matrices(instruction, program.types) and not isinstance(instruction.op, BY_MATRICES):
            raise Unsupported(f"'{program.name}' has a window or strong levels over steps that do not commute.")
    wide = precise_values(program) if precise is None else frozenset(precise)
    return _Division(program, sizes, linear(program, gradients), wide, keeps, roomy).result()


def common_size(program: Program) -> int:
    """The chunk size of a program; raises Unsupported where its terms have several."""
    found = {chunk_size(axis) for axes in program.types.values() for axis in axes if axis[0] in "NCE" and axis != "1"}
    if len(found) > 1:
        raise Unsupported(f"The terms of '{program.name}' have chunks of different sizes.")
    return found.pop() if found else 64


class _Division:
    def __init__(
        self,
        program: Program,
        sizes: Mapping[str, int],
        gradients: frozenset[str],
        precise: frozenset[str],
        keeps: bool,
        roomy: bool,
    ) -> None:
        sums = gradients if system_pairs(program) else gradients & precise
        divided = by_phase(program, Phases(program, gradients, precise, roomy).of, sums)
        added = frozenset(divided.types) - frozenset(program.types)
        self.program, self.sizes, self.types = divided, sizes, divided.types
        self.size, self.keeps = common_size(divided), keeps
        self.phases = Phases(divided, gradients | added, precise | added, roomy)
        self.maker, self.totals = self.phases.maker, self.phases.totals
        self.loads = {r for r, i in self.maker.items() if isinstance(i.op, ops.Load)}
        self.loads |= {i.results[0] for i in owed_together(divided)}
        self.channelwise = any(isinstance(i.op, PAIRS) for i in divided.instructions)
        self.memory = {x for i in divided.instructions for x in in_memory(i)}
        self.cut = Cut(self.program, sizes, self.phases, self.memory, self.loads)

    def result(self) -> Stages:
        wanted: dict[int, list[str]] = {}
        for value in self._sinks():
            wanted.setdefault(self.phases.of[value], []).append(value)
        for instruction in self.program.instructions:
            if isinstance(instruction.op, ADJOINT):
                phase = self.phases.phase_of(instruction)
                wanted.setdefault(phase - isinstance(instruction.op, ops.BandAdjoint), [])
        if self.phases.handed is not None:
            wanted.setdefault(self.phases.handed, [])
        if self.phases.rows:
            wanted.setdefault(0, [])
        for instruction in self.program.instructions:
            if isinstance(instruction.op, ops.SolvedScan):
                # the systems of chunks wait in memory, and so may the factors of its steps
                wanted.setdefault(self.phases.phase_of(instruction), [])
        for value in scan_factors(self.program):
            wanted.setdefault(self.phases.of[value], [])
        for value in self.phases.again:
            wanted.setdefault(self.phases.of[value], [])
        for instruction in filter(self.phases.divides, self.program.instructions):
            wanted.setdefault(self.phases.of[instruction.results[0]] - 1, [])
        graph = [i for i in self.program.instructions if type(i.op) in IN_MEMORY and self._wanted(i)]
        for value in (v for i in graph if isinstance(i.op, PAIRS) for v in self._left(i)):
            wanted.setdefault(self.phases.of[value], [])
        made: list[Stage] = []
        for phase in range(max([*wanted, *(self.phases.phase_of(i) for i in graph)], default=0), -1, -1):
            for instruction in reversed(graph):
                if self.phases.phase_of(instruction) == phase:
                    made.append(self._stage("graph", phase, self._read(instruction), wanted, instruction))
            for values in self._kernels(wanted.get(phase, ()), phase):
                made.append(self._stage("chunks", phase, values, wanted))
        made.reverse()
        return Stages(self.program, self.size, tuple(made), self.totals, self._host_program(), self.phases.precise)

    def _kernels(self, values: Iterable[str], phase: int) -> list[tuple[str, ...]]:
        """The values of one phase by kernel, the last first: what a scan runs over is made apart from the rest.

        So is what programs can split the channels of.
        """
        scanned = {x for i in self.program.instructions if isinstance(i.op, ops.Scan) for x in i.operands}
        found: dict[tuple[bool, bool], list[str]] = {}
        for value in dict.fromkeys(values):
            found.setdefault((value in scanned, self._splits(value, phase)), []).append(value)
        return [tuple(found[key]) for key in sorted(found)]

    def _splits(self, value: str, phase: int) -> bool:
        """Whether programs can split the key channels of a value, and had better."""
        if not self.channelwise or self.sizes["K"] <= CHANNELS:
            return False
        pending, seen = [value], set()
        while pending:
            current = pending.pop()
            if current in seen or current in self.memory | self.loads or self.phases.of[current] < phase:
                continue
            if self.cut.joins_channels(current) or isinstance(self.maker[current].op, BETWEEN):
                return False
            seen.add(current)
            pending.extend(self.maker[current].operands)
        return "K" in self.types[value]

    @staticmethod
    def _read(instruction: Instruction) -> tuple[str, ...]:
        """The operands that the kernels of an operation between chunks read."""
        operands = instruction.operands
        match instruction.op:
            case ops.BandAdjoint(initial=initial):
                # kernels over chunks leave what the gradient of its decays is made of
                return (*operands[:3], *operands[5:]) if initial else ()
            case ops.KeepAdjoint():
                return (*operands[:4], *operands[5:])
        return operands

    def _wanted(self, instruction: Instruction) -> bool:
        """Whether something uses what an operation between chunks makes for all of them."""
        used = {x for i in self.program.instructions for x in i.operands} | {v for _, v in self.program.outputs}
        return not used.isdisjoint(in_memory(instruction))

    def _stage(
        self,
        kind: Kind,
        phase: int,
        values: tuple[str, ...],
        wanted: dict[int, list[str]],
        instruction: Instruction | None = None,
    ) -> Stage:
        left = self._left(instruction) if instruction else set()
        needed = [v for v in values if v not in self.memory | left]
        if kind == "chunks":
            needed = [x for v in needed for x in self._inputs_of(v)]
        split = isinstance(instruction.op, PAIRS) if instruction else all(self._splits(v, phase) for v in values)
        serial = SERIAL if instruction and isinstance(instruction.op, ops.Scan | ops.SolvedScan) else 1
        stored = left | self.cut.stored(needed, phase - (kind == "chunks"), wanted, split, serial)
        for value in (v for v in self.types if v in stored):
            wanted.setdefault(self.phases.of[value], []).append(value)
        return Stage(kind, phase, values, frozenset(stored) | self.memory | self.loads, instruction, split)

    def _left(self, instruction: Instruction) -> set[str]:
        """The operands that an operation takes as kernels over chunks have left them in memory.

        Those are all of a scan.
        """
        count = {ops.Scan: 2, ops.DecayDotAdjoint: 1}.get(type(instruction.op), 0)
        if isinstance(instruction.op, ops.Tree) and takes_matrices(instruction, self.types):
            count = 2
        return {v for v in instruction.operands[:count] if v not in self.memory | self.loads}

    def _inputs_of(self, value: str) -> Iterable[str]:
        return self.maker[value].operands if value not in self.loads else ()

    def _sinks(self) -> list[str]:
        large = [value for _, value in self.program.outputs if "T" in self.types[value]]
        outputs = [value for value in large if value not in self.memory | self.loads]
        if self.keeps:
            # the backward pass finds systems solved, what it reads as it was, and the norms of the vectors of a path
            outputs += [*solved_systems(self.program), *read_again(self.program)]
            if self.phases.precise:
                outputs += [i.results[0] for i in self.program.instructions if is_norm(i, self.types)]
        return [*outputs, *(i.results[0] for i in self.totals)]

    def _host_program(self) -> Program:
        """The instructions behind the totals, which it loads, and what they need of small inputs.

        And sums of what several kernels leave of the gradient of a memory.
        """
        types = self.types
        instructions = []
        for instruction in self.program.instructions:
            left = {x for x in in_memory(instruction) if "S" in types[x]}
            if instruction in self.totals or left:
                for result in instruction.results:
                    load = ops.Load(result, types[result])
                    instructions.append(Instruction((result,), load, (), (types[result],), instruction.origin))
            else:
                instructions.append(instruction)
        summed = {value for _, value in self.program.outputs if "S" in types[value]} - self.memory - self.loads
        outputs = tuple(each for each in self.program.outputs if small(types[each[1]]) or each[1] in summed)
        return prune(dataclasses.replace(self.program, instructions=tuple(instructions), outputs=outputs))
