"""What sequences leave behind at levels of strong admissibility: keys of the last two chunks are seen one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from maskdsl.chunk.program import Instruction
from maskdsl.codegen.kernels.ends import Moves, last_chunks, nearest_first, sizes
from maskdsl.codegen.kernels.evaluate import Evaluator
from maskdsl.codegen.kernels.handed import STATE, address, load, mask
from maskdsl.codegen.kernels.tile import Place
from maskdsl.codegen.kernels.tree import Shape

END_LEVEL = (
    "tl.where(level <= walks.digits(position, 2), tiles.apart_at(position + T, tiles.first_at(position, level)), level)"
)
"""The level at which something is in the end that came before at the `level`; itself where nothing was there."""


def leave(emit: Evaluator, instruction: Instruction, shape: Shape) -> None:
    """The state of a level, nearest first: keys of the last chunks, blocks, and what came before."""
    kernel, line = emit.kernel, emit.kernel.line
    operator, _, pushed, v, *initial = instruction.operands
    moves = Moves(emit, instruction.results[0], instruction.results[1], shape)
    assert moves.blocks is not None
    blocks = moves.blocks
    line(f"carried = {emit.zeros(STATE)}")
    line(f"log = {blocks.no_log}")
    sizes(emit)
    with last_chunks(emit, shape) as place:
        moved = emit.value(operator, place).name
        with kernel.block(f"if level < {shape.nearest}:"):
            line("decay = tiles.exp(log)")
            keys = f"{emit.value(pushed, place).name} * decay{'[None, :]' if blocks.diagonal else ''}"
            line(f"carried += {keys_at_level(emit, shape, keys, emit.operand(v, place), place)}")
        line(f"log += {moved}")
    with nearest_first(emit, shape):
        with kernel.block(f"if p + {shape.nearest} == level:"):
            line("decay = tiles.exp(log)")
            line(f"carried += {blocks.beside('decay')} * tl.load({moves.state}).to(tl.float32)")
        line(f"log += tl.load({blocks.log_at('p', 'end')})")
    line("decay = tiles.exp(log)")
    for each in initial:
        with from_levels(emit) as (earlier, at), kernel.block(f"if {at} == level:"):
            line(f"carried += {blocks.beside('decay')} * {load(emit, emit.buffers.name(each), earlier)}")
    kept = emit.buffers.name(instruction.results[2])
    line(f"tl.store({address(emit, kept, 'level')}, carried{mask(emit)})")


def keys_at_level(emit: Evaluator, shape: Shape, keys: str, values: str, place: Place) -> str:
    """What keys and values of a last chunk have left of the `level`."""
    line = emit.kernel.line
    line(f"seen = {seen_from_end(emit, shape, place)}")
    line(f"own = tl.where((seen == level)[:, None], {keys}, 0.0).to({emit.tiling.operand})")
    return emit.dot("tl.trans(own)", values)


def seen_from_end(emit: Evaluator, shape: Shape, place: Place) -> str:
    """The levels, where these are below the nearest block's, of the positions of a last chunk."""
    position = f"rest + (whole - {place.chunk}) * {emit.tiling.chunk}"
    return f"tiles.level_of({position}, {emit.lane('C')}, {shape.nearest}, {shape.constants})"


@contextmanager
def chunk_before(emit: Evaluator) -> Iterator[Place]:
    """The full chunk before that of the next position, where a sequence has one."""
    with emit.kernel.block("if (whole > 0) & (T > 0):"):
        emit.kernel.line("n = whole - 1")
        yield Place("n")


def own_keys(emit: Evaluator, shape: Shape, pushed: str, v: str) -> None:
    """Write the `state` of the `level` that keys of chunk n have left at its end."""
    place = Place("n")
    keys, values = emit.value(pushed, place).name, emit.operand(v, place)
    emit.kernel.line(f"state = {keys_at_level(emit, shape, keys, values, place)}")


def nearer(emit: Evaluator, shape: Shape) -> str:
    """The end of the levels at which single keys are seen; where a sequence is short, of those that it has."""
    if not shape.strong:
        return str(shape.nearest)
    return f"tl.minimum({shape.nearest}, {emit.kernel.parameter('M', 'M', varying=True)} + 1)"


@contextmanager
def from_levels(emit: Evaluator) -> Iterator[tuple[str, str]]:
    """A loop over the levels that came before under strong admissibility, and where each of them is in the end."""
    line = emit.kernel.line
    with emit.kernel.block("for earlier in range(1, walks.digits(position, 2) + 1):"):
        line("at = tiles.apart_at(position + T, tiles.first_at(position, earlier))")
        yield "earlier", "at"


def owe_levels(emit: Evaluator, _: Shape, initial: str, owe: Callable[[Callable[[], None]], None]) -> None:
    """What the decays before each level that came before owe, as `owe` adds it up."""
    line, name = emit.kernel.line, emit.buffers.name(initial)
    with from_levels(emit) as (earlier, at):
        line(f"level = {at}")
        owe(lambda: line(f"state = {load(emit, name, earlier)}"))
