"""A program of the chunk IR divided into kernels: who computes what, and what passes through memory.

Operations inside a chunk are tiles of one kernel; operations between chunks (a scan, a tree, the adjoint of a walk)
need values of all chunks in memory. The *phase* of a value is the number of these on the longest way to it. All
results of one phase are computed by one kernel over chunks; what a later kernel needs of an earlier phase it loads or
computes again, whichever a minimum cut finds cheaper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import networkx as nx

from maskdsl.chunk import ops
from maskdsl.chunk.axes import chunk_size
from maskdsl.chunk.ops import Axes, Operation
from maskdsl.chunk.program import Instruction, Program, prune
from maskdsl.schedule.cost import elements, flops
from maskdsl.schedule.rows import is_slow, of_positions
from maskdsl.schedule.unsupported import Unsupported

BANDWIDTH = 3e12
"""Bytes a second that streaming kernels reach."""

DOTS = 1e14
"""Floating-point operations a second of matrix products on small tiles, with all that goes on around them."""

PRECISE = 2e13
"""The same of operands in more precision, which take twice the registers."""

ELEMENTWISE = 2e12
"""The same outside matrix products."""

KERNEL = 10**12
"""The price of one more kernel: a value that has none to make it is computed again, unless it must not be."""

SERIAL = 4
"""How much dearer an operation is in a program that goes through all chunks of a sequence."""

OPERATIONS = 10
"""Operations a pair of positions that telling levels or spans takes."""

Kind = Literal["chunks", "graph"]

IN_MEMORY: Mapping[type[Operation], tuple[int, ...]] = {
    ops.Scan: (0,),
    ops.Tree: (0, 1),
    ops.TreeAdjoint: (0, 1),
    ops.WalkAdjoint: (1, 2),
    ops.BandAdjoint: (1,),
    ops.DecayDot: (0,),
    ops.DecayDotAdjoint: (0, 1, 2),
}
"""Operations between chunks, and which of their results are made for all chunks at once.

So are pairs of positions with a decay a channel between them: a kernel of their own takes fewer channels at a time.

The adjoint of a band makes its one of what the kernel over chunks leaves in memory beside the other results.
"""

BETWEEN = (ops.Walk, ops.WalkAdjoint, ops.Band, ops.BandAdjoint)
"""Operations whose other results a kernel makes chunk by chunk, by a loop over blocks or chunks: never done twice."""

ADJOINT = (ops.WalkAdjoint, ops.BandAdjoint)
"""Those of the backward pass."""

LOOKING = (ops.Band, ops.BandAdjoint, ops.Shift)
"""Operations of one chunk that read values of others: what is much work to make waits for them in memory."""

CHANNELS = 64
"""The key channels that a program holds where decays are one a channel, and so are the tiles that they are part of."""

BY_MATRICES = (ops.Tree, ops.TreeAdjoint, ops.Walk, ops.WalkAdjoint)
"""Operations between chunks that may have matrices as operators."""

PAIRS = (ops.DecayDot, ops.DecayDotAdjoint)
"""Operations that a kernel does for a block of key channels at a time."""

HEAVY = (*BETWEEN, ops.Dot)
"""Operations that a kernel does for its own chunk only."""

SUPPORTED = (
    *(ops.Load, ops.Constant, ops.Align, ops.Expand, ops.Repeat, ops.GroupSum, ops.Chunk, ops.Unchunk, ops.Shift),
    *(ops.Cast, ops.Identity, ops.Inverse),
    *(ops.Transpose, ops.Map, ops.Sum, ops.Dot, ops.Cumsum, ops.Spans, ops.SpansAdjoint, ops.DecayDot),
    *(ops.DecayDotAdjoint, ops.Tril, ops.Near, ops.Select, ops.SelectAdjoint, ops.Scan, ops.Tree, ops.TreeAdjoint),
    *BETWEEN,
)
"""What kernels are printed for."""


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

    @property
    def rows(self) -> tuple[str, ...]:
        """The values of positions that the first kernel leaves in memory."""
        maker = {r: i for i in self.program.instructions for r in i.results}
        return tuple(v for s in self.stages if s.kind == "chunks" for v in s.values if v in maker and is_slow(maker[v]))


def stages(
    program: Program, sizes: Mapping[str, int], gradient: str | None = None, precise: Iterable[str] | None = None
) -> Stages:
    """Divide a program, which loads `gradient` if it is a backward one.

    `precise` are values worked out in more than the precision of the call; told where the program loads some.

    Raises Unsupported where it holds operations that no kernel is printed for.
    """
    for instruction in program.instructions:
        if not isinstance(instruction.op, SUPPORTED) or getattr(instruction.op, "steps", 1) > 1:
            raise Unsupported(f"'{program.name}' has several rank-one steps or decays a token.")
        if _takes_matrices(instruction, program.types) and not isinstance(instruction.op, BY_MATRICES):
            raise Unsupported(f"'{program.name}' has a window or strong levels over steps that do not commute.")
    wide = precise_values(program) if precise is None else frozenset(precise)
    return _Division(program, sizes, linear(program, gradient), wide).result()


def common_size(program: Program) -> int:
    """The chunk size of a program; raises Unsupported where its terms have several."""
    found = {chunk_size(axis) for axes in program.types.values() for axis in axes if axis[0] in "NCE" and axis != "1"}
    if len(found) > 1:
        raise Unsupported(f"The terms of '{program.name}' have chunks of different sizes.")
    return found.pop() if found else 64


def linear(program: Program, gradient: str | None) -> frozenset[str]:
    """The values that are linear in the gradient of the output, so that rounding them costs no digits elsewhere."""
    found: set[str] = set()
    for instruction in program.instructions:
        given = isinstance(instruction.op, ops.Load) and instruction.op.name == gradient
        if given or found & set(instruction.operands):
            found |= set(instruction.results)
    return frozenset(found)


def _pairs(axes: Axes) -> bool:
    """Whether a value has a number for every pair of positions of a chunk."""
    return [axis[0] for axis in axes[-2:]] == ["C", "C"]


def _takes_matrices(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an operation between chunks multiplies by matrices."""
    between = isinstance(instruction.op, BETWEEN) or type(instruction.op) in IN_MEMORY
    return between and ops.matrices([types[x] for x in instruction.operands])


def takes_rank_one(instruction: Instruction) -> bool:
    """Whether an instruction is a scan with rank-one steps."""
    return isinstance(instruction.op, ops.Scan) and len(instruction.operands) > 2


def precise_values(program: Program) -> frozenset[str]:
    """The values that are worked out in more than the precision of the call: between a cast to it and one back."""
    found: set[str] = set()
    for instruction in program.instructions:
        wide = instruction.op.wide if isinstance(instruction.op, ops.Cast) else found & set(instruction.operands)
        if wide:
            found |= set(instruction.results)
    return frozenset(found)


class _Division:
    def __init__(
        self, program: Program, sizes: Mapping[str, int], gradients: frozenset[str], precise: frozenset[str]
    ) -> None:
        self.gradients, self.precise = gradients, precise
        self.program, self.sizes, self.types = program, sizes, program.types
        self.size = common_size(program)
        self.maker = {r: i for i in program.instructions for r in i.results}
        self.loads = {r for r, i in self.maker.items() if isinstance(i.op, ops.Load)}
        self.totals = tuple(i for i in program.instructions if crosses(i, self.types))
        self.host = self._on_host()
        self.rows = self._slow_rows()
        self.channelwise = any(isinstance(i.op, PAIRS) for i in program.instructions)
        self._worked: dict[str, int] = {}  # the last phase in which something heavy is done for a value
        self.again = self._made_again()
        self.feeding = self._feeding()
        self.handed: int | None = None
        self.entered = 0
        self.phases = self._phases()
        handed = [self.phases[i.results[0]] for i in program.instructions if isinstance(i.op, ops.TreeAdjoint)]
        if handed:
            self.handed = max(handed)
            self.phases = self._phases()
        entering = [self.phases[i.results[0]] for i in program.instructions if self._enters_path(i)]
        if entering:
            # at once, and after all that is done on states
            self.entered = max(entering)
            self.phases = self._phases()
        self.replaced = {i.operands[1] for i in program.instructions if isinstance(i.op, ops.Scan)}
        self.memory = {
            i.results[n] for i in program.instructions for n in IN_MEMORY.get(type(i.op), ()) if n < len(i.results)
        }

    def result(self) -> Stages:
        wanted: dict[int, list[str]] = {}
        for value in self._sinks():
            wanted.setdefault(self.phases[value], []).append(value)
        for instruction in self.program.instructions:
            if isinstance(instruction.op, ADJOINT):
                phase = self._phase_of(instruction)
                wanted.setdefault(phase - isinstance(instruction.op, ops.BandAdjoint), [])
        if self.handed is not None:
            wanted.setdefault(self.handed, [])
        if self.rows:
            wanted.setdefault(0, [])
        for instruction in filter(takes_rank_one, self.program.instructions):
            # the factors of its steps wait in memory
            wanted.setdefault(self._phase_of(instruction), [])
        for value in self.again:
            wanted.setdefault(self.phases[value], [])
        graph = [i for i in self.program.instructions if type(i.op) in IN_MEMORY and self._wanted(i)]
        for value in (v for i in graph if isinstance(i.op, PAIRS) for v in self._left(i)):
            wanted.setdefault(self.phases[value], [])
        made: list[Stage] = []
        for phase in range(max([*wanted, *(self._phase_of(i) for i in graph)], default=0), -1, -1):
            for instruction in reversed(graph):
                if self._phase_of(instruction) == phase:
                    left = isinstance(instruction.op, ops.BandAdjoint)
                    operands = () if left else instruction.operands
                    made.append(self._stage("graph", phase, operands, wanted, instruction))
            for values in self._kernels(wanted.get(phase, ()), phase):
                made.append(self._stage("chunks", phase, values, wanted))
        made.reverse()
        return Stages(self.program, self.size, tuple(made), self.totals, self._host_program(), self.precise)

    def _made_again(self) -> frozenset[str]:
        """What the backward pass computes again of the precise part of a path.

        It waits in memory for all that uses it: that part is a kernel of its own.
        """
        narrow = {i.results[0] for i in self.program.instructions if i.op == ops.Cast(wide=False)}
        tiles = {value for value in narrow - self.gradients if not of_positions(self.types[value])}
        return frozenset(tiles if self.gradients else ())

    def _feeding(self) -> frozenset[str]:
        """All that an operation between chunks needs."""
        found: set[str] = set()
        for instruction in reversed(self.program.instructions):
            if (
                type(instruction.op) in IN_MEMORY
                or isinstance(instruction.op, BETWEEN)
                or found & set(instruction.results)
            ):
                found |= set(instruction.operands)
        return frozenset(found)

    def _slow_rows(self) -> frozenset[str]:
        """The values of positions that a first kernel makes: slow ones that something wider waits for.

        The backward pass finds them where the forward pass has left them.
        """
        slow: set[str] = set()
        behind: set[str] = set()  # values of positions that depend on slow ones
        needed = False
        for instruction in self.program.instructions:
            narrow = of_positions(instruction.types[0])
            if narrow and is_slow(instruction) and not self.gradients & set(instruction.results):
                slow |= set(instruction.results)
            elif not (narrow and (slow | behind) & set(instruction.operands)):
                needed |= bool((slow | behind) & set(instruction.operands))
                continue
            behind |= set(instruction.results)
        return frozenset(slow if needed and not self.gradients else ())

    def _kernels(self, values: Iterable[str], phase: int) -> list[tuple[str, ...]]:
        """The values of one phase by kernel, the last first: what a scan runs over is made apart from the rest.

        So is what programs can split the channels of.
        """
        scans = [i for i in self.program.instructions if isinstance(i.op, ops.Scan) and not takes_rank_one(i)]
        scanned = {x for i in scans for x in i.operands}
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
            if current in seen or current in self.memory | self.loads or self.phases[current] < phase:
                continue
            if self._joins_channels(current) or isinstance(self.maker[current].op, BETWEEN):
                return False
            seen.add(current)
            pending.extend(self.maker[current].operands)
        return "K" in self.types[value]

    def _wanted(self, instruction: Instruction) -> bool:
        """Whether something uses what an operation between chunks makes for all of them."""
        used = {x for i in self.program.instructions for x in i.operands} | {v for _, v in self.program.outputs}
        return any(instruction.results[n] in used for n in IN_MEMORY[type(instruction.op)])

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
        serial = SERIAL if instruction and isinstance(instruction.op, ops.Scan) else 1
        stored = left | self._cut(needed, phase - (kind == "chunks"), wanted, split, serial)
        for value in (v for v in self.types if v in stored):
            wanted.setdefault(self.phases[value], []).append(value)
        return Stage(kind, phase, values, frozenset(stored) | self.memory | self.loads, instruction, split)

    def _left(self, instruction: Instruction) -> set[str]:
        """The operands that an operation takes as kernels over chunks have left them in memory.

        Those are all of a scan, but for one with rank-one steps, which multiplies the factors of its operands itself.
        """
        count = {ops.Scan: 2, ops.DecayDotAdjoint: 1}.get(type(instruction.op), 0)
        if takes_rank_one(instruction):
            count = 0
        elif isinstance(instruction.op, ops.Tree) and _takes_matrices(instruction, self.types):
            count = 2
        return {v for v in instruction.operands[:count] if v not in self.memory | self.loads}

    def _inputs_of(self, value: str) -> Iterable[str]:
        return self.maker[value].operands if value not in self.loads else ()

    def _cut(
        self, needed: Iterable[str], before: int, wanted: Mapping[int, list[str]], split: bool, serial: int
    ) -> set[str]:
        """What a stage that needs values loads of those of phases up to `before`, the rest being computed again.

        That costs `serial` times as much as usual.

        Where key channels are `split` among programs, none can compute what is made of all of them.
        """
        graph: nx.DiGraph = nx.DiGraph()
        graph.add_nodes_from(["source", "sink"])
        pending, seen = [x for v in needed for x in self._frontier(v, before)], set()
        for value in pending:
            graph.add_edge((value, "out"), "sink")
        while pending:
            value = pending.pop()
            if value in seen or value in self.loads or value in self.memory:
                continue
            seen.add(value)
            again = {} if split and self._joins_channels(value) else self._again(value)
            graph.add_edge("source", (value, "in"), **{name: serial * cost for name, cost in again.items()})
            graph.add_edge((value, "in"), (value, "out"), **self._store(value, wanted))
            for operand in self.maker[value].operands:
                if operand not in self.loads and operand not in self.memory:
                    graph.add_edge((operand, "out"), (value, "in"))
                    pending.append(operand)
        graph.remove_nodes_from([n for n in graph if n != "sink" and n != "source" and n[0] not in seen])
        if not seen:
            return set()
        _, (reachable, _) = nx.minimum_cut(graph, "source", "sink")
        return {v for v in seen if (v, "in") in reachable and (v, "out") not in reachable}

    def _frontier(self, value: str, before: int) -> Iterable[str]:
        """The last values of phases up to `before` on every way to a value."""
        pending, seen = [value], set()
        while pending:
            current = pending.pop()
            if current in seen or current in self.loads or current in self.memory:
                continue
            seen.add(current)
            if self.phases[current] <= before:
                yield current
            else:
                pending.extend(self.maker[current].operands)

    def _joins_channels(self, value: str) -> bool:
        """Whether a value is made of all key channels of another."""
        return "K" not in self.types[value] and any("K" in self.types[x] for x in self.maker[value].operands)

    def _again(self, value: str) -> dict[str, float]:
        """The time that computing a value again takes, in picoseconds; no bound for what is never done twice."""
        instruction = self.maker[value]
        if isinstance(instruction.op, (*BETWEEN, ops.Inverse)) or value in self.rows or value in self.again:
            return {}
        if isinstance(instruction.op, ops.Dot):
            rate = PRECISE if value in self.precise else DOTS
            time = flops(instruction, self.types, self.sizes) / rate
        elif isinstance(instruction.op, ops.Spans | ops.SpansAdjoint | ops.Select | ops.SelectAdjoint):
            pairs = max(elements(self.types[x], self.sizes) for x in (value, *instruction.operands))
            time = OPERATIONS * pairs / ELEMENTWISE
        elif isinstance(instruction.op, ops.Chunk | ops.Unchunk | ops.Repeat):
            time = 0.0
        elif isinstance(instruction.op, ops.Map):
            # what varies along fewer axes than the result costs next to nothing
            wide = [x for x in instruction.operands if self._axes(x) == self._axes(value)]
            time = len(wide) * elements(self.types[value], self.sizes) / ELEMENTWISE
        else:
            time = flops(instruction, self.types, self.sizes) / ELEMENTWISE
        return {"capacity": 1 + round(1e12 * time)}

    def _store(self, value: str, wanted: Mapping[int, list[str]]) -> dict[str, float]:
        """The time that writing and reading a value takes, in picoseconds; much where that needs one more kernel.

        No bound for what a scan puts its results in the place of.
        """
        if value in self.replaced:
            return {}
        if value in wanted.get(self.phases[value], ()):
            return {"capacity": 1}
        phase = self.phases[value]
        # beside gradients, values of the forward pass are made again rather than kept
        own = phase in wanted and (
            value in (self.rows if phase == 0 else self.types) if self.rows else self._kept(value)
        )
        extra = 0 if own else KERNEL
        return {"capacity": extra + 1 + round(1e12 * 2 * self._bytes(value) / BANDWIDTH)}

    def _kept(self, value: str) -> bool:
        return not self.gradients or value in self.gradients or self.maker[value].op == ops.Cast(wide=False)

    def _axes(self, value: str) -> int:
        return sum(axis != "1" for axis in self.types[value])

    def _bytes(self, value: str) -> int:
        """Bytes of a value in memory, where tiles of gradients are kept in half precision."""
        types = self.types[value]
        narrow = self.maker[value].op == ops.Cast(wide=False)
        half = (narrow or value in self.gradients) and len(types) == 5 and "1" not in types
        return (2 if half else 4) * elements(types, self.sizes)

    def _sinks(self) -> list[str]:
        large = [value for _, value in self.program.outputs if "T" in self.types[value]]
        outputs = [value for value in large if value not in self.memory | self.loads]
        # the backward pass finds systems solved
        solved = [i.results[0] for i in self.program.instructions if isinstance(i.op, ops.Inverse)]
        return [*outputs, *(i.results[0] for i in self.totals), *(() if self.gradients else solved)]

    def _on_host(self) -> set[str]:
        """The values that depend on totals."""
        host: set[str] = set()
        for instruction in self.program.instructions:
            if (instruction not in self.totals and host & set(instruction.operands)) or instruction in self.totals:
                host |= set(instruction.results)
        return host

    def _phases(self) -> dict[str, int]:
        phases: dict[str, int] = {}
        for instruction in self.program.instructions:
            phase = self._phase_of(instruction, phases)
            after = IN_MEMORY.get(type(instruction.op), ())
            for n, result in enumerate(instruction.results):
                phases[result] = phase + (n in after)
                self._worked[result] = max((self._worked[x] for x in instruction.operands), default=-1)
                if isinstance(instruction.op, HEAVY) and n not in after:
                    self._worked[result] = phases[result]
        return phases

    def _phase_of(self, instruction: Instruction, phases: Mapping[str, int] | None = None) -> int:
        """The phase in which an instruction is done.

        Kernels of few registers: the adjoint of a band waits for all that needs none. In the backward pass of a
        hierarchy what happens inside chunks comes after its tree, and what needs the tree after that, so that the
        states of the forward pass are no longer in memory by then.
        """
        known = self.phases if phases is None else phases
        op = instruction.op
        looking = isinstance(instruction.op, LOOKING)
        ready = max(
            (known[x] + (x in self.again or (looking and self._worked[x] == known[x])) for x in instruction.operands),
            default=0,
        )
        wide = not of_positions(instruction.types[0])
        if self.rows and wide and any(self._after_rows(x) for x in instruction.operands):
            ready = max(ready, 1)
        if self.handed is not None and type(op) not in IN_MEMORY:
            ready += any(
                known[x] == ready and isinstance(self.maker[x].op, ops.TreeAdjoint) for x in instruction.operands
            )
            if self._inside(instruction):
                ready = max(ready, self.handed)
        if self._enters_path(instruction):
            ready = max(ready + 1, self.entered)
        return ready + isinstance(op, ops.BandAdjoint) + self._leaves_pairs(instruction)

    def _leaves_pairs(self, instruction: Instruction) -> bool:
        """Whether an instruction takes a gradient from pairs of positions to their vectors, at the end of a path."""
        if not isinstance(instruction.op, ops.Dot) or instruction.results[0] not in self.precise & self.gradients:
            return False
        pairs = any(x in self.gradients and _pairs(self.types[x]) for x in instruction.operands)
        return pairs and not _pairs(instruction.types[0])

    def _enters_path(self, instruction: Instruction) -> bool:
        """Whether an instruction takes a gradient into the part of a path that is worked out in more precision.

        That part is a kernel of its own: beside the products of states there would be registers for neither.
        """
        gradient = bool(self.gradients & set(instruction.results))
        return gradient and instruction.op == ops.Cast(wide=True) and not of_positions(instruction.types[0])

    def _inside(self, instruction: Instruction) -> bool:
        """Whether an instruction is work on gradients inside chunks that nothing between chunks waits for."""
        heavy = isinstance(instruction.op, ops.Dot | ops.SelectAdjoint | ops.SpansAdjoint) or instruction in self.totals
        results = set(instruction.results)
        return heavy and bool(results & self.gradients) and not results & self.feeding

    def _after_rows(self, value: str) -> bool:
        """Whether a value of positions waits for the first kernel."""
        if value in self.rows:
            return True
        return of_positions(self.types[value]) and any(self._after_rows(x) for x in self.maker[value].operands)

    def _host_program(self) -> Program:
        """The instructions behind the totals, which it loads, and what they need of small inputs."""
        types = self.types
        instructions = []
        for instruction in self.program.instructions:
            if instruction in self.totals:
                (result,) = instruction.results
                load = ops.Load(result, types[result])
                instruction = Instruction((result,), load, (), (types[result],), instruction.origin)
            instructions.append(instruction)
        outputs = tuple((name, value) for name, value in self.program.outputs if _small(self.types[value]))
        return prune(dataclasses.replace(self.program, instructions=tuple(instructions), outputs=outputs))


def _small(axes: Axes) -> bool:
    """Whether a value has nothing to do with positions."""
    return not any(axis[0] in "TNEC" for axis in axes)


def crosses(instruction: Instruction, types: Mapping[str, Axes]) -> bool:
    """Whether an instruction adds up over all positions.

    A sum over batch rows alone, of a value that still has positions, is left for the sum over these: what follows is
    linear in it.
    """
    if not isinstance(instruction.op, ops.Sum):
        return False
    axes = types[instruction.operands[0]]
    if "H" in {axes[dim] for dim in instruction.op.dims}:
        raise Unsupported("A gradient is summed over heads.")
    return _small(instruction.types[0]) and not _small(axes)
