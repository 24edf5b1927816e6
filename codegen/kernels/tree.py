"""The kernels of a hierarchy: blocks composed from chunks, their gradients gathered from readers and handed down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.buffers import Buffer
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.kernel import Kernel
from maskdsl.codegen.kernels.programs import Units
from maskdsl.codegen.kernels.tile import Place
from maskdsl.mask.levels import Admissibility, level


@dataclass(frozen=True)
class Shape:
    """The constants of a hierarchy over chunks; `nearest` is the level of the nearest block beyond a chunk."""

    base: int
    strong: bool
    nearest: int = 0

    @property
    def constants(self) -> str:
        """BASE and STRONG of the functions in `maskdsl.codegen.tiles.walks`."""
        return f"{self.base}, {self.strong}"

    @property
    def rows(self) -> str:
        """The host's expression for the number of rows that blocks take."""
        return "2 * N" if self.strong else "N"

    @property
    def log_rows(self) -> str:
        """The host's expression for the number of rows that the log decays of blocks take."""
        return f"(hierarchy.depth(N, {self.base}) + 1) * N"

    @property
    def leaf(self) -> str:
        """The row of the block that is chunk n."""
        return "(2 * {n})" if self.strong else "{n}"

    @property
    def reads(self) -> str:
        """The host's expression for how many blocks a chunk may read."""
        return f"hierarchy.reads(N, {self.constants})"


def shape_of(base: int, admissibility: Admissibility, chunk: int) -> Shape:
    """The hierarchy of a walk over chunks of `chunk` positions."""
    strong = admissibility == "strong"
    return Shape(base, strong, level(chunk - 1, 0, base, admissibility) + (2 if strong else 1))


def reads_of(kernel: Kernel, buffer: Buffer) -> str:
    """How many rows a chunk has in a buffer of something about its reads."""
    return kernel.parameter(f"{buffer.name}_reads", f"{buffer.name}.shape[3] // N", varying=True)


class Blocks:
    """The states and log decays of blocks in memory, seen from a kernel."""

    def __init__(self, emit: Evaluator, shape: Shape, operators: str, states: str) -> None:
        self.emit, self.kernel, self.shape = emit, emit.kernel, shape
        self.operators, self.states = emit.buffers.kept[operators], emit.buffers.kept[states]
        self.diagonal = emit.types[operators][-2] == "K"

    @property
    def no_log(self) -> str:
        """A log decay of nothing."""
        return self.emit.zeros(((0, "K"),)) if self.diagonal else "tl.zeros((), tl.float32)"

    def beside(self, log: str) -> str:
        """A log decay beside a state [K, V]."""
        return f"{log}[:, None]" if self.diagonal else log

    def at(self, buffer: Buffer, row: str) -> str:
        """The address of a log decay, or of what is laid out like one."""
        lanes = f" + {self.emit.lane('K')}" if self.diagonal else ""
        return self.emit.buffers.address(self.kernel, buffer, row, self.emit.head) + lanes

    def log_at(self, p: str, end: str) -> str:
        """The address of the log decay of a block."""
        return self.at(self.operators, f"walks.log_row({p}, {end}, {self.kernel.size('N')})")

    def state_at(self, buffer: Buffer, row: str) -> str:
        """The addresses of a state."""
        inner = self.emit.inner(((0, "K"), (1, "V")))
        return self.emit.buffers.address(self.kernel, buffer, row, self.emit.head) + inner


def compose(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """Blocks of `low` to `high` levels from their leaves: chunks for low = 0, else blocks that lie in memory.

    Every program does a block of level `high`. A block is joined to its left siblings when the last of them ends.
    """
    kernel = emit.kernel
    operator, states = instruction.operands
    blocks = Blocks(emit, shape, *instruction.results)
    kernel.line(f"wide = walks.power({kernel.parameter('high', 'high', varying=True)}, {shape.base})")
    with kernel.block(f"for n in range(unit * wide, tl.minimum((unit + 1) * wide, {kernel.size('N')})):"):
        place = Place("n")
        state, log = emit.value(states, place).name, emit.value(operator, place).name
        _join(emit, blocks, shape, after, state, log, "0")


def lift(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """The same from blocks of level `low` in memory."""
    kernel = emit.kernel
    blocks = Blocks(emit, shape, *instruction.results)
    kernel.line(f"narrow = walks.power({kernel.parameter('low', 'low', varying=True)}, {shape.base})")
    kernel.line(f"wide = walks.power({kernel.parameter('high', 'high', varying=True)}, {shape.base})")
    kernel.line(f"last = tl.minimum((unit + 1) * wide, {kernel.size('N')})")
    with kernel.block("for end in range(unit * wide + narrow, last + 1, narrow):"):
        kernel.line("n = end - 1")
        kernel.line(f"row = walks.slot(low, end, {shape.constants})")
        kernel.line(f"state = tl.load({blocks.state_at(blocks.states, 'row')}).to(tl.float32)")
        kernel.line(f"log = tl.load({blocks.log_at('low', 'end')})")
        _join(emit, blocks, shape, after, "state", "log", "low")


def _join(emit: Evaluator, blocks: Blocks, shape: Shape, after: Buffer, state: str, log: str, low: str) -> None:
    kernel, line = emit.kernel, emit.kernel.line
    line(f"block = {state}")
    line(f"decay = {log} + {blocks.no_log}")
    line(f"p = {low}")
    line(f"width = walks.power(p, {shape.base})")
    line("end = n + 1")
    line(f"tl.store({blocks.log_at('p', 'end')}, decay)")
    with kernel.block(f"while (end % (width * {shape.base}) == 0) & (width < wide):"):
        if shape.strong:
            _keep(blocks, "p")
        line("tl.debug_barrier()")
        with kernel.block(f"for sibling in range(1, {shape.base}):"):
            line(f"row = walks.slot(p, end - sibling * width, {shape.constants})")
            line(f"tl.store({blocks.at(after, 'row')}, decay)")
            line(f"earlier = tl.load({blocks.state_at(blocks.states, 'row')}).to(tl.float32)")
            line(f"block += tiles.exp({blocks.beside('decay')}) * earlier")
            line(f"decay += tl.load({blocks.log_at('p', 'end - sibling * width')})")
        line(f"width *= {shape.base}")
        line("p += 1")
        line(f"tl.store({blocks.log_at('p', 'end')}, decay)")
    _keep(blocks, "p")


def _keep(blocks: Blocks, p: str) -> None:
    line = blocks.kernel.line
    line(f"row = walks.slot({p}, end, {blocks.shape.constants})")
    line(f"tl.store({blocks.state_at(blocks.states, 'row')}, block)")


def gather(emit: Evaluator, instruction: Instruction, shape: Shape, reach: Buffer) -> None:
    """The gradient of a block's state, from all chunks that read it; the largest blocks come first."""
    kernel, line = emit.kernel, emit.kernel.line
    gradient, queries, operators, states, lam = instruction.operands
    blocks = Blocks(emit, shape, operators, states)
    target = emit.buffers.kept[instruction.results[2]]
    choose_block(kernel, shape)
    line(f"first = walks.first_reader(p, number, {shape.constants})")
    line(f"last = tl.minimum(walks.last_reader(p, number, {shape.constants}), {kernel.size('N')})")
    line(f"rank = walks.entry(p, number, {shape.constants})")
    line(f"block = {emit.zeros(((0, 'K'), (1, 'V')))}")
    reads = reads_of(kernel, reach)
    with kernel.block("for n in range(first, last):"):
        place = Place("n")
        line(f"weight = {emit.column(lam, place, f'(p + {shape.nearest})')}")
        line(f"decay = tiles.exp(tl.load({blocks.at(reach, f'(n * {reads} + rank)')}))")
        d, operand = emit.narrow(gradient, place), emit.tiling.operand
        if blocks.diagonal:
            line(f"pulled = ({emit.value(queries, place).name} * decay[None, :]).to({operand})")
            line(f"weighed = (weight[:, None] * {d}).to({operand})")
        else:
            line(f"pulled = {emit.plain(queries, place)}")
            rows = place.tiles[queries].rows
            line(f"weighed = ((weight * decay{f' * {rows}' if rows else ''})[:, None] * {d}).to({operand})")
        line(f"block += {emit.dot('tl.trans(pulled)', 'weighed')}")
    line(f"row = walks.slot(p, (number + 1) * walks.power(p, {shape.base}), {shape.constants})")
    line(f"tl.store({blocks.state_at(target, 'row')}, block)")


@contextmanager
def readers(kernel: Kernel, shape: Shape) -> Iterator[None]:
    """A loop over the chunks `n` that read a block; `rank` is which of their reads it is."""
    kernel.line(f"first = walks.first_reader(p, number, {shape.constants})")
    kernel.line(f"last = tl.minimum(walks.last_reader(p, number, {shape.constants}), {kernel.size('N')})")
    kernel.line(f"rank = walks.entry(p, number, {shape.constants})")
    with kernel.block("for n in range(first, last):"):
        yield


def passing(base: int) -> Units:
    """The blocks of level `high`, the last of which may not be whole."""
    return Units(f"hierarchy.programs(N, {base}, high)", f"walks.power(high, {base})")


def blocks(packed: bool, base: int) -> Units:
    """All blocks; a packed sequence has room for two a chunk."""
    return Units("2 * N" if packed else f"hierarchy.blocks(N, {base})", per=2)


def choose_block(kernel: Kernel, shape: Shape) -> None:
    """`p` and `number` of the block of a program, from the highest level down; blocks that nobody reads end it."""
    line = kernel.line
    if kernel.packed:
        with kernel.block(f"if unit >= walks.blocks(N, {shape.base}):"):
            line("return")
    line(f"p = {kernel.parameter('depth', 'depth', varying=True)}")
    line("number = unit")
    line(f"count = {kernel.size('N')} // walks.power(p, {shape.base})")
    with kernel.block("while number >= count:"):
        line("number -= count")
        line("p -= 1")
        line(f"count = N // walks.power(p, {shape.base})")
    if not shape.strong:
        # the last sibling is read by nobody, and its row belongs to its parent
        with kernel.block(f"if number % {shape.base} == {shape.base - 1}:"):
            line("return")


def reached(emit: Evaluator, instruction: Instruction, shape: Shape, shares: Buffer) -> None:
    """The gradient of a block's log decay: what its readers read beyond it."""
    kernel, line = emit.kernel, emit.kernel.line
    blocks = Blocks(emit, shape, *instruction.operands[2:4])
    target = emit.buffers.kept[instruction.results[1]]
    choose_block(kernel, shape)
    line(f"first = walks.first_reader(p, number, {shape.constants})")
    line(f"last = tl.minimum(walks.last_reader(p, number, {shape.constants}), {kernel.size('N')})")
    line(f"rank = walks.entry(p, number, {shape.constants})")
    reads = reads_of(kernel, shares)
    line(f"total = {blocks.no_log}")
    base = emit.buffers.address(kernel, shares, f"n * {reads}", emit.head)
    step = emit.buffers.part_step(kernel, shares)
    parts = shares.count
    if blocks.diagonal:
        with (
            kernel.block("for n in range(first, last):"),
            kernel.block(f"for other in range(rank + 1, {reads}):"),
            kernel.block(f"for part in range({parts}):"),
        ):
            line(f"total += tl.load({base} + other * {shares.entries} + part * {step} + {emit.lane('K')})")
    else:
        with (
            kernel.block("for start in range(first, last, 16):"),
            kernel.block(f"for other in range(0, {reads}, 64):"),
        ):
            line("n = start + tl.arange(0, 16)[:, None]")
            line("others = other + tl.arange(0, 64)[None, :]")
            with kernel.block(f"for part in range({parts}):"):
                mask = f"(n < last) & (others > rank) & (others < {reads})"
                line(f"some = tl.load({base} + others + part * {step}, mask={mask}, other=0.0)")
                line("total += tl.sum(tl.sum(some, 1), 0)")
    line(f"row = walks.slot(p, (number + 1) * walks.power(p, {shape.base}), {shape.constants})")
    line(f"tl.store({blocks.at(target, 'row')}, total)")


def descend(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer, shares: Buffer) -> None:
    """The gradients of blocks handed down to their children, in place, from level `high` to level `low`.

    `shares` get what the decays after a left child owe: the gradient times the state that they decay.
    """
    kernel, line = emit.kernel, emit.kernel.line
    operators, states, _, gradient = instruction.operands
    blocks = Blocks(emit, shape, operators, states)
    down = emit.buffers.kept[gradient]
    low, high = (kernel.parameter(x, x, varying=True) for x in ("low", "high"))
    line(f"wide = walks.power({high}, {shape.base})")
    line(f"p = {high}")
    line("width = wide")
    with kernel.block(f"while p > {low}:"):
        line(f"child = width // {shape.base}")
        line(f"last = tl.minimum((unit + 1) * wide, {kernel.size('N')})")
        with kernel.block("for end in range(unit * wide + width, last + 1, width):"):
            line(f"row = walks.slot(p, end, {shape.constants})")
            line(f"block = tl.load({blocks.state_at(down, 'row')}).to(tl.float32)")
            if shape.strong:
                line(f"row = walks.slot(p - 1, end, {shape.constants})")
                line(f"own = tl.load({blocks.state_at(down, 'row')}).to(tl.float32)")
                line(f"tl.store({blocks.state_at(down, 'row')}, own + block)")
            with kernel.block(f"for sibling in range(1, {shape.base}):"):
                line(f"row = walks.slot(p - 1, end - sibling * child, {shape.constants})")
                line(f"decay = tiles.exp(tl.load({blocks.at(after, 'row')}))")
                line(f"handed = {blocks.beside('decay')} * block")
                line(f"own = tl.load({blocks.state_at(down, 'row')}).to(tl.float32)")
                line(f"state = tl.load({blocks.state_at(blocks.states, 'row')}).to(tl.float32)")
                line("share = tl.sum(handed * state, 1)")
                if not blocks.diagonal:
                    line("share = tl.sum(share, 0)")
                part = emit.buffers.part(shares.parts)
                extra = f" + {part} * {emit.buffers.part_step(kernel, shares)}" if part != "0" else ""
                line(f"tl.store({blocks.at(shares, 'row')}{extra}, share)")
                line(f"tl.store({blocks.state_at(down, 'row')}, own + handed)")
        line("tl.debug_barrier()")
        line("width = child")
        line("p -= 1")


def leaves(emit: Evaluator, instruction: Instruction, shape: Shape, shares: Buffer) -> None:
    """The gradient of each chunk's log decay: of every block that it is in, and of what it decays inside one."""
    kernel, line = emit.kernel, emit.kernel.line
    operators, states, gradient, _ = instruction.operands
    blocks = Blocks(emit, shape, operators, states)
    given, target = emit.buffers.kept[gradient], emit.buffers.kept[instruction.results[0]]
    line("n = unit")
    line(f"total = {blocks.no_log}")
    line("p = 0")
    line("width = 1")
    base, parts = shape.base, shares.count
    with kernel.block(f"while width <= {kernel.size('N')}:"):
        line("number = n // width")
        read = "" if shape.strong else f" & (number % {base} < {base - 1})"
        with kernel.block(f"if ((number + 1) * width <= N){read}:"):
            line(f"row = walks.slot(p, (number + 1) * width, {shape.constants})")
            line(f"total += tl.load({blocks.at(given, 'row')})")
        with (
            kernel.block(f"if (number // {base} + 1) * {base} * width <= N:"),
            kernel.block(f"for sibling in range(number // {base} * {base}, number):"),
        ):
            line(f"row = walks.slot(p, (sibling + 1) * width, {shape.constants})")
            step = emit.buffers.part_step(kernel, shares)
            with kernel.block(f"for part in range({parts}):"):
                line(f"total += tl.load({blocks.at(shares, 'row')} + part * {step})")
        line(f"width *= {base}")
        line("p += 1")
    line(f"tl.store({blocks.at(target, 'n')}, total)")
