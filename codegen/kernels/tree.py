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
from maskdsl.codegen.kernels.tiling import Tiling
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

    def rows(self, laid: bool) -> str:
        """The host's expression for the number of rows that blocks take.

        Those of strong blocks that began before a sequence went on come first.
        """
        return ("3 * N" if laid else "2 * N") if self.strong else "N"

    def row(self, kernel: Kernel, p: str, end: str) -> str:
        """A kernel's expression for the row of the block of level `p` that ends at `end`."""
        row = f"walks.slot({p}, {end}, {self.constants})"
        return f"{row} + N" if self.strong and kernel.laid else row

    @property
    def top(self) -> str:
        """A kernel's expression for the highest level of blocks that are read, of a sequence laid out.

        Weak ones of that level reach beyond its first chunk in any case, strong ones are no wider than it.
        """
        return "walks.digits(N, 2) - 1" if self.strong else f"walks.digits(N - 1, {self.base})"

    def log_rows(self, laid: bool) -> str:
        """The host's expression for the number of rows that the log decays of blocks take."""
        return f"(hierarchy.depth({levels_of(laid, self.base)}, {self.base}) + 1) * N"

    def leaf(self, laid: bool) -> str:
        """The row of the block that is chunk n."""
        return ("(2 * {n} + N)" if laid else "(2 * {n})") if self.strong else "{n}"

    def reads(self, laid: bool) -> str:
        """The host's expression for how many blocks a chunk may read, and what came before them, as one more."""
        if laid:
            return f"(hierarchy.reads({levels_of(laid, self.base)}, {self.constants}) + 1)"
        return f"hierarchy.reads(N, {self.constants})"


def levels_of(laid: bool, base: int) -> str:
    """The host's expression for how many chunks have blocks of as many levels.

    Of sequences that go on from anywhere a block may reach beyond the first chunk; larger ones hold no more than it.
    """
    return f"N * {base}" if laid else "N"


def shape_of(base: int, admissibility: Admissibility, chunk: int) -> Shape:
    """The hierarchy of a walk over chunks of `chunk` positions."""
    strong = admissibility == "strong"
    return Shape(base, strong, level(chunk - 1, 0, base, admissibility) + (2 if strong else 1))


def reads_by(kernel: Kernel, chunk: str, shape: Shape) -> str:
    """How many blocks a chunk reads."""
    if kernel.laid:
        return f"walks.reads_since({chunk}, past, {shape.constants})"
    return f"walks.reads({chunk}, {shape.constants})"


def rank_of(kernel: Kernel, shape: Shape, p: str, end: str) -> None:
    """Write the `rank` of a chunk's read of the block of a level that ends there."""
    kernel.line(f"number = {kernel.absolute(end)} // walks.power({p}, {shape.base}) - 1")
    if kernel.laid and not shape.strong:
        # larger blocks than cover all chunks are one
        kernel.line(f"top = {shape.top}")
        kernel.line(f"number = tl.where({p} < top, number, 0)")
        p = f"tl.minimum({p}, top)"
    kernel.line(f"rank = walks.entry({p}, number, {shape.constants})")


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
        if self.kernel.laid:
            # a larger block that ends there holds no more of the sequence
            p = f"tl.minimum({p}, {self.emit.buffers.per_chunk(self.kernel, self.operators)} - 1)"
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
    operator, states, *_ = instruction.operands
    blocks = Blocks(emit, shape, *instruction.results[:2])
    kernel.line(f"wide = walks.power({kernel.parameter('high', 'high', varying=True)}, {shape.base})")
    first, last = "unit * wide", "(unit + 1) * wide"
    if kernel.laid:
        first, last = f"tl.maximum({first} - past % wide, 0)", f"{last} - past % wide"
    with kernel.block(f"for n in range({first}, tl.minimum({last}, {kernel.size('N')})):"):
        place = Place("n")
        state, log = emit.value(states, place).name, emit.value(operator, place).name
        _join(emit, blocks, shape, after, state, log, "0")


def lift(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer) -> None:
    """The same from blocks of level `low` in memory."""
    kernel = emit.kernel
    blocks = Blocks(emit, shape, *instruction.results[:2])
    kernel.line(f"narrow = walks.power({kernel.parameter('low', 'low', varying=True)}, {shape.base})")
    kernel.line(f"wide = walks.power({kernel.parameter('high', 'high', varying=True)}, {shape.base})")
    with _fitting(kernel, shape, "narrow"), _ends(kernel, "narrow"):
        kernel.line("n = end - 1")
        kernel.line(f"row = {shape.row(kernel, 'low', 'end')}")
        kernel.line(f"state = tl.load({blocks.state_at(blocks.states, 'row')}).to(tl.float32)")
        kernel.line(f"log = tl.load({blocks.log_at('low', 'end')})")
        _join(emit, blocks, shape, after, "state", "log", "low")


@contextmanager
def _fitting(kernel: Kernel, shape: Shape, width: str) -> Iterator[None]:
    """What is done with blocks of a width where a sequence has any: strong ones no wider than it is."""
    if not (shape.strong and kernel.laid):
        yield
        return
    with kernel.block(f"if {width} <= N:"):
        yield


@contextmanager
def _ends(kernel: Kernel, width: str) -> Iterator[None]:
    """A loop over the ends of the blocks of a width in the block of width `wide` that a program does."""
    if kernel.laid:
        # those that reach into the sequence
        kernel.line("first = unit * wide - past % wide")
        kernel.line("last = tl.minimum(first + wide, N)")
        kernel.line(f"first += tl.maximum(-first, 0) // {width} * {width}")
        first = "first"
    else:
        kernel.line(f"last = tl.minimum((unit + 1) * wide, {kernel.size('N')})")
        first = "unit * wide"
    with kernel.block(f"for end in range({first} + {width}, last + 1, {width}):"):
        yield


def _join(emit: Evaluator, blocks: Blocks, shape: Shape, after: Buffer, state: str, log: str, low: str) -> None:
    kernel, line = emit.kernel, emit.kernel.line
    line(f"block = {state}")
    line(f"decay = {log} + {blocks.no_log}")
    line(f"p = {low}")
    line(f"width = walks.power(p, {shape.base})")
    line("end = n + 1")
    line(f"tl.store({blocks.log_at('p', 'end')}, decay)")
    fits = " & (2 * width <= N)" if shape.strong and kernel.laid else ""
    with kernel.block(f"while ({kernel.absolute('end')} % (width * {shape.base}) == 0) & (width < wide){fits}:"):
        if shape.strong:
            _keep(blocks, "p")
        line("tl.debug_barrier()")
        with siblings(kernel, f"range(1, {shape.base})"):
            line(f"row = {shape.row(kernel, 'p', 'end - sibling * width')}")
            line(f"tl.store({blocks.at(after, 'row')}, decay)")
            line(f"earlier = tl.load({blocks.state_at(blocks.states, 'row')}).to(tl.float32)")
            line(f"block += tiles.exp({blocks.beside('decay')}) * earlier")
            line(f"decay += tl.load({blocks.log_at('p', 'end - sibling * width')})")
        line(f"width *= {shape.base}")
        line("p += 1")
        line(f"tl.store({blocks.log_at('p', 'end')}, decay)")
    _keep(blocks, "p")


@contextmanager
def siblings(kernel: Kernel, counted: str, width: str = "width") -> Iterator[None]:
    """A loop over the children of a block before its last one, but for those that come before the sequence does."""
    with kernel.block(f"for sibling in {counted}:"):
        if not kernel.laid:
            yield
            return
        with kernel.block(f"if end > sibling * {width}:"):
            yield


def _keep(blocks: Blocks, p: str) -> None:
    line = blocks.kernel.line
    line(f"row = {blocks.shape.row(blocks.kernel, p, 'end')}")
    line(f"tl.store({blocks.state_at(blocks.states, 'row')}, block)")


def gather(emit: Evaluator, instruction: Instruction, shape: Shape, reach: Buffer) -> None:
    """Add up in `block` the gradient of a block's state, of those chunks that read it from `first` to before `last`."""
    kernel, line = emit.kernel, emit.kernel.line
    gradient, queries, operators, states, lam, *_ = instruction.operands
    blocks = Blocks(emit, shape, operators, states)
    line(f"block = {emit.zeros(((0, 'K'), (1, 'V')))}")
    reads = reads_of(kernel, reach)
    with kernel.block("for n in range(first, last):"):
        place = Place("n")
        line(f"weight = {emit.column(lam, place, level_read(kernel, shape))}")
        line(f"decay = tiles.exp(tl.load({blocks.at(reach, f'(n * {reads} + rank)')}))")
        gather_read(emit, blocks, queries, gradient, place)


def gather_read(emit: Evaluator, blocks: Blocks, queries: str, gradient: str, place: Place) -> None:
    """Add to `block` what one chunk has read of it, by `weight` and from behind a `decay`."""
    line, d, operand = emit.kernel.line, emit.narrow(gradient, place), emit.tiling.operand
    if blocks.diagonal:
        line(f"pulled = ({emit.value(queries, place).name} * decay[None, :]).to({operand})")
        line(f"weighed = (weight[:, None] * {d}).to({operand})")
    else:
        line(f"pulled = {emit.plain(queries, place)}")
        rows = place.tiles[queries].rows
        line(f"weighed = ((weight * decay{f' * {rows}' if rows else ''})[:, None] * {d}).to({operand})")
    line(f"block += {emit.dot('tl.trans(pulled)', 'weighed')}")


def level_read(kernel: Kernel, shape: Shape) -> str:
    """The level at which the block of a program is read: what covers all chunks may be larger than its `p` tells."""
    if kernel.laid and not shape.strong:
        ends = f"(number + 1) * walks.power(p, {shape.base})"
        return f"(tl.where(p < top, p, walks.read_level(N, {ends}, p, {shape.constants})) + {shape.nearest})"
    return f"(p + {shape.nearest})"


def own_row(kernel: Kernel, shape: Shape) -> str:
    """The row of the block `number` of level `p`."""
    back = " - past" if kernel.laid else ""
    return shape.row(kernel, "p", f"(number + 1) * walks.power(p, {shape.base}){back}")


def write_readers(kernel: Kernel, shape: Shape) -> None:
    """Write the `first` of the chunks that read a block, the one after the `last`, and the `rank` of their reads."""
    line, n, consts = kernel.line, kernel.size("N"), shape.constants
    if not kernel.laid:
        line(f"first = walks.first_reader(p, number, {consts})")
        line(f"last = tl.minimum(walks.last_reader(p, number, {consts}), {n})")
        line(f"rank = walks.entry(p, number, {consts})")
        return
    line(f"first = walks.first_reader(p, number, {consts}) - past")
    if shape.strong:
        line(f"last = tl.minimum(walks.last_reader(p, number, {consts}) - past, N)")
        line(f"rank = walks.entry(p, number, {consts})")
        return
    line(f"last = tl.where(p < top, walks.last_reader(p, number, {consts}) - past, N)")
    line("last = tl.minimum(last, N)")
    line(f"rank = walks.entry(p, tl.where(p < top, number, 0), {consts})")


def passing(base: int) -> Units:
    """The blocks of level `high`, of which some may not be whole."""
    return Units(f"hierarchy.programs(N, {base}, high)", f"walks.power(high, {base})")


def blocks(tiling: Tiling, base: int) -> Units:
    """All blocks; a packed sequence has room for two a chunk, or where it goes on from anywhere, for three."""
    per = 3 if tiling.laid else 2
    return Units(f"{per} * N" if tiling.packed else f"hierarchy.blocks(N, {base})", per=per)


def choose_block(kernel: Kernel, shape: Shape) -> None:
    """`p` and `number` of the block of a program, from the highest level down; blocks that nobody reads end it."""
    line = kernel.line
    if kernel.laid:
        _choose_laid(kernel, shape)
        return
    if kernel.packed:
        with kernel.block(f"if unit >= walks.blocks(N, {shape.base}):"):
            line("return")
    line(f"p = {kernel.parameter('depth', 'depth', varying=True)}")
    line("number = unit")
    descend_to_block(kernel, shape)
    if not shape.strong:
        # the last sibling is read by nobody, and its row belongs to its parent
        with kernel.block(f"if number % {shape.base} == {shape.base - 1}:"):
            line("return")


def descend_to_block(kernel: Kernel, shape: Shape) -> None:
    """Go down from level `p`, whose blocks come first, to that of the block `number` of all."""
    line, count = kernel.line, f"{kernel.size('N')} // walks.power(p, {shape.base})"
    line(f"count = {count}")
    with kernel.block("while number >= count:"):
        line("number -= count")
        line("p -= 1")
        line(f"count = {count}")


def _choose_laid(kernel: Kernel, shape: Shape) -> None:
    """The same for blocks aligned by the sequence, up to those of level `top`."""
    line, count = kernel.line, f"(past + N) // walks.power(p, {shape.base}) - past // walks.power(p, {shape.base})"
    line(f"top = {shape.top}")
    line("p = top")
    line("number = unit")
    line(f"count = {count}")
    with kernel.block("while (number >= count) & (p > 0):"):
        line("number -= count")
        line("p -= 1")
        line(f"count = {count}")
    with kernel.block("if number >= count:"):
        line("return")
    line(f"number += past // walks.power(p, {shape.base})")
    if shape.strong:
        return
    with kernel.block(f"if (p < top) & (number % {shape.base} == {shape.base - 1}):"):
        line("return")


def reached(emit: Evaluator, instruction: Instruction, shape: Shape, shares: Buffer) -> None:
    """The gradient of a block's log decay: what its readers read beyond it."""
    kernel, line = emit.kernel, emit.kernel.line
    blocks = Blocks(emit, shape, *instruction.operands[2:4])
    target = emit.buffers.kept[instruction.results[1]]
    choose_block(kernel, shape)
    write_readers(kernel, shape)
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
    line(f"row = {own_row(kernel, shape)}")
    line(f"tl.store({blocks.at(target, 'row')}, total)")


def descend(emit: Evaluator, instruction: Instruction, shape: Shape, after: Buffer, shares: Buffer) -> None:
    """The gradients of blocks handed down to their children, in place, from level `high` to level `low`.

    `shares` get what the decays after a left child owe: the gradient times the state that they decay.
    """
    kernel, line = emit.kernel, emit.kernel.line
    operators, states, _, gradient, *_ = instruction.operands
    blocks = Blocks(emit, shape, operators, states)
    down = emit.buffers.kept[gradient]
    low, high = (kernel.parameter(x, x, varying=True) for x in ("low", "high"))
    line(f"wide = walks.power({high}, {shape.base})")
    line(f"p = {high}")
    line("width = wide")
    with kernel.block(f"while p > {low}:"):
        line(f"child = width // {shape.base}")
        with _fitting(kernel, shape, "width"), _ends(kernel, "width"):
            line(f"row = {shape.row(kernel, 'p', 'end')}")
            line(f"block = tl.load({blocks.state_at(down, 'row')}).to(tl.float32)")
            if shape.strong:
                line(f"row = {shape.row(kernel, 'p - 1', 'end')}")
                line(f"own = tl.load({blocks.state_at(down, 'row')}).to(tl.float32)")
                line(f"tl.store({blocks.state_at(down, 'row')}, own + block)")
            with siblings(kernel, f"range(1, {shape.base})", "child"):
                line(f"row = {shape.row(kernel, 'p - 1', 'end - sibling * child')}")
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


def leaves(emit: Evaluator, instruction: Instruction, shape: Shape, shares: Buffer, left: Buffer | None) -> None:
    """The gradient of each chunk's log decay: of every block that it is in, and of what it decays inside one.

    `left` has that of a last chunk that is not full, which final states are decayed by.
    """
    kernel, line = emit.kernel, emit.kernel.line
    operators, states, gradient, *_ = instruction.operands
    blocks = Blocks(emit, shape, operators, states)
    given, target = emit.buffers.kept[gradient], emit.buffers.kept[instruction.results[0]]
    line("n = unit")
    line(f"total = {blocks.no_log}")
    line("p = 0")
    line("width = 1")
    base, parts, back = shape.base, shares.count, " - past" if kernel.laid else ""
    read = "" if shape.strong else f" & (number % {base} < {base - 1})"
    if kernel.laid:
        line(f"top = {shape.top}")
    if kernel.laid and not shape.strong:
        read = f" & ((p == top) | (number % {base} < {base - 1}))"
    with kernel.block("while p <= top:" if kernel.laid else f"while width <= {kernel.size('N')}:"):
        line(f"number = {kernel.absolute('n')} // width")
        with kernel.block(f"if ((number + 1) * width{back} <= N){read}:"):
            line(f"row = {shape.row(kernel, 'p', f'(number + 1) * width{back}')}")
            line(f"total += tl.load({blocks.at(given, 'row')})")
        # what comes before the sequence is there for no chunk
        first = f"tl.maximum(number // {base} * {base}, past // width)" if kernel.laid else f"number // {base} * {base}"
        joined = " & (p < top)" if kernel.laid and shape.strong else ""
        with (
            kernel.block(f"if ((number // {base} + 1) * {base} * width{back} <= N){joined}:"),
            kernel.block(f"for sibling in range({first}, number):"),
        ):
            line(f"row = {shape.row(kernel, 'p', f'(sibling + 1) * width{back}')}")
            step = emit.buffers.part_step(kernel, shares)
            with kernel.block(f"for part in range({parts}):"):
                line(f"total += tl.load({blocks.at(shares, 'row')} + part * {step})")
        line(f"width *= {base}")
        line("p += 1")
    if left is not None:
        with kernel.block(f"if (n == (shift + T) // {emit.tiling.chunk}):"):
            line(f"total += tl.load({blocks.at(left, 'n')})")
    line(f"tl.store({blocks.at(target, 'n')}, total)")
