"""A scheduled program as kernels and the host code that launches them."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection, Mapping

from maskdsl.chunk import axes as ax
from maskdsl.chunk import ops
from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels import (
    band,
    left_adjoint,
    matrices,
    pairs,
    programs,
    recalled,
    runs,
    scans,
    states_left,
    tree,
    window_left,
    window_left_adjoint,
    window_recalled,
)
from maskdsl.codegen.kernels.between import between
from maskdsl.codegen.kernels.buffers import Buffer, Buffers
from maskdsl.codegen.kernels.chunks import ChunksKernel, Output
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.lags import shares_of
from maskdsl.codegen.kernels.programs import STRIPS, Order, Units
from maskdsl.codegen.kernels.tiling import Tiling, dims_of
from maskdsl.codegen.torch_body import Body
from maskdsl.schedule.kinds import BETWEEN, linear, owed_together, takes_matrices
from maskdsl.schedule.stages import CHANNELS, Stage, Stages

FIRST = 2
"""Levels of a binary hierarchy that are joined where the states of chunks are made."""

SPAN = 3
"""Levels of a binary hierarchy that one pass over blocks joins or hands down; one level of any other."""


ELEMENTS = 2048
"""Entries of a state that a program holds where it only adds and scales them."""


class Module:
    """Kernels of one direction, and the lines of its host function."""

    def __init__(
        self,
        direction: str,
        plan: Stages,
        tiling: Tiling,
        shapes: Mapping[str, tree.Shape],
        gradients: Collection[str] = (),
        left: Collection[str] = (),
        training: bool = True,
    ) -> None:
        """`left` are the values that an earlier program has left in memory, `gradients` those of outputs by name.

        Where it is not for `training`, nothing is kept for a backward pass.
        """
        self.training = training
        self.left, self.gradients = frozenset(left), frozenset(gradients)
        self.direction, self.plan, self.tiling = direction, plan, tiling
        self.program = plan.program
        self.types = plan.program.types
        self.maker = {r: i for i in plan.program.instructions for r in i.results}
        self.used = {x for i in plan.program.instructions for x in i.operands} | {x for _, x in plan.program.outputs}
        self.buffers = Buffers(plan.program, tiling, gradients, plan.precise)
        self.shapes = shapes
        self.kernels: list[Kernel] = []
        self.host: list[str] = []
        self.opening: list[str] = []
        """The host's first lines, after those that say how much there is of everything."""
        self.tensors: dict[str, str] = {}
        """The tensor that the host returns for an output of the program."""
        rows = min(tiling.extent("K"), max(1, ELEMENTS // tiling.value))
        self.fine = dataclasses.replace(tiling, channels=rows)
        self.split = dataclasses.replace(tiling, channels=min(tiling.extent("K"), CHANNELS))
        self.leaf: list[str] = []
        """The host's lines for what the next scan runs over."""
        self.owed: dict[str, str] = {}
        """The host's lines for memory in which the next kernel to write there leaves what is no value, by its name."""
        self._know_inputs()

    def write(self) -> None:
        """Write all stages, then what the host adds up itself."""
        opening = [*programs.sizes(self.tiling, self.direction), *self.opening]
        self.host += opening
        for stage in self.plan.stages:
            if stage.kind == "chunks":
                before, self.host = self.host, []
                self._chunks(stage)
                if self._only_scanned(stage):
                    self.leaf, self.host = self.leaf + self.host, before
                else:
                    self.host = before + self.host
            else:
                assert stage.instruction is not None
                self._graph(stage, stage.instruction)
        self._totals()
        if any(STRIPS in kernel.programs for kernel in self.kernels):
            self.host.insert(len(opening), programs.strips(self.tiling))

    def _only_scanned(self, stage: Stage) -> bool:
        """Whether a scan runs over all values of a kernel, which are little work, and nothing reads them before it."""
        later = self.plan.stages[self.plan.stages.index(stage) + 1 :]
        scans = [n for n, each in enumerate(later) if self.scans_over(each)]
        scanned = {x for n in scans for i in [later[n].instruction] if i for x in i.operands}
        between = {x for each in later[: min(scans, default=0)] for x in each.available}
        loops = any(isinstance(self.maker[value].op, BETWEEN) for value in self.plan.within(stage))
        return scanned.issuperset(stage.values) and between.isdisjoint(stage.values) and not loops

    def result(self, output: str, value: str) -> str:
        """The host's name of an output of the program; one that is an input as it came is that tensor."""
        return self.tensors.get(output) or self.buffers.name(value)

    # -- memory

    def _know_inputs(self) -> None:
        """Buffers that an earlier program has left behind."""
        for load in self.program.instructions:
            if not isinstance(load.op, ops.Load):
                continue
            (value,) = load.results
            axes = self.types[value]
            if "M" in axes and load.op.name not in self.gradients:
                # what levels hold together that have met
                self.opening.append(f"{self.buffers.name(value)}_sums = {self.buffers.name(value)}.cumsum(2)")
            if any(axis[0] == "E" for axis in axes):
                buffer = self.keep_blocks(value, self.shapes[value])
                if dims_of(axes)[-1:] != ((1, "V"),):
                    self.beside(value, "after", buffer)
                    if not ops.matrices([axes]):
                        self._keep_logs(value, self.shapes[value])
            elif value in self.left:
                self.buffers.keep(value)
        for total in owed_together(self.program):
            names = [self.buffers.name(x) for x in (*total.results, *total.operands)]
            self.opening.append(f"{names[0]} = {' + '.join(names[1:])}")

    def keep_blocks(self, value: str, shape: tree.Shape) -> Buffer:
        """The buffer of a value of blocks: a row for each that is kept."""
        return self.buffers.keep(value, rows=shape.rows(self.tiling.laid))

    def _keep_logs(self, value: str, shape: tree.Shape) -> Buffer:
        return self.buffers.keep(value, rows=shape.log_rows(self.tiling.laid))

    def beside(self, value: str, suffix: str, buffer: Buffer, **changes: object) -> Buffer:
        """A buffer laid out like another, for something about the same value."""
        made = dataclasses.replace(buffer, name=f"{buffer.name}_{suffix}", **changes)  # type: ignore[arg-type]
        self.buffers.kept[f"{value}.{suffix}"] = made
        return made

    # -- kernels

    def new_kernel(self, name: str, about: str, order: Order, units: Units | None = programs.CHUNKS) -> Kernel:
        """A kernel whose programs are decoded into `order`, with `units` for each sequence, or one."""
        taken = {kernel.name for kernel in self.kernels}
        name = base = f"{self.direction}_{name}"
        count = 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        kernel = Kernel(name, about, self.tiling.packed, self.tiling.laid, self.tiling.chunk)
        kernel.programs = programs.number(kernel.packed, order, units, programs.ends(kernel.laid))
        if kernel.packed:
            programs.decode_packed(kernel, order, units)
        else:
            programs.decode(kernel, order)
        self.kernels.append(kernel)
        return kernel

    def evaluator(self, kernel: Kernel, stage: Stage, tiling: Tiling | None = None) -> Evaluator:
        """What writes the values of a kernel of a stage."""
        tiling = tiling or self.tiling
        buffers = self.buffers.tiled(tiling)
        emit = Evaluator(self.program, tiling, buffers, kernel, stage.available)
        emit.between = between
        return emit

    def _chunks(self, stage: Stage) -> None:
        tiling = self._tiling_of(stage)
        heads, key_parts = tiling.heads, tiling.key_parts
        count = f"(H // {heads})" if heads > 1 else "H"
        about = f"{', '.join(stage.values)} of one chunk."
        chunks, covered = self._chunk_order(stage, count)
        order = (("vt", str(tiling.parts)), ("kt", str(key_parts)), *chunks, ("b", "B"))
        kernel = self.new_kernel("chunks", about, order, Units(covered))
        if ("side", "2") in order:
            kernel.opening += ["n = 2 * n + side", "if n >= N:", "    return"]
        kernel.opening.append(f"h0 = h0.to(tl.int64){f' * {heads}' if heads > 1 else ''}")
        emit = self.evaluator(kernel, stage, tiling)
        named = [(name, value) for name, value in self.program.outputs if value in stage.values]
        outputs = [Output(self._tensor(name), value) for name, value in named]
        written = {value for _, value in named}
        stored = [v for v in stage.values if v not in written or self._loaded_later(v, stage)]
        self.tensors |= {name: self._tensor(name) for name, _ in named}
        for instruction in self._adjoints(stage):
            if isinstance(instruction.op, ops.WalkAdjoint):
                self._leave(instruction)
            elif isinstance(instruction.op, ops.BandAdjoint):
                self._leave_shares(instruction, instruction.op)
        writer = ChunksKernel(emit, outputs, stored)
        writer.write()
        for name in [each for each in self.owed if f"{each}_ptr" in kernel.parameters]:
            self.host.append(self.owed.pop(name))
        for output in outputs:
            self._allocate_output(output, writer.parts[output.name])
        totals = {value for each in self.plan.totals for value in each.results}
        for value in stored:
            # no program makes the chunks that no sequence has
            blank = ".zero_()" if self.tiling.packed and value in totals else ""
            self.host.append(self.buffers.allocation(self.buffers.kept[value]) + blank)
        narrow = not outputs and all(len(dims_of(self.types[v])) < 2 for v in stored)
        # of blocks that are matrices few fit into shared memory: two programs at a time beat loads that run ahead
        matrices = any(takes_matrices(self.maker[value], self.types) for value in self.plan.within(stage))
        kernel.warps, kernel.stages = 1 if narrow else self.chunk_warps(tiling), 1 if matrices else 2
        if not (narrow or matrices) and self._is_light(stage):
            kernel.registers = self.registers("C", 168, kernel.warps)
        self.host.append(kernel.launch())
        for output in outputs:
            if writer.parts[output.name]:
                self.host.append(f"{output.name} = {output.name}.sum(0)")
            if tiling.packed:
                self.host.append(programs.blanked(output.name))

    def _is_light(self, stage: Stage) -> bool:
        """Whether a kernel over chunks needs few registers: no gradients, and no columns beside the pairs of a path."""
        made = self.plan.within(stage)
        path = not made.isdisjoint(self.plan.precise)
        return made.isdisjoint(linear(self.program, self.gradients)) and not (path and self.plan.has_columns(stage))

    def _tiling_of(self, stage: Stage) -> Tiling:
        """The tiles of a kernel over chunks."""
        tiling = self.split if stage.split else self.tiling
        return tiling if self.plan.has_columns(stage) else dataclasses.replace(tiling, width=0)

    def _chunk_order(self, stage: Stage, heads: str) -> tuple[tuple[tuple[str, str], ...], str]:
        """The order of chunks and heads among the programs of a stage, and the chunks that are counted."""
        made = {type(self.maker[value].op) for value in self.plan.within(stage)}
        # heads beside each other share keys and lines of memory, chunks that follow each other blocks
        if made & {ops.Walk, ops.WalkAdjoint}:
            return (("n", STRIPS), ("h0", heads)), STRIPS
        if ops.Resume in made:
            # two chunks share a state, and the keys of the first
            return (("side", "2"), ("h0", heads), ("n", "tl.cdiv(N, 2)")), "(N + N % 2)"
        return (("h0", heads), ("n", "N")), "N"

    def hand_out(self, value: str, parts: int = 1) -> str:
        """Make the tensor for the memories of all sequences, [S, H, ...], or for their gradients.

        Where that is a sum of several parts, it has all rows of one after those of the other.
        """
        output, name = next((n for n, v in self.program.outputs if v == value), None), self.buffers.name(value)
        sizes = {"S": "S" if self.tiling.packed else "B", "H": "H", "M": "M"}
        sizes |= {"K": str(self.tiling.key), "V": str(self.tiling.width)}
        sizes |= {axis: str(parts * ax.extent(axis, {})) for axis in self.types[value] if axis[0] == "R"}
        made = f"at.float({', '.join(sizes[a] for a in ('S', 'H', *self.types[value][3:]))})"
        if self.direction == "backward" and output is not None and parts == 1:
            made = f"at.gradient({output.removeprefix('d_')!r})"
        self.host.append(f"{name} = {made}")
        if output is not None:
            self.tensors[output] = name
        return name

    @property
    def tiles(self) -> tuple[tuple[str, str], ...]:
        """The tiles of a state, in kernels that only add and scale."""
        return ("vt", str(self.fine.parts)), ("kt", str(self.fine.key_parts))

    def registers(self, rows: str, limit: int, warps: int) -> int | None:
        """At most `limit` registers a thread, so that more programs run at a time, where sums need few of them."""
        held = self.tiling.extent(rows) * self.tiling.value // (32 * warps)
        return limit if held <= 64 and self.tiling.mode == "bf16" else None

    def chunk_warps(self, tiling: Tiling | None = None) -> int:
        """The warps of a program over chunks."""
        tiling = tiling or self.tiling
        # four warps have 16 rows of a chunk of 64 each; eight would do products of 64 rows twice
        wide = tiling.mode != "bf16" and tiling.extent("K") * tiling.value > 128 * 64
        # with four, Triton 3.6 made kernels for Hopper that read strong levels of a state from wrong addresses
        strong = tiling.laid and any(shape.strong for shape in self.shapes.values())
        return 8 if wide or strong or tiling.extent("C") > 64 else 4

    @property
    def block_warps(self) -> int:
        """The warps of a program that holds a whole block of matrices."""
        return 8 if self.tiling.extent("K") > 64 else 4

    def state_warps(self, instruction: Instruction) -> int:
        """The warps of a program that moves states on: products by matrices need more registers than four have."""
        matrices = ops.matrices([self.types[x] for x in instruction.operands])
        return 8 if matrices and self.tiling.extent("K") > 64 else self.chunk_warps()

    def _tensor(self, name: str) -> str:
        return f"{name}_out" if name in self.types else name

    def _allocate_output(self, output: Output, parts: tuple[str, ...]) -> None:
        axes = self.types[output.value]
        sizes = {"B": "B", "T": "at.T", "H": "H", "L": "at.L", "K": str(self.tiling.key), "V": str(self.tiling.width)}
        shape = ", ".join(sizes[a] if a in sizes else f"H // {a[2:]}" for a in axes)
        if parts:
            made = f"at.{'float' if len(axes) == 3 else 'state'}({self.buffers.count(parts)}, {shape})"
        elif self.direction == "forward":
            made = f"at.output({shape})"
        else:
            source = next(name for name, value in self.program.outputs if self._tensor(name) == output.name)
            made = f"at.gradient({source.removeprefix('d_')!r})"
        self.host.append(f"{output.name} = {made}")

    def _loaded_later(self, value: str, stage: Stage) -> bool:
        later = self.plan.stages[self.plan.stages.index(stage) + 1 :]
        return any(value in each.available for each in later) and value not in self.buffers.kept

    def _adjoints(self, stage: Stage) -> list[Instruction]:
        """What follows the phase of a stage, and may need of it what is no value."""
        graph = [each.instruction for each in self.plan.stages if each.kind == "graph" and each.phase == stage.phase]
        return [i for i in graph if i is not None]

    def _leave(self, instruction: Instruction) -> None:
        """The memory in which the adjoint of a walk leaves shares and reach of every read."""
        if f"{instruction.results[1]}.shares" in self.buffers.kept:
            return
        if self._by_matrices(instruction):
            matrices.leave(self, instruction)
            return
        shape = self.shapes[instruction.operands[2]]
        parts = ("V",) if self.tiling.parts > 1 else ()
        buffer = dataclasses.replace(
            self.buffers.kept[instruction.operands[2]], name=self.buffers.name(instruction.results[1])
        )
        rows, value = f"N * {shape.reads(self.tiling.laid)}", instruction.results[1]
        shares = self.beside(value, "shares", buffer, rows=rows, parts=parts, count=self.tiling.parts)
        reach = self.beside(value, "reach", buffer, rows=rows)
        # reads that a chunk does not do share nothing
        self.owed[shares.name] = self.buffers.allocation(shares).replace("at.float", "at.zeros")
        self.owed[reach.name] = self.buffers.allocation(reach)

    def _leave_shares(self, instruction: Instruction, op: ops.BandAdjoint) -> None:
        """The memory in which the adjoint of a band leaves the share of every pair of chunks, if anything uses it."""
        value = instruction.results[1]
        if f"{value}.shares" in self.buffers.kept or value not in self.used:
            return
        parts = ("V",) if self.tiling.parts > 1 else ()
        changes = {"rows": f"N * {shares_of(op)}", "parts": parts, "count": self.tiling.parts}
        shares = self.beside(value, "shares", self.buffers.keep(value), **changes)
        self.owed[shares.name] = self.buffers.allocation(shares)

    def _graph(self, stage: Stage, instruction: Instruction) -> None:
        writers: Mapping[type, Callable[[Stage, Instruction], None]] = {
            ops.Scan: functools.partial(scans.write, self),
            ops.SolvedScan: functools.partial(scans.write_solved, self),
            ops.Tree: self._tree,
            ops.WalkAdjoint: self._gather,
            ops.TreeAdjoint: self._descend,
            ops.BandAdjoint: self._passed,
            ops.Keep: functools.partial(window_left.write, self),
            ops.KeepAdjoint: functools.partial(window_left_adjoint.write, self),
            ops.DecayDot: self._pairs,
            ops.DecayDots: self._pairs,
            ops.DecayDotAdjoint: self._pairs_adjoint,
        }
        if self._by_matrices(instruction):
            matrices.WRITERS[type(instruction.op)](self, stage, instruction)
        else:
            writers[type(instruction.op)](stage, instruction)

    def _by_matrices(self, instruction: Instruction) -> bool:
        hierarchy = isinstance(instruction.op, ops.Tree | ops.WalkAdjoint | ops.TreeAdjoint)
        return hierarchy and ops.matrices([self.types[x] for x in instruction.operands])

    @staticmethod
    def scans_over(stage: Stage) -> bool:
        """Whether a stage is a scan of what kernels over chunks have left in memory."""
        scan = stage.instruction
        return scan is not None and isinstance(scan.op, ops.Scan)

    def _tree(self, stage: Stage, instruction: Instruction) -> None:
        operators, states, *_ = instruction.results
        shape = self.shapes[states]
        after = self.beside(operators, "after", self.keep_blocks(operators, shape))
        for buffer in (after, self._keep_logs(operators, shape), self.keep_blocks(states, shape)):
            self.host.append(self.buffers.allocation(buffer))
        parts, base = self.tiling.parts, shape.base
        order: tuple[tuple[str, str], ...] = (
            ("vt", str(parts)),
            ("h", "H"),
            ("unit", f"tl.cdiv(N, walks.power(high, {base}))"),
            ("b", "B"),
        )
        units = tree.passing(base)
        kernel = self.new_kernel("states", "Chunks, and the blocks of the lowest levels.", order, units)
        kernel.parameter("high", "high", varying=True)
        tree.compose(self.evaluator(kernel, stage), instruction, shape, after)
        kernel.warps = self.chunk_warps()
        kernel.registers = self.registers("K", 128, kernel.warps)
        count = tree.levels_of(self.tiling.laid, base)
        self.host.append(f"high = min({FIRST if base == 2 else 1}, hierarchy.depth({count}, {base}))")
        self.host.append(kernel.launch())
        fine = self.fine
        order = (*self.tiles, *order[1:])
        lift = self.new_kernel("blocks", "Blocks of higher levels.", order, units)
        lift.parameter("high", "high", varying=True)
        tree.lift(self.evaluator(lift, stage, fine), instruction, shape, after)
        self.host.append(f"for low, high in hierarchy.passes({count}, {base}, {SPAN if base == 2 else 1}, high):")
        self.host.append("    " + lift.launch())
        states_left.write(self, stage, instruction, shape)

    def _gather(self, stage: Stage, instruction: Instruction) -> None:
        _, d_operators, d_states, *_ = instruction.results
        shape = self.shapes[instruction.operands[3]]
        shares, reach = (self.buffers.kept[f"{d_operators}.{x}"] for x in ("shares", "reach"))
        parts, base = self.tiling.parts, shape.base
        if not self.tiling.laid:
            self.host.append(f"depth = hierarchy.depth(N, {base})")
        target = self.keep_blocks(d_states, shape)
        found = runs.runs_of(self, d_states, shape)
        for buffer in (self.keep_blocks(d_operators, shape), target, *([found.buffer] if found else ())):
            self.host.append(self.buffers.allocation(buffer))
        order = (("vt", str(parts)), ("h", "H"), ("b", "B"), ("unit", ""))
        units = runs.units_of(self.tiling, shape, found)
        kernel = self.new_kernel("readers", "The gradient of a block's state, from its readers.", order, units)
        emit = self.evaluator(kernel, stage)
        runs.choose(kernel, shape, found)
        tree.gather(emit, instruction, shape, reach)
        runs.leave(emit, found, shape, target, ((0, "K"), (1, "V")), "block")
        kernel.warps = self.chunk_warps()
        kernel.registers = self.registers("K", 128, kernel.warps)
        self.host.append(kernel.launch())
        runs.add_up(self, stage, found, target, ((0, "K"), (1, "V")), self.fine)
        units = tree.blocks(self.tiling, base)
        kernel = self.new_kernel("reached", "The gradient of a block's log decay, from its readers.", order[1:], units)
        tree.reached(self.evaluator(kernel, stage), instruction, shape, shares)
        kernel.warps = 1
        self.host.append(kernel.launch())
        recalled.write(self, stage, instruction, shape, reach)

    def _descend(self, stage: Stage, instruction: Instruction) -> None:
        operators, states, _, d_states, *_ = instruction.operands
        left = left_adjoint.write(self, stage, instruction, self.shapes[states])
        shape, fine = self.shapes[states], self.fine
        after = self.buffers.kept[f"{operators}.after"]
        # a number owes what all channels owe, a diagonal entry what its own does
        split = {"K": fine.key_parts if dims_of(self.types[operators]) == () else 1, "V": fine.parts}
        parts = tuple(letter for letter, count in split.items() if count > 1)
        owed = dataclasses.replace(after, name=self.buffers.name(d_states))
        shares = self.beside(d_states, "shares", owed, parts=parts, count=math.prod(split.values()))
        self.host.append(self.buffers.allocation(shares))
        base = shape.base
        order = (*self.tiles, ("h", "H"), ("unit", f"tl.cdiv(N, walks.power(high, {base}))"), ("b", "B"))
        units = tree.passing(base)
        kernel = self.new_kernel("handed", "Gradients of blocks handed down to their children.", order, units)
        kernel.parameter("high", "high", varying=True)
        tree.descend(self.evaluator(kernel, stage, fine), instruction, shape, after, shares)
        count = tree.levels_of(self.tiling.laid, base)
        self.host.append(f"for low, high in hierarchy.downwards({count}, {base}, {SPAN if base == 2 else 1}):")
        self.host.append("    " + kernel.launch())
        d_leaves, d_writes, *_ = instruction.results
        self.buffers.kept[d_writes] = dataclasses.replace(self.buffers.kept[d_states], row=shape.leaf(self.tiling.laid))
        self.host.append(self.buffers.allocation(self.buffers.keep(d_leaves)))
        order = (("h", "H"), ("unit", "N"), ("b", "B"))
        kernel = self.new_kernel("leaves", "The gradient of each chunk's log decay.", order)
        tree.leaves(self.evaluator(kernel, stage), instruction, shape, shares, left)
        kernel.warps = 1
        self.host.append(kernel.launch())

    def _passed(self, stage: Stage, instruction: Instruction) -> None:
        value = instruction.results[1]
        if value in self.used:
            self.host.append(self.buffers.allocation(self.buffers.kept[value]))
            order = (("h", "H"), ("n", "N"), ("b", "B"))
            about = "The gradient of each chunk's log decay, of the pairs that it lies between."
            kernel = self.new_kernel("passed", about, order)
            band.passed(self.evaluator(kernel, stage), instruction, self.buffers.kept[f"{value}.shares"])
            kernel.warps = 1
            self.host.append(kernel.launch())
        window_recalled.write(self, stage, instruction)

    def _pairs(self, stage: Stage, instruction: Instruction) -> None:
        order = (("h", "H"), ("n", "N"), ("b", "B"))
        kernel = self.new_kernel("pairs", "Pairs of positions of one chunk, with a decay a channel between.", order)
        pairs.scores(self._emit_pairs(kernel, stage, instruction), instruction)
        # vectors that are loaded ahead would take the memory of another program
        kernel.registers, kernel.stages = self.registers("C", 168, kernel.warps), 1
        self.host.append(kernel.launch())

    def _pairs_adjoint(self, stage: Stage, instruction: Instruction) -> None:
        count = self.split.key_parts
        order = (("kt", str(count)), ("h", "H"), ("n", "N"), ("b", "B"))
        about = "What pairs of positions give to queries, keys and decays."
        kernel = self.new_kernel("pairs", about, order)
        pairs.scores_adjoint(self._emit_pairs(kernel, stage, instruction), instruction)
        self.host.append(kernel.launch())

    def _emit_pairs(self, kernel: Kernel, stage: Stage, instruction: Instruction) -> Evaluator:
        """For an operation on pairs, whose results this allocates."""
        for value in instruction.results:
            self.host.append(self.buffers.allocation(self.buffers.keep(value)))
        stage = dataclasses.replace(stage, available=stage.available.difference(instruction.results))
        return self.evaluator(kernel, stage, self.split)

    # -- what the host does itself

    def _totals(self) -> None:
        """Sums over chunks and batch rows, and what depends on them."""
        host = self.plan.host
        if not host.outputs:
            return
        body = Body(
            host, next(self.buffers.name(i.results[0]) for i in self.program.instructions if isinstance(i.op, ops.Load))
        )
        for instruction in self.plan.totals:
            (value,) = instruction.results
            if value not in host.types:
                continue
            axes = self.types[value]
            buffer = self.buffers.kept[value]
            summed = "(0, 3)" if axes[0] == "B" else "(0, 1, 3)"
            size = {"K": str(self.tiling.key), "V": str(self.tiling.width), "L": "at.L", "B": "B", "H": "H"}
            shape = ", ".join("1" if a == "1" else size.get(a, f"H // {a[2:]}") for a in axes)
            letters = [letter for _, letter in dims_of(axes)]
            cut = f"[..., :{size[letters[0]]}]" if letters and letters[0] != "C" else ""
            self.host.append(f"{body.name(value)} = {buffer.name}.sum({summed}){cut}.reshape({shape})")
        for load, name in body.parameters().items():
            if name not in {i.results[0] for i in self.plan.totals}:
                self.host.append(f"{load} = {self.buffers.name(load)}.float()")
        lines = body.lines()
        sizes = {"T": "at.T", "L": "at.L", "K": str(self.tiling.key), "V": str(self.tiling.width)}
        self.host += [f"{x} = {size}" for x, size in sizes.items() if re.search(rf"\b{x}\b", "\n".join(lines))]
        self.host += lines
        for name, value in host.outputs:
            self.tensors[name] = body.name(value)
